//! Periodic checks beside engine events: jobs taken over, silent engines, other processes on GPUs.

use super::Progress;
use super::error::RunError;
use super::job::Leaving;
use super::run::{GOODBYE, Running};
use crate::engine_process::EngineExit;
use crate::job::Bytes;
use crate::queue::Queue;
use crate::scheduler::Event;

/// How long a killed process may take to exit.
const UNDEAD: std::time::Duration = std::time::Duration::from_secs(30);
/// Loading a model may be silent this many times longer than a pass.
const LOADING: u32 = 6;

impl<Q: Queue> Running<'_, '_, '_, Q> {
    /// How long engines may take to write a checkpoint: a running pass is finished first.
    pub(super) fn goodbye(&self) -> std::time::Duration {
        let longest = self.engines.values().map(|engine| engine.longest_silence).max().unwrap_or_default();
        GOODBYE.max(longest * 2)
    }

    /// Gives up engines that were killed but do not exit, as in a system call that never returns: their jobs are requeued, and the slot
    /// is lost.
    pub(super) async fn give_up_undead(&mut self) -> Result<(), RunError> {
        let undead =
            |engine: &super::slot::SlotEngine| engine.killed.is_some_and(|killed| killed.elapsed() > UNDEAD);
        let slots: Vec<_> =
            self.engines.iter().filter(|(_, engine)| undead(engine)).map(|(slot, _)| *slot).collect();
        for slot in slots {
            let last_words = Some("it was killed and does not exit".to_owned());
            self.on_exit(slot, EngineExit { last_words, ..EngineExit::default() }).await?;
        }
        Ok(())
    }

    /// Ends attempts whose job was taken over.
    pub(super) async fn let_go_of_lost(&mut self) -> Result<(), RunError> {
        for (slot, pack) in &mut self.working {
            let mut lost = false;
            for member in pack.members.iter_mut().filter(|member| member.leaving.is_none()) {
                let Some(taken) = self.runner.queue.fate(&member.attempt).await? else { continue };
                member.leave(Leaving::LetGo(taken));
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

    /// Updates the scheduler with the free memory of the GPUs.
    pub(super) async fn look_at_cards(&mut self) -> Result<(), RunError> {
        if self.runner.slots.iter().all(|slot| slot.cards.is_empty()) {
            return Ok(());
        }
        let cards = match self.runner.inventory.cards() {
            Ok(cards) => cards,
            // A driver that does not respond now ends nothing: the last known state of the GPUs still counts.
            Err(error) => {
                if !std::mem::replace(&mut self.driver_is_lost, true) {
                    tracing::warn!("{error}");
                }
                return Ok(());
            }
        };
        self.driver_is_lost = false;
        for slot in &self.runner.slots {
            let pids: Vec<u32> =
                self.engines.get(&slot.id).map(|engine| engine.handle.pid()).into_iter().collect();
            // A GPU that the driver has lost has no free memory; engines that crash on it lead to its quarantine. Of several that train
            // together, the fullest decides.
            let room = slot.cards.iter().map(|id| {
                let card = cards.iter().find(|card| card.id == *id);
                card.map_or(Bytes(0), |card| card.room_for(&pids))
            });
            let Some(free) = room.min() else { continue };
            let effects = self.scheduler.on(Event::Room { slot: slot.id, free });
            self.carry_out(effects).await?;
        }
        let jobs = self.scheduler.waiting_for_memory();
        if jobs != std::mem::replace(&mut self.waiting, jobs) && jobs > 0 {
            (self.watch)(Progress::WaitingForMemory { jobs });
        }
        Ok(())
    }

    /// Kills engines that were silent for too long.
    pub(super) fn kill_silent(&mut self) {
        for (slot, engine) in &mut self.engines {
            let Some(pack) = self.working.get(slot) else {
                // An engine that never starts would block its slot forever.
                if !engine.greeted && engine.last_sign.elapsed() > self.runner.limits.hang * LOADING {
                    engine.kill_silent();
                }
                continue;
            };
            let plain = self.runner.limits.hang * if pack.is_loading() { LOADING } else { 1 };
            // Before the first pass, only the plan's estimate bounds its duration.
            let limit = plain.max(engine.longest_silence * 20).max(pack.pass_time().saturating_mul(10));
            // A step may be many passes: an engine that still reports them is about to write its checkpoint.
            let goodbye = GOODBYE.max(engine.longest_silence * 2);
            let is_silent = engine.last_sign.elapsed() > goodbye;
            if pack.is_overdue(goodbye) && is_silent || pack.is_overdue(plain.max(goodbye)) {
                engine.kill();
            } else if engine.last_sign.elapsed() > limit {
                engine.kill_silent();
            }
        }
    }
}
