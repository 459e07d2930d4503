//! Failures not caused by a job: missing files. Jobs are requeued, and nothing starts for a growing pause. After too many in a row the
//! run ends with the rest still queued.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which the run ends; the pauses between them add up to two minutes.
const MOST: u32 = 8;
/// First pause.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// Consecutive failures of the environment.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    count: u32,
    until: Option<Instant>,
    /// The last failure's reason.
    pub(super) reason: String,
}

impl Trouble {
    /// Counts a failure and returns how long nothing starts. Failures during a pause count as the same one.
    pub(super) fn note(&mut self, reason: &str, now: Instant) -> Duration {
        reason.clone_into(&mut self.reason);
        if let Some(until) = self.until.filter(|until| *until > now) {
            return until - now;
        }
        let pause = (FIRST * 2u32.saturating_pow(self.count.min(16))).min(LONGEST);
        self.count += 1;
        self.until = Some(now + pause);
        pause
    }

    /// Whether a pause has just ended.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        self.until.take_if(|until| *until <= now).is_some()
    }

    /// Whether the run should end.
    pub(super) fn is_too_much(&self) -> bool {
        self.count >= MOST
    }

    /// Resets the count after progress.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_after_some_failures_in_a_row_it_is_enough() {
        let (mut trouble, mut now) = (Trouble::default(), Instant::now());
        let mut all = Duration::ZERO;
        for number in 0..MOST {
            assert!(!trouble.is_too_much());
            let pause = trouble.note("away", now);
            assert!(pause >= FIRST * number.max(1) && pause <= LONGEST);
            assert_eq!(trouble.note("away", now), pause, "one that is waited for already");
            assert!(!trouble.is_over(now));
            (now, all) = (now + pause, all + pause);
            assert!(trouble.is_over(now) && !trouble.is_over(now));
        }
        assert!(trouble.is_too_much());
        assert!(all > Duration::from_secs(60) && all < Duration::from_secs(300), "{all:?}");
        trouble.clear();
        assert!(!trouble.is_too_much());
    }
}
