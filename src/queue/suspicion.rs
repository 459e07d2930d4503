//! Jobs that may crash their process: how an attempt ends whose process is gone.

use super::attempt::AttemptEnd;

/// Processes that a job may crash in a row without progress before it fails, if they ran nothing else.
pub const MOST_LOST: u32 = 5;
/// Why an attempt ended whose process is gone.
const GONE: &str = "the process that ran it exited";
/// Suffix of the reason if the process ran other jobs too: the culprit is unknown, and such an end counts half.
const BESIDE: &str = ", beside other jobs";

/// A past attempt at a job: why it ended, and the job's progress then, in optimizer steps and scored documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastAttempt {
    /// The reason; none if none was recorded.
    pub reason: Option<String>,
    /// The progress.
    pub reach: i64,
}

/// Why an attempt ended whose process sent no heartbeat for too long.
pub fn end_of_silent() -> AttemptEnd {
    AttemptEnd::Requeued("the process that ran it stopped sending heartbeats".to_owned())
}

/// How an attempt ends whose process is gone. `alone`: the process ran nothing else; `reach`: the job's progress; `earlier`: its earlier
/// attempts, the newest first.
pub fn end_of_lost(alone: bool, reach: i64, earlier: &[PastAttempt]) -> AttemptEnd {
    let mut ends = vec![(weight(alone), reach)];
    for attempt in earlier {
        let lost = attempt.reason.as_deref().and_then(|reason| reason.strip_prefix(GONE));
        ends.push((lost.map_or(0, |rest| weight(rest != BESIDE)), attempt.reach));
    }
    let (suspicion, times) = lost_in_a_row(&ends);
    // A job that crashes its process every time fails.
    if suspicion >= weight(true) * MOST_LOST {
        AttemptEnd::Failed(format!("{GONE} {times} times in a row without progress"))
    } else {
        AttemptEnd::Requeued(if alone { GONE.to_owned() } else { format!("{GONE}{BESIDE}") })
    }
}

/// Whether a job is suspect after an attempt that ended for this reason.
pub fn is_suspect(reason: &str) -> bool {
    reason.starts_with(GONE)
}

fn weight(alone: bool) -> u32 {
    if alone { 2 } else { 1 }
}

/// The suspicion from the last attempts, and their number: those lost in a row without progress, the newest first; each given with its
/// weight (0 if it was not lost) and the job's progress at its end.
fn lost_in_a_row(ends: &[(u32, i64)]) -> (u32, usize) {
    let Some((_, newest)) = ends.first() else { return (0, 0) };
    let same = ends.iter().take_while(|(suspicion, reach)| *suspicion > 0 && reach == newest);
    same.fold((0, 0), |(all, count), (suspicion, _)| (all + suspicion, count + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_processes_count_only_in_a_row_and_without_progress() {
        assert_eq!(lost_in_a_row(&[]), (0, 0));
        assert_eq!(lost_in_a_row(&[(2, 4), (1, 4), (0, 4), (2, 4)]), (3, 2));
        assert_eq!(lost_in_a_row(&[(2, 8), (2, 4), (2, 4)]), (2, 1), "it had got further");
        assert_eq!(lost_in_a_row(&[(0, 4), (2, 4)]), (0, 0));
    }

    #[test]
    fn a_job_fails_after_five_ends_of_its_own_process_or_ten_beside_others() {
        let mut earlier: Vec<PastAttempt> = Vec::new();
        for (alone, most) in [(true, 5), (false, 10)] {
            earlier.clear();
            let ends = (0..most).map(|_| {
                let end = end_of_lost(alone, 0, &earlier);
                let reason = end.outcome().1.map(str::to_owned);
                earlier.insert(0, PastAttempt { reason, reach: 0 });
                end
            });
            let ends: Vec<AttemptEnd> = ends.collect();
            assert!(ends[..most - 1].iter().all(|end| matches!(end, AttemptEnd::Requeued(_))), "{ends:?}");
            assert!(matches!(ends[most - 1], AttemptEnd::Failed(_)), "{ends:?}");
        }
    }
}
