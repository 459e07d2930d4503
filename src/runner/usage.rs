//! What the slots use, noted for whoever watches.

use std::collections::BTreeMap;

use super::error::RunError;
use super::run::Running;
use crate::device::{ProcessMeter, SlotUse, available_memory};
use crate::job::{Bytes, SlotId};
use crate::queue::Queue;

/// The meters of the slots' engines.
#[derive(Debug, Default)]
pub(super) struct Meters(BTreeMap<SlotId, ProcessMeter>);

impl<Q: Queue> Running<'_, '_, '_, Q> {
    /// Notes what each slot with an engine uses.
    pub(super) async fn note_use(&mut self) -> Result<(), RunError> {
        let mut uses = Vec::new();
        for (slot, engine) in &self.engines {
            let here = &self.runner.slots[slot.0];
            let device = here.device.to_string();
            let by_card = self.runner.inventory.use_of(&here.cards, &device);
            let meter = self.meters.0.entry(*slot).or_default();
            let by_process = || {
                // The process of a launched engine is elsewhere.
                let threads = here.threads?;
                let (cores, memory) = meter.look(engine.handle.pid())?;
                let used = cores.map(|cores| (cores / threads.max(1) as f64).min(1.0));
                let total_memory = Bytes(memory.0.saturating_add(available_memory().0));
                Some(SlotUse { device, used, memory, total_memory, temperature: None, power: None })
            };
            uses.extend(by_card.or_else(by_process));
        }
        Ok(self.runner.queue.note_use(&self.owner, &uses).await?)
    }
}
