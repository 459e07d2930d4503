//! Which orders a worker reads where many workers share a long queue. Each would read all of them, and the others would have done most by
//! the time: it reads a slice near the front, where no other begins, and the next one when that is done.

use crate::job::Digest;
use crate::queue::{ActiveJob, Owner};

/// Jobs at the front of the queue in which a worker chooses its slice.
const FRONT: usize = 4096;
/// Orders that are read at once, at least.
const SLICE: usize = 256;

/// What is read of the queue now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Intake<'j> {
    /// Jobs whose orders are read.
    pub(super) read: Vec<&'j ActiveJob>,
    /// Jobs whose orders are left for later.
    pub(super) unread: usize,
}

/// Chooses among `new` jobs, in the order of the queue. `known`: the highest priority of the jobs that are queued and can run here, if
/// there are any; `concurrent`: jobs that run here at a time.
pub(super) fn choose<'j>(
    new: Vec<&'j ActiveJob>,
    known: Option<i64>,
    owner: &Owner,
    concurrent: usize,
) -> Intake<'j> {
    // A worker of many slots needs more at once.
    let slice = SLICE.max(concurrent.saturating_mul(4));
    if new.len() <= slice {
        return Intake { read: new, unread: 0 };
    }
    let Some(priority) = new.iter().map(|job| job.priority).max() else {
        return Intake { read: new, unread: 0 };
    };
    if known.is_some_and(|known| known >= priority) {
        return Intake { read: Vec::new(), unread: new.len() };
    }
    let front: Vec<&ActiveJob> =
        new.iter().filter(|job| job.priority == priority).take(FRONT).copied().collect();
    let slices = front.len().div_ceil(slice);
    let digest = Digest::of(owner.as_str().as_bytes()).prefix(8);
    let own = usize::from_str_radix(&digest, 16).unwrap_or_default() % slices;
    let read: Vec<&ActiveJob> = front.chunks(slice).nth(own).unwrap_or_default().to_vec();
    let unread = new.len() - read.len();
    Intake { read, unread }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::job::{JobId, JobState};

    fn jobs(count: usize, priority: i64) -> Vec<ActiveJob> {
        let job = |number: usize| {
            let id = JobId::of(Digest::of(format!("{priority} {number}").as_bytes()));
            ActiveJob { id, state: JobState::Queued, revision: 1, suspect: false, priority }
        };
        (0..count).map(job).collect()
    }

    fn owner(number: usize) -> Owner {
        Owner::from_store(format!("host{number}/boot/1/1/1"))
    }

    #[test]
    fn a_short_queue_is_read_as_a_whole() {
        let all = jobs(SLICE, 0);
        let intake = choose(all.iter().collect(), None, &owner(1), 1);
        assert_eq!((intake.read.len(), intake.unread), (SLICE, 0));
        let many = jobs(SLICE + 1, 0);
        assert_eq!(choose(many.iter().collect(), None, &owner(1), 100).unread, 0, "it runs that many");
    }

    #[test]
    fn workers_read_slices_of_the_front_that_lie_apart_and_together_are_all_of_it() {
        let all = jobs(20_000, 0);
        let mut read = BTreeSet::new();
        for number in 0..200 {
            let intake = choose(all.iter().collect(), None, &owner(number), 1);
            assert_eq!((intake.read.len(), intake.unread), (SLICE, 20_000 - SLICE));
            let at = |job: &ActiveJob| all.iter().position(|other| other.id == job.id).unwrap();
            let first = at(intake.read[0]);
            assert_eq!(first % SLICE, 0);
            assert!(first < FRONT);
            read.insert(first);
        }
        assert_eq!(read.len(), FRONT / SLICE);
    }

    #[test]
    fn nothing_more_is_read_while_there_is_work_unless_it_is_more_urgent() {
        let (all, urgent) = (jobs(1000, 0), jobs(3, 5));
        let intake = choose(all.iter().collect(), Some(0), &owner(1), 1);
        assert_eq!((intake.read.len(), intake.unread), (0, 1000));
        let both: Vec<&ActiveJob> = urgent.iter().chain(&all).collect();
        let intake = choose(both, Some(0), &owner(1), 1);
        assert_eq!((intake.read.len(), intake.unread), (3, 1000));
        assert!(intake.read.iter().all(|job| job.priority == 5));
    }
}
