//! Why a sweep cannot be planned.

use thiserror::Error;

use crate::data::DataError;
use crate::pretrained::{CheckpointError, TokenizerError};
use crate::sweep_file::SpecError;
use crate::task::TaskError;

/// An error in planning a sweep.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The sweep file.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A task.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The prompts of `[samples]`.
    #[error("invalid [samples]: {reason}")]
    Samples {
        /// Why.
        reason: String,
    },
    /// `gen_kwargs` that are neither Python literals nor JSON.
    #[error("invalid gen_kwargs: {reason}")]
    GenKwargs {
        /// Why.
        reason: String,
    },
    /// A model without a chat template that tasks could use.
    #[error("model {model}: {reason}")]
    ChatTemplate {
        /// The model.
        model: String,
        /// Why.
        reason: String,
    },
    /// A hub id that was never downloaded and is not in the catalogue.
    #[error("model {name} is not on this machine")]
    NotPulled {
        /// The id.
        name: String,
    },
    /// Two cells that resolve to the same training.
    #[error(
        "cell {first_position} ({first}) and cell {second_position} ({second}) are the same job: they resolve to equal settings"
    )]
    SameJob {
        /// One cell.
        first: String,
        /// Its position in the grid, counted from 1.
        first_position: usize,
        /// The other.
        second: String,
        /// Its position in the grid, counted from 1.
        second_position: usize,
    },
    /// A key that is missing or of another type after all checks.
    #[error("the setting '{0}' is missing")]
    Setting(&'static str),
    /// Fewer micro-batches than one optimizer step needs, where an incomplete last window is dropped.
    #[error("{label} takes no optimizer step: {iterations} iterations, and a step takes {window} of them")]
    NoSteps {
        /// The job.
        label: String,
        /// Its micro-batches.
        iterations: u64,
        /// Micro-batches per step.
        window: u64,
    },
    /// An objective that no task computes.
    #[error("the objective '{objective}' is not among the eval tasks")]
    Objective {
        /// The objective.
        objective: String,
    },
}

impl From<super::models::OpenModelError> for PlanError {
    fn from(error: super::models::OpenModelError) -> Self {
        match error {
            super::models::OpenModelError::Checkpoint(error) => Self::Checkpoint(error),
            super::models::OpenModelError::Tokenizer(error) => Self::Tokenizer(error),
        }
    }
}
