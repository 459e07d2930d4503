//! Engine crashes: who caused it, and what happens to the jobs. Pure functions of the facts of a crash.

/// Consecutive crashes without progress after which the job itself fails.
const MAX_CRASHES: u32 = 3;
/// The same for SIGKILL from outside: the OOM killer, or a person who may have other reasons.
const MAX_KILLS: u32 = 10;
/// The smallest token budget tried after out of memory.
const LEAST_BUDGET: usize = 16;

/// Consecutive engine crashes of a job without progress, and its best progress.
#[derive(Debug, Default)]
pub struct CrashCount {
    crashed: u32,
    killed: u32,
    furthest: u64,
}

impl CrashCount {
    /// Counts a crash. `true`: the limit is reached, the job fails.
    pub fn count(&mut self, was_killed: bool, reach: u64) -> bool {
        if reach > self.furthest {
            *self = Self { furthest: reach, ..Self::default() };
        }
        *(if was_killed { &mut self.killed } else { &mut self.crashed }) += 1;
        self.crashed >= MAX_CRASHES || self.killed >= MAX_KILLS
    }
}

/// The facts of a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// The engine had been asked to exit.
    pub was_leaving: bool,
    /// It was loading the model.
    pub was_loading: bool,
    /// It ran out of memory.
    pub out_of_memory: bool,
    /// It was killed by a SIGKILL that this program did not send.
    pub was_killed: bool,
    /// It had just begun.
    pub at_once: bool,
    /// Its pack has one job.
    pub is_single: bool,
    /// Some job of its pack has made progress since the pack began.
    pub has_progressed: bool,
}

/// The consequence of a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashVerdict {
    /// The jobs end as decided before the engine exited.
    AsDecided,
    /// The jobs fail: the model alone does not fit.
    ModelTooLarge,
    /// The jobs are requeued with less memory, see [`relief`].
    Relieve,
    /// The jobs are requeued.
    Requeue {
        /// Each alone: the culprit is unknown.
        apart: bool,
        /// The crash counts against the job.
        counts: bool,
        /// The crash counts against the slot.
        quick: bool,
    },
}

/// The consequence of a crash.
pub fn verdict(crash: Crash) -> CrashVerdict {
    if crash.was_leaving {
        return CrashVerdict::AsDecided;
    }
    match (crash.out_of_memory, crash.was_loading) {
        (true, true) => CrashVerdict::ModelTooLarge,
        (true, false) => CrashVerdict::Relieve,
        (false, _) => CrashVerdict::Requeue {
            // An engine that crashes by itself does so because of one job: each runs alone, which identifies it. The same holds for a
            // pack killed without progress, as by the OOM killer.
            apart: !crash.was_killed || !crash.has_progressed,
            counts: crash.is_single,
            // SIGKILL does not come from the device.
            quick: crash.at_once && !crash.was_killed,
        },
    }
}

/// The change for jobs that ran out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relief {
    /// Blocks are recomputed in backward.
    KeepLess,
    /// Passes of this many tokens.
    Budget(usize),
    /// Each job runs alone.
    Apart,
    /// No option is left: they fail.
    None,
}

/// The next attempt at less memory: first gradient checkpointing, which changes no result and costs a third of the time; then half the
/// token budget, as long as that makes passes smaller, down to the longest row.
pub fn relief(could_keep_less: bool, budget: usize, longest_row: usize, is_single: bool) -> Relief {
    let half = budget / 2;
    if could_keep_less {
        Relief::KeepLess
    } else if half >= LEAST_BUDGET && budget > longest_row {
        Relief::Budget(half.max(longest_row))
    } else if !is_single {
        Relief::Apart
    } else {
        Relief::None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn crashes_without_progress_are_enough_and_somebody_elses_kills_count_for_less() {
        let mut crashes = CrashCount::default();
        assert!(!crashes.count(false, 5) && !crashes.count(false, 5));
        // Progress in the meantime.
        assert!(!crashes.count(false, 6) && !crashes.count(false, 6) && crashes.count(false, 6));
        let mut crashes = CrashCount::default();
        assert!((1..MAX_KILLS).all(|_| !crashes.count(true, 0)) && crashes.count(true, 0));
    }

    fn crash() -> impl Strategy<Value = Crash> {
        any::<(bool, bool, bool, bool, bool, bool, bool)>().prop_map(|facts| {
            let (was_leaving, was_loading, out_of_memory, was_killed, at_once, is_single, has_progressed) =
                facts;
            Crash { was_leaving, was_loading, out_of_memory, was_killed, at_once, is_single, has_progressed }
        })
    }

    proptest! {
        #[test]
        fn only_a_model_that_does_not_fit_fails_jobs_and_no_crash_of_a_pack_counts_against_one_of_them(crash in crash()) {
            match verdict(crash) {
                CrashVerdict::AsDecided => prop_assert!(crash.was_leaving),
                CrashVerdict::ModelTooLarge => prop_assert!(crash.out_of_memory && crash.was_loading),
                CrashVerdict::Relieve => prop_assert!(crash.out_of_memory && !crash.was_loading),
                CrashVerdict::Requeue { apart, counts, quick } => {
                    prop_assert_eq!(counts, crash.is_single);
                    // A slot is not blamed for kills or for later crashes.
                    prop_assert!(!quick || (crash.at_once && !crash.was_killed));
                    // A pack stays together only if it was killed from outside after progress.
                    prop_assert_eq!(!apart, crash.was_killed && crash.has_progressed);
                }
            }
        }

        #[test]
        fn relief_ends(mut budget in 1usize..1 << 20, longest in 0usize..10_000, could in any::<bool>(), mut single in any::<bool>()) {
            let mut could = could;
            for _ in 0..40 {
                match relief(could, budget, longest, single) {
                    Relief::KeepLess => could = false,
                    Relief::Budget(next) => {
                        prop_assert!(next < budget && next >= longest.min(budget));
                        budget = next;
                    }
                    Relief::Apart => single = true,
                    Relief::None => return Ok(()),
                }
            }
            prop_assert!(false, "it goes on for ever");
        }
    }
}
