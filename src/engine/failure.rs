//! Errors inside the engine and the event for each.

use floor::data::DataError;
use floor::pretrained::{CheckpointError, TokenizerError};
use floor::protocol::{EngineFailure, FailureKind};
use floor::task::TaskError;
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
    #[error("the encoded rows at {path} are missing or damaged")]
    NoRows { path: String },
    #[error("the documents at {path} are missing or damaged")]
    NoDocuments { path: String },
    #[error("the checkpoint's generation_config.json sets {setting}, which is not supported")]
    GenerationDefault { setting: String },
    #[error("no model is loaded")]
    NoModel,
    #[error("{wanted} GPUs are to train together, and this process sees {seen}")]
    FewerDevices { wanted: usize, seen: i64 },
    #[error("the loss is {loss} at step {step}")]
    LossNotFinite { step: u64, loss: f64 },
    #[error("the gradient's norm is {norm} at step {step}")]
    GradientNotFinite { step: u64, norm: f64 },
    #[error("the adapter holds a number that is not finite after step {step}")]
    AdapterNotFinite { step: u64 },
    #[error("task '{task}', document {document}: a log-likelihood is {value}")]
    LikelihoodNotFinite { task: String, document: usize, value: f64 },
    #[error("task '{task}', document {document}: the logits of an answer are not finite")]
    AnswerNotFinite { task: String, document: usize },
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
    Events(#[from] floor::protocol::FrameError),
}

/// OS errors for no space left, on the disk or in the user's quota.
const FULL: [i32; 2] = [nix::libc::ENOSPC, nix::libc::EDQUOT];
/// OS errors for a file that is unreachable now: a disk or share is offline, or permissions changed.
const AWAY: [i32; 12] = [
    nix::libc::EACCES,
    nix::libc::EHOSTDOWN,
    nix::libc::EIO,
    nix::libc::EMFILE,
    nix::libc::ENFILE,
    nix::libc::ENODEV,
    nix::libc::ENOENT,
    nix::libc::ENOTCONN,
    nix::libc::EPERM,
    nix::libc::EROFS,
    nix::libc::ESTALE,
    nix::libc::ETIMEDOUT,
];

impl EngineError {
    /// The underlying OS error.
    fn system(&self) -> Option<&std::io::Error> {
        match self {
            Self::Io { source, .. } | Self::Checkpoint(CheckpointError::Io { source, .. }) => Some(source),
            _ => None,
        }
    }

    /// The event's content.
    pub(crate) fn report(&self) -> EngineFailure {
        let system = self.system().and_then(std::io::Error::raw_os_error);
        let kind = match self {
            _ if system.is_some_and(|code| FULL.contains(&code)) => FailureKind::DiskFull,
            _ if system.is_some_and(|code| AWAY.contains(&code)) => FailureKind::Environment,
            // Missing rows and weights may reappear or be written again.
            Self::NoRows { .. }
            | Self::NoDocuments { .. }
            | Self::FewerDevices { .. }
            | Self::Checkpoint(CheckpointError::Missing { .. }) => FailureKind::Environment,
            Self::OutOfMemory { .. } => FailureKind::OutOfMemory,
            Self::Checkpoint(_)
            | Self::Tokenizer(_)
            | Self::Data(_)
            | Self::Task(_)
            | Self::GenerationDefault { .. }
            | Self::Adapter { .. } => FailureKind::BadInput,
            Self::LossNotFinite { .. }
            | Self::GradientNotFinite { .. }
            | Self::AdapterNotFinite { .. }
            | Self::LikelihoodNotFinite { .. }
            | Self::AnswerNotFinite { .. }
            | Self::LogitsNotFinite => FailureKind::Diverged,
            Self::NoModel | Self::Torch(_) | Self::Io { .. } | Self::Events(_) | Self::Stopped => {
                FailureKind::Internal
            }
        };
        EngineFailure { kind, message: self.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: i32) -> FailureKind {
        let source = std::io::Error::from_raw_os_error(code);
        EngineError::Io { what: "writing".to_owned(), source }.report().kind
    }

    #[test]
    fn a_full_disk_and_a_file_that_is_away_are_no_faults_of_a_job() {
        assert_eq!(kind(nix::libc::ENOSPC), FailureKind::DiskFull);
        assert_eq!(kind(nix::libc::EDQUOT), FailureKind::DiskFull);
        for code in [nix::libc::EIO, nix::libc::EROFS, nix::libc::ENOENT, nix::libc::EACCES] {
            assert_eq!(kind(code), FailureKind::Environment);
        }
        assert_eq!(kind(nix::libc::EINVAL), FailureKind::Internal);
        let path = std::path::PathBuf::from("model");
        let missing = EngineError::Checkpoint(CheckpointError::Missing { path: path.clone() });
        assert_eq!(missing.report().kind, FailureKind::Environment);
        let broken = CheckpointError::Malformed { path, reason: String::new() };
        assert_eq!(EngineError::Checkpoint(broken).report().kind, FailureKind::BadInput);
    }
}
