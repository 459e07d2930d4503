//! What can go wrong between here and a hub.

use std::path::PathBuf;

use thiserror::Error;

/// Why a model did not come.
#[derive(Debug, Error)]
pub enum HubError {
    /// HF_HUB_OFFLINE is set and the cache has no whole copy.
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
        /// Where to ask.
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
    /// 429, also after waiting.
    #[error("{id}: rate limited by the hub (429)")]
    Busy {
        /// The model.
        id: String,
        /// Seconds that it asks to wait.
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
    /// No answer, or one that was cut off, after several tries.
    #[error("{url} cannot be reached: {reason}")]
    Network {
        /// Without query.
        url: String,
        /// The library's reason.
        reason: String,
    },
    /// A list of files that is not understood.
    #[error("unexpected response of the hub for {id}: {reason}")]
    Description {
        /// The model.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// No weights that are read.
    #[error("{id} has no safetensors")]
    NoWeights {
        /// The model.
        id: String,
    },
    /// A file whose content is not what the hub says.
    #[error("{file} has the hash {found}, the hub says {expected}")]
    Hash {
        /// The file.
        file: String,
        /// Its own.
        found: String,
        /// The hub's.
        expected: String,
    },
    /// The cache cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl HubError {
    /// What the user can do about it.
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
