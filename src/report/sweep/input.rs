//! The input of a report.

use std::collections::HashMap;

use crate::job::JobId;
use crate::store::{ByDocument, CurvePoint, Leaderboard, StoredSweep};

/// The stored data of a sweep.
#[derive(Debug, Clone)]
pub struct ReportInput {
    /// Its jobs with every setting and score.
    pub board: Leaderboard,
    /// Its file.
    pub sweep: StoredSweep,
    /// The loss curves of some of its jobs.
    pub curves: HashMap<JobId, Vec<CurvePoint>>,
    /// Values by document of the ranking metric, for jobs near the best.
    pub values: HashMap<JobId, ByDocument>,
    /// The answers of its jobs to the sweep's prompts, by prompt.
    pub samples: Vec<SampleText>,
    /// Answers to the first documents of generation tasks, by task and document, the base model's first.
    pub answers: Vec<AnswerText>,
}

/// An answer to a document of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerText {
    /// The task and the document's number.
    pub document: (String, usize),
    /// The prompt.
    pub prompt: String,
    /// The target.
    pub target: String,
    /// The run.
    pub label: String,
    /// The answer.
    pub answer: String,
    /// What each filter pipeline made of it, with its name.
    pub filtered: Vec<String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleText {
    /// The run.
    pub label: String,
    /// The prompt.
    pub prompt: String,
    /// The answer.
    pub answer: String,
}
