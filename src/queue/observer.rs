//! Observations of other processes: heartbeats that stopped.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Owner;

/// Longest time between two observations that counts: beyond it the observer itself was delayed, and others may have been too.
const HELD_UP: Duration = Duration::from_secs(5);

/// What a process knows of the others that own attempts: which of them are gone, and how long their heartbeats stood still. A heartbeat is
/// a number that its owner increments; how long it stood still is measured with the observer's clock, so no two clocks are compared.
pub struct Observer {
    me: Owner,
    is_dead: Box<dyn Fn(&Owner) -> bool>,
    seen: HashMap<(String, i64), Seen>,
}

/// A heartbeat, how long it is known to have stood still, and the last observation.
#[derive(Debug, Clone, Copy)]
struct Seen {
    beat: i64,
    still: Duration,
    looked: Instant,
}

impl Default for Observer {
    fn default() -> Self {
        Self::of(Owner::this_process(), Box::new(Owner::is_dead))
    }
}

impl Observer {
    /// What this owner observes; `is_dead` tells whether an owner is known to be gone.
    pub fn of(me: Owner, is_dead: Box<dyn Fn(&Owner) -> bool>) -> Self {
        Self { me, is_dead, seen: HashMap::new() }
    }

    /// Who observes.
    pub fn me(&self) -> &Owner {
        &self.me
    }

    /// Whether an owner is known to be gone.
    pub fn is_dead(&self, owner: &Owner) -> bool {
        (self.is_dead)(owner)
    }

    /// Whether an owner is the observer itself.
    pub fn is_me(&self, owner: &Owner) -> bool {
        self.me == *owner
    }

    /// Whether an attempt's heartbeat has stood still for longer than `lease`.
    pub fn is_still(&mut self, job: &str, attempt: i64, beat: i64, lease: Duration) -> bool {
        self.is_still_at(Instant::now(), (job, attempt), beat, lease)
    }

    fn is_still_at(&mut self, now: Instant, of: (&str, i64), beat: i64, lease: Duration) -> bool {
        let new = Seen { beat, still: Duration::ZERO, looked: now };
        let seen = self.seen.entry((of.0.to_owned(), of.1)).or_insert(new);
        if seen.beat == beat {
            seen.still += now.duration_since(seen.looked).min(HELD_UP);
            seen.looked = now;
        } else {
            *seen = new;
        }
        seen.still > lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    #[test]
    fn a_beat_that_stands_still_for_the_whole_lease_is_noticed() {
        let (mut observer, start) = (Observer::default(), Instant::now());
        let mut look =
            |second, beat| observer.is_still_at(start + Duration::from_secs(second), ("job", 1), beat, LEASE);
        assert!((0..=30).step_by(2).all(|second| !look(second, 7)));
        assert!(look(32, 7));
        assert!(!look(34, 8), "it beats again");
    }

    #[test]
    fn a_reader_that_was_held_up_itself_does_not_blame_others() {
        let (mut observer, start) = (Observer::default(), Instant::now());
        let mut look =
            |second, beat| observer.is_still_at(start + Duration::from_secs(second), ("job", 1), beat, LEASE);
        assert!(!look(0, 7));
        assert!(!look(90, 7), "a database that was locked for a minute and a half held up both");
        assert!(!look(92, 8));
    }
}
