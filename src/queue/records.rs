//! What attempts record.

use serde::Serialize;

use crate::job::{Digest, ScoreKey};
use crate::protocol::{DocumentScore, StepReport, Trained};
use crate::task::{Aggregate, DocumentValue, RequestScore};

/// What an attempt records, each whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Points of a subject's loss curve, and the end of its training.
    Training(Digest, AttemptResults),
    /// Documents of tasks, by the keys of their scores.
    Documents(Vec<(ScoreKey, DocumentScore)>),
    /// What the tasks' documents come to.
    Scores(Digest, Vec<ScoreRecord>),
    /// A subject's answer; one that is there already is replaced.
    Sample(Digest, StoredSample),
}

/// A finished training.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingRecord {
    /// What the engine says.
    pub trained: Trained,
    /// Loss of the first and the last window, where there was one.
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
    /// What they are of: each document's number and its value of each metric.
    pub documents: Vec<(usize, Vec<DocumentValue>)>,
}

/// What is stored of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDocument {
    /// Its number.
    pub document: usize,
    /// What the model said of each request.
    pub requests: Vec<RequestScore>,
    /// Value of each of the task's metrics.
    pub metrics: Vec<DocumentValue>,
}

/// What an attempt at a training has and is not recorded yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttemptResults {
    /// Points of the loss curve; a point of an earlier attempt at the same step is replaced.
    pub steps: Vec<StepReport>,
    /// Its end.
    pub training: Option<TrainingRecord>,
}

impl AttemptResults {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.training.is_none()
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredSample {
    /// Of what was asked and how long the answer may be.
    #[serde(skip)]
    pub key: Digest,
    /// The prompt's place among those of its sweep.
    pub position: i64,
    /// What was asked, as the model read it.
    pub prompt: String,
    /// The row's own response; none for a prompt of a sweep file.
    pub wanted: Option<String>,
    /// What was answered.
    pub answer: String,
    /// Its tokens.
    pub tokens: i64,
}
