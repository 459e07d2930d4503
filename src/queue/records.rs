//! Records of attempts.

use serde::Serialize;

use crate::job::{Digest, ScoreKey};
use crate::protocol::{DocumentScore, StepReport, Trained};
use crate::task::{Aggregate, DocumentValue, RequestScore};

/// A record of an attempt, written atomically.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Points of a subject's loss curve, and the end of its training.
    Training(Digest, AttemptResults),
    /// Documents of tasks, by the keys of their scores.
    Documents(Vec<(ScoreKey, DocumentScore)>),
    /// Aggregates of the tasks' documents.
    Scores(Digest, Vec<ScoreRecord>),
    /// A subject's answer; an existing one is replaced.
    Sample(Digest, StoredSample),
}

/// A finished training.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingRecord {
    /// The engine's result.
    pub trained: Trained,
    /// Loss of the first and the last window, if any.
    pub losses: Option<(f64, f64)>,
}

/// The scores of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRecord {
    /// Their key.
    pub key: ScoreKey,
    /// The task's name.
    pub task: String,
    /// One for each metric.
    pub aggregates: Vec<Aggregate>,
    /// The documents behind them: each document's number and its value of each metric.
    pub documents: Vec<(usize, Vec<DocumentValue>)>,
}

/// The stored scores of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDocument {
    /// Its number.
    pub document: usize,
    /// The model's scores of each request.
    pub requests: Vec<RequestScore>,
    /// Value of each of the task's metrics.
    pub metrics: Vec<DocumentValue>,
    /// The generated answers; none for log-likelihoods.
    pub answers: Vec<String>,
}

/// Unrecorded results of a training attempt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttemptResults {
    /// Points of the loss curve; a point of an earlier attempt at the same step is replaced.
    pub steps: Vec<StepReport>,
    /// Its end.
    pub training: Option<TrainingRecord>,
}

impl AttemptResults {
    /// Whether there are no results.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.training.is_none()
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredSample {
    /// Digest of the prompt and the maximum length of the answer.
    #[serde(skip)]
    pub key: Digest,
    /// The prompt's position in its sweep.
    pub position: i64,
    /// The prompt, as the model read it.
    pub prompt: String,
    /// The row's own response; none for a prompt from a sweep file.
    pub wanted: Option<String>,
    /// The answer.
    pub answer: String,
    /// Its tokens.
    pub tokens: i64,
}
