//! One attempt at a job.

use tokio::time::Instant;

use crate::job::{AttemptNumber, JobId, JobState, Transition};

/// A claimed attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// Its number.
    pub number: AttemptNumber,
    /// The revision of the job's order at the claim.
    pub revision: i64,
    /// When this process claimed it; none for another process's attempt.
    pub began: Option<Instant>,
}

impl Attempt {
    /// The name of its log in the results folder, shared by attempts claimed together.
    pub fn log(&self) -> String {
        format!("logs/{}-{}.log", self.job, self.number)
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// All wanted results exist.
    Finished,
    /// Trying again will not fix it.
    Failed(String),
    /// A loss or log-likelihood was not finite.
    Diverged(String),
    /// Not the job's fault; it is requeued.
    Requeued(String),
}

impl AttemptEnd {
    /// The transition of the job.
    pub fn transition(&self) -> Transition {
        match self {
            Self::Finished => Transition::Finish,
            Self::Failed(_) => Transition::Fail,
            Self::Diverged(_) => Transition::Diverge,
            Self::Requeued(_) => Transition::Requeue,
        }
    }

    /// The stored word, and the reason.
    pub fn outcome(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Finished => ("finished", None),
            Self::Failed(reason) => ("failed", Some(reason)),
            Self::Diverged(reason) => ("diverged", Some(reason)),
            Self::Requeued(reason) => ("requeued", Some(reason)),
        }
    }
}

/// How a job was taken from its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The user paused it.
    Paused,
    /// The user cancelled it.
    Cancelled,
    /// Another attempt has taken it over.
    Lost,
}

impl Taken {
    /// How a job in this state was taken.
    pub fn by(state: JobState) -> Self {
        match state {
            JobState::Paused => Self::Paused,
            JobState::Cancelled => Self::Cancelled,
            JobState::Queued | JobState::Running | JobState::Done | JobState::Failed | JobState::Diverged => {
                Self::Lost
            }
        }
    }

    /// The stored word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }
}
