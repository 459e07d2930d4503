//! Why a sweep cannot be planned.

use thiserror::Error;

use crate::checkpoint::{CheckpointError, TokenizerError};
use crate::data::DataError;
use crate::spec::SpecError;
use crate::task::TaskError;

/// Why a sweep cannot be planned.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The sweep file.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A task.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Two cells that resolve to the same training.
    #[error("{first} and {second} are the same job: they resolve to equal settings")]
    SameJob {
        /// One cell.
        first: String,
        /// The other.
        second: String,
    },
    /// A key that came out missing or of another type after every check.
    #[error("the setting '{0}' is missing")]
    Setting(String),
    /// Neither anything to train for nor to score.
    #[error("the sweep's objective '{objective}' is not among its eval tasks")]
    Objective {
        /// The objective.
        objective: String,
    },
}
