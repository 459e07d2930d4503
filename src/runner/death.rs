//! Engines that die: whose fault it was, and what becomes of their jobs.

use std::collections::{HashMap, HashSet};
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

/// What is changed for jobs that ran out of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Relief {
    /// Blocks are computed again in backward.
    KeepLess,
    /// Passes of so many tokens.
    Budget(usize),
    /// Each goes on alone.
    Apart,
    /// Nothing helps any more.
    None,
}

/// What to try next: first what changes no number and costs a third of the time, then half the budget as long as that makes
/// passes smaller, which the longest row is.
pub(super) fn relief(could_keep_less: bool, budget: usize, longest_row: usize, single: bool) -> Relief {
    let half = budget / 2;
    if could_keep_less {
        Relief::KeepLess
    } else if half >= LEAST_BUDGET && budget > longest_row {
        Relief::Budget(half.max(longest_row))
    } else if !single {
        Relief::Apart
    } else {
        Relief::None
    }
}

/// What follows from want of memory: the jobs go back and keep or compute less at once; a pack's jobs go on alone where that is
/// not enough, and one that is alone fails. `true`: they go on alone.
pub(super) fn relieve(
    budgets: &mut HashMap<JobId, usize>,
    keep_less: &mut HashSet<JobId>,
    pack: &mut RunningPack<'_>,
    reason: &str,
) -> bool {
    let could = pack.members.iter().any(super::job::RunningJob::could_keep_less);
    let longest = pack.longest_row();
    let relief = relief(could, pack.token_budget, longest, pack.is_single());
    let end = match relief {
        Relief::KeepLess => {
            keep_less.extend(pack.jobs());
            AttemptEnd::Requeued(format!("{reason}; next with gradient checkpointing"))
        }
        Relief::Budget(budget) => {
            budgets.extend(pack.jobs().into_iter().map(|job| (job, budget)));
            AttemptEnd::Requeued(format!("{reason}; next with passes of {budget} tokens"))
        }
        Relief::Apart => {
            // Alone they need less.
            for job in pack.jobs() {
                budgets.remove(&job);
            }
            AttemptEnd::Requeued(format!("{reason}; next alone"))
        }
        Relief::None if longest >= pack.token_budget => AttemptEnd::Failed(format!(
            "{reason}; the longest row has {longest} tokens: lower train.max_seq_length"
        )),
        Relief::None => AttemptEnd::Failed(reason.to_owned()),
    };
    pack.leave(&Leaving::End(end));
    relief == Relief::Apart
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
            let without_cuda = self.without_cuda.remove(&slot);
            self.last_death = if without_cuda { RunError::NoCuda.to_string() } else { reason };
            let effects = self.scheduler.on(Event::SlotLost { slot, back: Vec::new(), quick: true });
            return self.carry_out(effects).await;
        };
        let (was_leaving, single) = (pack.is_leaving(), pack.is_single());
        let mut quick = false;
        // Neighbours of one that was paused or taken away go back together.
        let mut end = AttemptEnd::Requeued("a job of the same pack was taken away".to_owned());
        let mut apart = false;
        // The kernel's killer of processes leaves no last words.
        let wants_memory = death.wants_memory() || death.oom_killed;
        if !was_leaving && wants_memory && pack.is_loading() {
            end = AttemptEnd::Failed(format!("the model needs more memory than there is: {death}"));
        } else if !was_leaving && wants_memory {
            apart = relieve(&mut self.budgets, &mut self.keep_less, pack, &death.to_string());
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
            // Out of memory, and nothing but to go on alone is left.
            apart = std::mem::take(&mut self.go_apart);
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
    fn out_of_memory_first_keeps_less_then_halves_down_to_the_longest_row() {
        assert_eq!(relief(true, 4096, 512, true), Relief::KeepLess);
        assert_eq!(relief(false, 4096, 512, true), Relief::Budget(2048));
        assert_eq!(relief(false, 1000, 700, true), Relief::Budget(700));
        assert_eq!(relief(false, 700, 700, false), Relief::Apart);
        assert_eq!(relief(false, 700, 700, true), Relief::None);
        assert_eq!(relief(false, 8192, 9000, true), Relief::None, "smaller passes cannot hold the row");
        assert_eq!(relief(false, LEAST_BUDGET, 0, true), Relief::None);
    }

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
