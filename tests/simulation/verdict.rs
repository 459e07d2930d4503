//! What must be true of a night when it is over.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use loragrid::job::{JobState, ScoreKey};
use loragrid::queue::ScoreRecord;

use crate::world::{World, states};

/// How a night ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) scores: BTreeMap<ScoreKey, ScoreRecord>,
    /// Keys of jobs that are done.
    done: HashSet<ScoreKey>,
    states: BTreeMap<JobState, u64>,
    faults: BTreeMap<&'static str, u64>,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Self) {
        for (state, count) in &other.states {
            *self.states.entry(*state).or_default() += count;
        }
        for (fault, count) in &other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states: Vec<String> =
            self.states.iter().map(|(state, n)| format!("{n} {}", state.as_str())).collect();
        let faults: Vec<String> = self.faults.iter().map(|(fault, n)| format!("{fault} {n}")).collect();
        write!(f, "jobs {}; faults: {}", states.join(", "), faults.join(", "))
    }
}

/// Checks a night that is over: every job ended, none failed for a fault that was not its own, and what is done has its adapter and
/// every score that is wanted.
pub(crate) fn verdict(world: &World) -> Outcome {
    let results = world.queue.results();
    let mut outcome = Outcome { faults: world.happened.borrow().clone(), ..Outcome::default() };
    for ((id, state, reason), order) in states(world).into_iter().zip(&world.orders) {
        *outcome.states.entry(state).or_default() += 1;
        let is_poison = world.poison == Some(order.key());
        match state {
            JobState::Done => {
                assert!(!is_poison, "job {id} kills its engine and is done");
                for task in order.tasks() {
                    assert!(results.scores.contains_key(&task.key), "job {id} is done without its score");
                    let documents = results.documents.get(&task.key).map_or(0, BTreeMap::len);
                    assert_eq!(documents as u64, task.count, "job {id} is done without its documents");
                    outcome.done.insert(task.key);
                }
                let trained =
                    results.trainings.get(&order.key()).is_some_and(|known| known.training.is_some());
                assert!(trained || order.config().is_none(), "job {id} is done without its training");
            }
            JobState::Failed => assert!(is_poison, "job {id} failed for what is not its fault: {reason:?}"),
            JobState::Cancelled => {
                assert!(world.cancelled.borrow().contains(&id), "job {id} was cancelled by nobody");
            }
            JobState::Diverged | JobState::Queued | JobState::Running | JobState::Paused => {
                panic!("job {id} is {} in the morning: {reason:?}", state.as_str())
            }
        }
    }
    outcome.scores = results.scores;
    outcome
}

/// Checks that scores are those of an undisturbed night.
pub(crate) fn compare(outcome: &Outcome, reference: &BTreeMap<ScoreKey, ScoreRecord>) {
    for key in &outcome.done {
        assert_eq!(
            outcome.scores[key].aggregates, reference[key].aggregates,
            "another score than undisturbed"
        );
    }
}
