//! What a run looks at besides the news of its engines: jobs that were taken away, engines that are silent, strangers on cards.

use super::Progress;
use super::error::RunError;
use super::job::Leaving;
use super::run::{GOODBYE, Running};
use crate::job::JobState;
use crate::scheduler::Event;

/// Loading a model may be silent this many times as long as a pass.
const LOADING: u32 = 6;

impl Running<'_, '_> {
    /// Ends attempts whose job was taken from this process.
    pub(super) async fn let_go_of_lost(&mut self) -> Result<(), RunError> {
        for (slot, pack) in &mut self.working {
            let mut lost = false;
            for member in pack.members.iter_mut().filter(|member| member.leaving.is_none()) {
                let Some(state) = self.runner.store.fate(&member.attempt).await? else { continue };
                let outcome = match state {
                    JobState::Paused => "paused",
                    JobState::Cancelled => "cancelled",
                    _ => "lost",
                };
                member.leave(Leaving::LetGo(outcome));
                lost = true;
            }
            if lost {
                pack.break_off();
                if let Some(engine) = self.engines.get(slot) {
                    engine.handle.terminate();
                }
            }
        }
        Ok(())
    }

    /// Tells the scheduler what room strangers leave on the cards.
    pub(super) async fn look_at_cards(&mut self) -> Result<(), RunError> {
        if self.runner.slots.iter().all(|slot| slot.card.is_none()) {
            return Ok(());
        }
        let cards = self.runner.inventory.cards()?;
        for slot in &self.runner.slots {
            let Some(card) = cards.iter().find(|card| Some(&card.id) == slot.card.as_ref()) else { continue };
            let own: Vec<u32> =
                self.engines.get(&slot.id).map(|engine| engine.handle.pid()).into_iter().collect();
            let effects = self.scheduler.on(Event::Room { slot: slot.id, free: card.room_for(&own) });
            self.carry_out(effects).await?;
        }
        let jobs = self.scheduler.waiting_for_memory();
        if jobs != std::mem::replace(&mut self.waiting, jobs) && jobs > 0 {
            (self.watch)(Progress::WaitingForMemory { jobs });
        }
        Ok(())
    }

    /// Kills engines that have been silent for too long.
    pub(super) fn kill_silent(&mut self) {
        for (slot, engine) in &mut self.engines {
            let Some(pack) = self.working.get(slot) else {
                // One that does not come up holds its slot for ever.
                if !engine.greeted && engine.last_sign.elapsed() > self.runner.limits.hang * LOADING {
                    engine.kill_silent();
                }
                continue;
            };
            let plain = self.runner.limits.hang * if pack.is_loading() { LOADING } else { 1 };
            let limit = plain.max(engine.longest_silence * 20);
            if pack.is_overdue(GOODBYE) {
                engine.handle.kill();
            } else if engine.last_sign.elapsed() > limit {
                engine.kill_silent();
            }
        }
    }
}
