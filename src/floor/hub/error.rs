//! Hub errors.

use std::path::PathBuf;

use thiserror::Error;

/// Why a download failed.
#[derive(Debug, Error)]
pub enum HubError {
    /// HF_HUB_OFFLINE is set and the cache has no complete copy.
    #[error("{id} is not in the cache, and HF_HUB_OFFLINE is set")]
    Offline {
        /// The model.
        id: String,
    },
    /// 401.
    #[error("{id}: authentication required (401)")]
    Unauthorised {
        /// The model.
        id: String,
    },
    /// 403, or 401 for a gated model.
    #[error("{id}: access denied (403)")]
    Gated {
        /// The model.
        id: String,
        /// Where to request access.
        page: String,
    },
    /// 404.
    #[error("{id}: no {what} on the hub (404)")]
    NotFound {
        /// The model.
        id: String,
        /// Model, revision or file.
        what: String,
    },
    /// 429, even after waiting.
    #[error("{id}: rate limited by the hub (429)")]
    Busy {
        /// The model.
        id: String,
        /// Seconds to wait, as requested.
        wait: u64,
    },
    /// Any other status.
    #[error("{url} answered {status}")]
    Status {
        /// Without query.
        url: String,
        /// The status.
        status: u16,
    },
    /// No response, or an incomplete one, after several attempts.
    #[error("{url} cannot be reached: {reason}")]
    Network {
        /// Without query.
        url: String,
        /// The library's error.
        reason: String,
    },
    /// A file list that cannot be parsed.
    #[error("unexpected response of the hub for {id}: {reason}")]
    Description {
        /// The model.
        id: String,
        /// The problem.
        reason: String,
    },
    /// No weights in a supported format.
    #[error("{id} has no safetensors")]
    NoWeights {
        /// The model.
        id: String,
    },
    /// A file whose content does not match the hub's hash.
    #[error("{file} has the hash {found}, the hub says {expected}")]
    Hash {
        /// The file.
        file: String,
        /// Hash of the download.
        found: String,
        /// The hub's hash.
        expected: String,
    },
    /// The cache cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The OS error.
        source: std::io::Error,
    },
}

impl HubError {
    /// Suggested fix.
    pub fn help(&self) -> String {
        match self {
            Self::Offline { .. } => "unset HF_HUB_OFFLINE and pull it once".into(),
            Self::Unauthorised { .. } => {
                "put a token into HF_TOKEN or into HF_HOME/token; or check the spelling: unknown models answer so too".into()
            }
            Self::Gated { page, .. } => format!("ask for access at {page}, then try again with your token"),
            Self::NotFound { .. } => "check the spelling of the id and of the revision".into(),
            Self::Busy { wait, .. } => format!("try again in {wait} s; the partial download is kept"),
            Self::Status { .. } | Self::Network { .. } => {
                "try again: a download continues where it ended; HF_ENDPOINT names another hub".into()
            }
            Self::Description { .. } => "check that HF_ENDPOINT is a hub".into(),
            Self::NoWeights { .. } => "pickles are never read: convert the model to safetensors, or use a .gguf file".into(),
            Self::Hash { .. } => "the file was thrown away: pull again".into(),
            Self::Io { .. } => "check the place, its permissions and the disk; HF_HOME moves it".into(),
        }
    }
}
