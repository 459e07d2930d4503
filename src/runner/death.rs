//! Engines that die: whose fault it was, and what becomes of their jobs.

use std::collections::HashMap;
use std::time::Duration;

use super::error::RunError;
use super::job::Leaving;
use super::pack::RunningPack;
use super::run::Running;
use crate::job::JobId;
use crate::scheduler::{Event, SlotId};
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

/// What follows from want of memory: the jobs go back and have half as much computed at once. Where that is little, a pack's
/// jobs go on alone, and one that is alone fails.
pub(super) fn halve(budgets: &mut HashMap<JobId, usize>, pack: &mut RunningPack<'_>, reason: &str) {
    let half = pack.token_budget / 2;
    let end = if half >= LEAST_BUDGET {
        budgets.extend(pack.jobs().into_iter().map(|job| (job, half)));
        AttemptEnd::Requeued(format!("{reason}; next with passes of {half} tokens"))
    } else if pack.is_single() {
        AttemptEnd::Failed(reason.to_owned())
    } else {
        // Alone they need less.
        for job in pack.jobs() {
            budgets.remove(&job);
        }
        AttemptEnd::Requeued(format!("{reason}; next alone"))
    };
    pack.leave(&Leaving::End(end));
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
        let Some(pack) = self.working.get_mut(&slot) else {
            self.last_death = reason;
            let effects = self.scheduler.on(Event::SlotLost { slot, back: Vec::new(), quick: true });
            return self.carry_out(effects).await;
        };
        let (was_leaving, single) = (pack.is_leaving(), pack.is_single());
        let mut quick = false;
        // Neighbours of one that was paused or taken away go back together.
        let mut end = AttemptEnd::Requeued("a job of the same pack was taken away".to_owned());
        let mut apart = false;
        if !was_leaving && death.wants_memory() && pack.is_loading() {
            end = AttemptEnd::Failed(format!("the model needs more memory than there is: {death}"));
        } else if !was_leaving && death.wants_memory() {
            halve(&mut self.budgets, pack, &death.to_string());
            apart = pack.token_budget / 2 < LEAST_BUDGET;
        } else if !was_leaving {
            self.last_death.clone_from(&reason);
            // Whoever sends SIGKILL is not the device.
            let was_killed = death.signal == Some(9) && silent.is_none();
            quick = at_once && death.signal != Some(9);
            end = AttemptEnd::Requeued(reason.clone());
            // An engine that dies by itself dies of one of them: each goes on alone, and then it is known of which. So does a
            // pack that is killed without having got anywhere, as for want of memory.
            apart = !was_killed || pack.members.iter().all(|member| member.reach == member.began_at);
            for member in pack.members.iter_mut().filter(|_| single) {
                let deaths = self.deaths.entry(member.id().clone()).or_default();
                if deaths.count(was_killed, member.reach) {
                    member.leave(Leaving::End(AttemptEnd::Failed(reason.clone())));
                }
            }
        } else {
            // Want of memory that cannot be halved any more.
            apart = pack.token_budget / 2 < LEAST_BUDGET;
        }
        let goes_back = |leaving: &Option<Leaving>| match leaving {
            Some(Leaving::End(end)) => matches!(end, AttemptEnd::Requeued(_)),
            Some(Leaving::LetGo(_)) => false,
            None => matches!(end, AttemptEnd::Requeued(_)),
        };
        let members = pack.members.iter().filter(|member| goes_back(&member.leaving));
        let jobs: Vec<JobId> = members.map(|member| member.id().clone()).collect();
        let back = if apart { jobs.chunks(1).map(<[JobId]>::to_vec).collect() } else { vec![jobs] };
        self.end_pack(slot, &end).await?;
        if self.is_over(0).is_some() {
            self.scheduler.on(Event::Stop);
        }
        let effects = self.scheduler.on(Event::SlotLost { slot, back, quick });
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
