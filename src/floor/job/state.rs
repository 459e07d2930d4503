//! Job states and the one function for transitions. The store's SQL follows this function.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for a slot.
    Queued,
    /// An attempt holds it.
    Running,
    /// Paused by the user.
    Paused,
    /// Its adapter and every requested score are in the store.
    Done,
    /// Ended by an error that a retry will not fix.
    Failed,
    /// Ended because its loss or a log-likelihood was not finite.
    Diverged,
    /// Canceled by the user.
    Cancelled,
}

/// State transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// A worker took it.
    Claim,
    /// Its attempt succeeded.
    Finish,
    /// Its attempt ended with an error that a retry will not fix.
    Fail,
    /// Its loss or a log-likelihood was not finite.
    Diverge,
    /// Its attempt ended for external reasons: stopped, killed, or the machine went down.
    Requeue,
    /// More results are requested, or the user retries it.
    Reopen,
    /// The user pauses it; a running attempt ends.
    Pause,
    /// The user resumes it.
    Resume,
    /// The user cancels it; a running attempt ends.
    Cancel,
}

/// An invalid transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a job that is {from:?} cannot {transition:?}")]
pub struct IllegalTransition {
    /// The state it was in.
    pub from: JobState,
    /// The attempted transition.
    pub transition: Transition,
}

impl Transition {
    /// Every transition, for exhaustive tests.
    pub const ALL: [Self; 9] = [
        Self::Claim,
        Self::Finish,
        Self::Fail,
        Self::Diverge,
        Self::Requeue,
        Self::Reopen,
        Self::Pause,
        Self::Resume,
        Self::Cancel,
    ];

    /// The states from which this transition may start, in the order of [`JobState::ALL`].
    pub fn sources(self) -> Vec<JobState> {
        JobState::ALL.into_iter().filter(|state| state.after(self).is_ok()).collect()
    }
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Done,
        Self::Failed,
        Self::Diverged,
        Self::Cancelled,
    ];

    /// The state after a transition. Errors: [`IllegalTransition`].
    pub fn after(self, transition: Transition) -> Result<Self, IllegalTransition> {
        use JobState::*;
        use Transition::*;
        match (self, transition) {
            (Queued, Claim) => Ok(Running),
            (Running, Finish) => Ok(Done),
            (Running, Fail) => Ok(Failed),
            (Running, Diverge) => Ok(Diverged),
            (Running, Requeue) => Ok(Queued),
            (Done | Failed | Diverged | Cancelled, Reopen) => Ok(Queued),
            (Queued | Running, Pause) => Ok(Paused),
            (JobState::Paused, Resume) => Ok(Queued),
            (Queued | Running | Paused, Cancel) => Ok(Cancelled),
            (from, transition) => Err(IllegalTransition { from, transition }),
        }
    }

    /// The word in the store and in `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Diverged => "diverged",
            Self::Cancelled => "cancelled",
        }
    }

    /// Parses a state's word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_job_can_end() {
        for end in [Transition::Finish, Transition::Fail, Transition::Diverge, Transition::Requeue] {
            assert_eq!(end.sources(), [JobState::Running], "{end:?}");
        }
    }

    #[test]
    fn a_job_is_claimed_only_from_the_queue() {
        assert_eq!(Transition::Claim.sources(), [JobState::Queued]);
    }

    #[test]
    fn a_job_that_ended_is_neither_paused_nor_cancelled() {
        use JobState::*;
        assert_eq!(Transition::Pause.sources(), [Queued, Running]);
        assert_eq!(Transition::Cancel.sources(), [Queued, Running, Paused]);
        assert_eq!(Transition::Reopen.sources(), [Done, Failed, Diverged, Cancelled]);
    }

    #[test]
    fn every_word_reads_back_as_its_state() {
        for state in JobState::ALL {
            assert_eq!(JobState::parse(state.as_str()), Some(state));
        }
    }
}
