//! Why a tracker was not updated.

use std::path::PathBuf;

use thiserror::Error;

/// Why a tracker was not updated.
#[derive(Debug, Error)]
pub enum TrackError {
    /// It does not answer.
    #[error("{url} cannot be reached: {reason}")]
    Network {
        /// Without a query.
        url: String,
        /// The library's reason.
        reason: String,
    },
    /// It refuses.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// Without a query.
        url: String,
        /// The status.
        status: u16,
        /// The start of its answer.
        message: String,
    },
    /// Its answer is not understood.
    #[error("{url} answered what is not understood: {reason}")]
    Answer {
        /// Without a query.
        url: String,
        /// What is missing.
        reason: String,
    },
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A database cannot be written.
    #[error("{}: {reason}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// The library's reason.
        reason: String,
    },
}
