//! What a report is made of.

use std::collections::HashMap;

use crate::job::JobId;
use crate::store::{ByDocument, CurvePoint, Leaderboard, StoredSweep};

/// What is stored of a sweep.
#[derive(Debug, Clone)]
pub struct ReportInput {
    /// Its jobs with every setting and score.
    pub board: Leaderboard,
    /// Its file.
    pub sweep: StoredSweep,
    /// The loss curves of some of its jobs.
    pub curves: HashMap<JobId, Vec<CurvePoint>>,
    /// Values by document of the ranking metric, of jobs near the best.
    pub values: HashMap<JobId, ByDocument>,
    /// What its jobs answered to the sweep's prompts, by prompt.
    pub samples: Vec<SampleText>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleText {
    /// The run.
    pub label: String,
    /// What was asked.
    pub prompt: String,
    /// What it answered.
    pub answer: String,
}
