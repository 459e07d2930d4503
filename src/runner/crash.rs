//! Engine exits: what happens to the jobs, by `scheduler`'s verdict.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::error::RunError;
use super::job::{Leaving, RunningJob};
use super::pack::RunningPack;
use super::run::Running;
use crate::engine_process::EngineExit;
use crate::job::{JobId, SlotId};
use crate::queue::{AttemptEnd, Queue};
use crate::scheduler::{Crash, CrashVerdict, Event, Relief, relief, verdict};

/// An exit before this, without progress, counts as immediate.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Handles out of memory: jobs are requeued and recompute blocks in backward or use a smaller token budget; if that is not enough, a
/// pack's jobs run alone, and a single job fails. `true`: they run alone.
pub(super) fn relieve(
    budgets: &mut HashMap<JobId, usize>,
    keep_less: &mut HashSet<JobId>,
    pack: &mut RunningPack,
    reason: &str,
) -> bool {
    let could = pack.members.iter().any(RunningJob::could_keep_less);
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
            // Alone they need less memory.
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

impl<Q: Queue> Running<'_, '_, '_, Q> {
    /// Handles the exit of a slot's engine. Errors: the queue's.
    pub(super) async fn on_exit(&mut self, slot: SlotId, exit: EngineExit) -> Result<(), RunError> {
        let engine = self.engines.remove(&slot);
        let silent = engine.as_ref().and_then(|engine| engine.silent);
        let at_once = engine.is_none_or(|engine| engine.given.elapsed() < AT_ONCE);
        let reason = match silent {
            Some(time) => format!("the engine was killed: it was silent for {} s", time.as_secs()),
            None => exit.to_string(),
        };
        let Some(pack) = self.working.get_mut(&slot) else {
            let without_cuda = self.without_cuda.remove(&slot);
            self.last_crash = if without_cuda { RunError::NoCuda.to_string() } else { reason };
            let effects = self.scheduler.on(Event::SlotLost { slot, back: Vec::new(), quick: true });
            return self.carry_out(effects).await;
        };
        let crash = Crash {
            was_leaving: pack.is_leaving(),
            was_loading: pack.is_loading(),
            // The kernel's OOM killer leaves no last log line.
            out_of_memory: exit.wants_memory() || exit.oom_killed,
            was_killed: exit.signal == Some(9) && silent.is_none(),
            at_once: at_once && exit.signal != Some(9),
            is_single: pack.is_single(),
            has_progressed: pack.members.iter().any(|member| member.reach != member.began_at),
        };
        // The other jobs of a pack with a paused or taken-over job are requeued together.
        let mut end =
            AttemptEnd::Requeued("a job of the same pack was paused, cancelled or taken over".to_owned());
        let (mut apart, mut is_quick) = (false, false);
        match verdict(crash) {
            // Out of memory, with no option left but to run the jobs alone.
            CrashVerdict::AsDecided => apart = std::mem::take(&mut self.go_apart),
            CrashVerdict::ModelTooLarge => {
                end = AttemptEnd::Failed(format!("the model needs more memory than there is: {exit}"));
            }
            CrashVerdict::Relieve => {
                apart = relieve(&mut self.budgets, &mut self.keep_less, pack, &exit.to_string());
            }
            CrashVerdict::Requeue { apart: alone, counts, quick } => {
                self.last_crash.clone_from(&reason);
                (apart, is_quick) = (alone, quick);
                end = AttemptEnd::Requeued(reason.clone());
                for member in pack.members.iter_mut().filter(|_| counts) {
                    let crashes = self.crashes.entry(member.id().clone()).or_default();
                    if crashes.count(crash.was_killed, member.reach) {
                        member.leave(Leaving::End(AttemptEnd::Failed(reason.clone())));
                    }
                }
            }
        }
        let is_requeued = |leaving: &Option<Leaving>| match leaving {
            Some(Leaving::End(end)) => matches!(end, AttemptEnd::Requeued(_)),
            Some(Leaving::LetGo(_)) => false,
            None => matches!(end, AttemptEnd::Requeued(_)),
        };
        let members = pack.members.iter().filter(|member| is_requeued(&member.leaving));
        let jobs: Vec<JobId> = members.map(|member| member.id().clone()).collect();
        let back = if apart { jobs.chunks(1).map(<[JobId]>::to_vec).collect() } else { vec![jobs] };
        self.end_pack(slot, &end).await?;
        if self.is_over(0).is_some() {
            self.scheduler.on(Event::Stop);
        }
        let effects = self.scheduler.on(Event::SlotLost { slot, back, quick: is_quick });
        self.carry_out(effects).await
    }
}
