//! Engines that crash: whose fault it was, and what becomes of their jobs. Pure functions of what is known of the crash.

/// Attempts one after another at a job whose engine crashes before it gets anything done; then the job itself fails.
const MAX_CRASHES: u32 = 3;
/// The same where somebody kills the engine: the system for want of memory, or a person who may have other reasons.
const MAX_KILLS: u32 = 10;
/// The smallest token budget that is tried after out of memory.
const LEAST_BUDGET: usize = 16;

/// Crashes of a job's engines one after another without progress, and how far it ever came.
#[derive(Debug, Default)]
pub struct CrashCount {
    crashed: u32,
    killed: u32,
    furthest: u64,
}

impl CrashCount {
    /// Counts one. `true`: these were enough, the job fails.
    pub fn count(&mut self, was_killed: bool, reach: u64) -> bool {
        if reach > self.furthest {
            *self = Self { furthest: reach, ..Self::default() };
        }
        *(if was_killed { &mut self.killed } else { &mut self.crashed }) += 1;
        self.crashed >= MAX_CRASHES || self.killed >= MAX_KILLS
    }
}

/// What is known of a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// The engine was told to exit before.
    pub was_leaving: bool,
    /// It was loading the model.
    pub was_loading: bool,
    /// It ran out of memory.
    pub out_of_memory: bool,
    /// It was ended by a SIGKILL that this program did not send.
    pub was_killed: bool,
    /// It had just begun.
    pub at_once: bool,
    /// Its pack has one job.
    pub is_single: bool,
    /// Some job of its pack has got further since the pack began.
    pub has_progressed: bool,
}

/// What follows from a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashVerdict {
    /// The jobs end as it was decided before the engine exited.
    AsDecided,
    /// The jobs fail: not even the model fits.
    ModelTooLarge,
    /// The jobs are requeued with less memory, see [`relief`].
    Relieve,
    /// The jobs are requeued.
    Requeue {
        /// Each alone: it is not known which of them did it.
        apart: bool,
        /// The crash counts against the job.
        counts: bool,
        /// The crash counts against the slot.
        quick: bool,
    },
}

/// What follows from a crash.
pub fn verdict(crash: Crash) -> CrashVerdict {
    if crash.was_leaving {
        return CrashVerdict::AsDecided;
    }
    match (crash.out_of_memory, crash.was_loading) {
        (true, true) => CrashVerdict::ModelTooLarge,
        (true, false) => CrashVerdict::Relieve,
        (false, _) => CrashVerdict::Requeue {
            // An engine that crashes by itself does so because of one of them: each goes on alone, and then it is known which. So
            // does a pack that is killed without having got anywhere, as by the system for want of memory.
            apart: !crash.was_killed || !crash.has_progressed,
            counts: crash.is_single,
            // Whoever sends SIGKILL is not the device.
            quick: crash.at_once && !crash.was_killed,
        },
    }
}

/// What is changed for jobs that ran out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relief {
    /// Blocks are computed again in backward.
    KeepLess,
    /// Passes of so many tokens.
    Budget(usize),
    /// Each goes on alone.
    Apart,
    /// Nothing helps any more: they fail.
    None,
}

/// What to try next: first what changes no number and costs a third of the time, then half the budget as long as that makes
/// passes smaller, which the longest row is.
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
        // It got further meanwhile.
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
                    // A slot is not blamed for kills, nor for what crashed later.
                    prop_assert!(!quick || (crash.at_once && !crash.was_killed));
                    // A pack stays together only where its end was somebody else's doing and it had got somewhere.
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
