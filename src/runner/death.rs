//! Engines that die: whose fault it was, and what becomes of their jobs.

use std::collections::HashMap;
use std::time::Duration;

use super::error::RunError;
use super::job::{Leaving, RunningJob};
use super::run::Running;
use crate::job::JobId;
use crate::scheduler::{Event, JobAfter, SlotId};
use crate::store::AttemptEnd;
use crate::worker::Death;

/// Attempts one after another at a job whose engine dies before it gets anything done; then the job itself fails.
const MAX_DEATHS: u32 = 3;
/// The same where somebody kills the engine: the system for want of memory, or a person who may have other reasons.
const MAX_KILLS: u32 = 10;
/// An engine that dies sooner than this without having done anything died at once.
const AT_ONCE: Duration = Duration::from_secs(10);
/// The smallest budget that is tried after want of memory.
const LEAST_BUDGET: usize = 16;

/// Deaths of a job's engines one after another without progress, and how far it ever came.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    by_itself: u32,
    killed: u32,
    furthest: u64,
}

impl Deaths {
    /// Counts one. `true`: these were enough.
    fn count(&mut self, was_killed: bool, reach: u64) -> bool {
        if reach > self.furthest {
            *self = Self { furthest: reach, ..Self::default() };
        }
        *(if was_killed { &mut self.killed } else { &mut self.by_itself }) += 1;
        self.by_itself >= MAX_DEATHS || self.killed >= MAX_KILLS
    }
}

/// What follows from want of memory: the job goes back and has half as much computed at once, or fails where that is little.
pub(super) fn halve(budgets: &mut HashMap<JobId, usize>, job: &RunningJob<'_>, reason: String) -> AttemptEnd {
    let half = job.token_budget / 2;
    if half < LEAST_BUDGET {
        return AttemptEnd::Failed(reason);
    }
    budgets.insert(job.attempt.job.clone(), half);
    AttemptEnd::Requeued(format!("{reason}; next with passes of {half} tokens"))
}

impl Running<'_, '_> {
    /// Takes in that a slot's engine is gone. Errors: the database's.
    pub(super) async fn on_death(&mut self, slot: SlotId, death: Death) -> Result<(), RunError> {
        let engine = self.engines.remove(&slot);
        let silent = engine.as_ref().and_then(|engine| engine.silent);
        let at_once = engine.is_none_or(|engine| engine.given.elapsed() < AT_ONCE);
        let reason = match silent {
            Some(time) => format!("the engine was killed: it was silent for {} s", time.as_secs()),
            None => death.to_string(),
        };
        let Some(job) = self.working.get_mut(&slot) else {
            self.last_death = reason;
            let lost = Event::SlotLost { slot, job: JobAfter::Gone, quick: true };
            let effects = self.scheduler.on(lost);
            return self.carry_out(effects).await;
        };
        let (job_id, reach) = (job.attempt.job.clone(), job.reach);
        let leaving = job.leaving.take();
        if leaving != Some(Leaving::LetGo("lost")) {
            job.flush(self.runner.store).await?;
        }
        let mut quick = false;
        let end = match leaving {
            Some(Leaving::LetGo(outcome)) => {
                self.let_go(slot, outcome).await?;
                let effects = self.scheduler.on(Event::SlotLost { slot, job: JobAfter::Gone, quick });
                return self.carry_out(effects).await;
            }
            Some(Leaving::End(end)) => end,
            None if death.wants_memory() && job.is_loading() => {
                AttemptEnd::Failed(format!("the model needs more memory than there is: {death}"))
            }
            None if death.wants_memory() => halve(&mut self.budgets, job, death.to_string()),
            None => {
                self.last_death.clone_from(&reason);
                // Whoever sends SIGKILL is not the device.
                let was_killed = death.signal == Some(9) && silent.is_none();
                quick = at_once && death.signal != Some(9);
                let enough = self.deaths.entry(job_id).or_default().count(was_killed, reach);
                if enough { AttemptEnd::Failed(reason) } else { AttemptEnd::Requeued(reason) }
            }
        };
        let after = if matches!(end, AttemptEnd::Requeued(_)) { JobAfter::Requeue } else { JobAfter::Gone };
        self.end_job(slot, end).await?;
        if self.is_over(0).is_some() {
            self.scheduler.on(Event::Stop);
        }
        let effects = self.scheduler.on(Event::SlotLost { slot, job: after, quick });
        self.carry_out(effects).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_without_progress_are_enough_and_somebody_elses_kills_count_for_less() {
        let mut deaths = Deaths::default();
        assert!(!deaths.count(false, 5) && !deaths.count(false, 5));
        // It got further meanwhile.
        assert!(!deaths.count(false, 6) && !deaths.count(false, 6) && deaths.count(false, 6));
        let mut deaths = Deaths::default();
        assert!((1..MAX_KILLS).all(|_| !deaths.count(true, 0)) && deaths.count(true, 0));
    }
}
