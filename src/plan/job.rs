//! A job of a plan.

use super::estimate::Estimate;
use crate::job::{BaseForm, DType, JobConfig, JobId, ScoreKey, Settings, SubjectKey};

/// What a job does.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Scores the untrained model.
    Base,
    /// Trains an adapter and scores it.
    Train {
        /// The configuration, iterations resolved.
        config: Box<JobConfig>,
        /// Index of its data in the plan.
        data: usize,
    },
}

/// A job of the plan.
#[derive(Debug, Clone)]
pub struct PlannedJob {
    /// Its identity.
    pub id: JobId,
    /// The subject that it scores.
    pub subject: SubjectKey,
    /// Its work.
    pub work: Work,
    /// Index of its model in the plan.
    pub model: usize,
    /// Compute dtype.
    pub dtype: DType,
    /// Its resolved settings.
    pub settings: Settings,
    /// The values in which it differs from other cells: `r=8 lr=1e-3`, or `base`.
    pub label: String,
    /// Parameters of its adapter; 0 for the base model.
    pub trainable: u64,
    /// The wanted tasks, by index in the plan, with the key of their scores.
    pub wanted: Vec<(usize, ScoreKey)>,
    /// Whether the adapter is still to be trained.
    pub train_missing: bool,
    /// Which of `wanted` are still to be scored.
    pub missing: Vec<usize>,
    /// Which of the plan's samples are still to be answered.
    pub samples_missing: Vec<usize>,
    /// Estimate of the missing work.
    pub estimate: Estimate,
}

impl PlannedJob {
    /// The form of its base model; untrained models are never quantized.
    pub fn base_form(&self) -> BaseForm {
        match &self.work {
            Work::Base => BaseForm::dense(self.dtype),
            Work::Train { config, .. } => config.train.base,
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        !self.train_missing && self.missing.is_empty() && self.samples_missing.is_empty()
    }
}
