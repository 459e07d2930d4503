//! Errors inside the engine and the event that each becomes.

use loragrid::checkpoint::{CheckpointError, TokenizerError};
use loragrid::data::DataError;
use loragrid::protocol::{EngineFailure, FailureKind};
use loragrid::task::TaskError;
use thiserror::Error;

/// Why an order failed.
#[derive(Debug, Error)]
pub(crate) enum EngineError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Task(#[from] TaskError),
    #[error("the adapter at {path} does not fit: {reason}")]
    Adapter { path: String, reason: String },
    #[error("the encoded rows at {path} are not whole")]
    NoRows { path: String },
    #[error("no model is loaded")]
    NoModel,
    #[error("the loss is {loss} at step {step}")]
    LossNotFinite { step: u64, loss: f64 },
    #[error("task '{task}', document {document}: a log-likelihood is {value}")]
    LikelihoodNotFinite { task: String, document: usize, value: f64 },
    #[error("a pass of at most {budget} tokens needs more memory than there is: {reason}")]
    OutOfMemory { budget: usize, reason: String },
    #[error("stopped")]
    Stopped,
    #[error("the logits are not finite")]
    LogitsNotFinite,
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("the stream of events broke: {0}")]
    Events(#[from] loragrid::protocol::FrameError),
}

impl EngineError {
    /// The event's content.
    pub(crate) fn report(&self) -> EngineFailure {
        let full =
            matches!(self, Self::Io { source, .. } if source.raw_os_error() == Some(nix::libc::ENOSPC));
        let kind = match self {
            _ if full => FailureKind::DiskFull,
            Self::OutOfMemory { .. } => FailureKind::OutOfMemory,
            Self::Checkpoint(_)
            | Self::Tokenizer(_)
            | Self::Data(_)
            | Self::Task(_)
            | Self::Adapter { .. } => FailureKind::BadInput,
            Self::LossNotFinite { .. } | Self::LikelihoodNotFinite { .. } | Self::LogitsNotFinite => {
                FailureKind::Diverged
            }
            Self::NoRows { .. }
            | Self::NoModel
            | Self::Torch(_)
            | Self::Io { .. }
            | Self::Events(_)
            | Self::Stopped => FailureKind::Internal,
        };
        EngineFailure { kind, message: self.to_string() }
    }
}
