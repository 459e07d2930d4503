//! Where adapters, checkpoints and encoded inputs are, for workers that share no folder: an object store, or a folder that stands in for
//! one. The folder of results then holds what runs here, and copies.
//!
//! ```text
//! cache/KEY.rows                        an encoded input, under the name that orders give it; it ends with its own SHA-256
//! checkpoints/SUBJECT/NAME              a checkpoint, which engines check before they read it
//! logs/JOB-ATTEMPT.log                  the log of an attempt that ended
//! adapters/SUBJECT/WEIGHTS/FILE         the files of an adapter whose weights have this SHA-256, the one that the database names
//! adapters/SUBJECT/WEIGHTS/manifest     sizes and SHA-256 of these files, written last: an adapter without it is not whole
//! ```

mod address;
mod error;
mod inventory;
mod manifest;
mod store;
#[cfg(test)]
mod tests;
mod transfer;

pub use address::{ArtifactsAddress, ArtifactsAddressError};
pub use error::ArtifactError;
pub use inventory::{AdapterArtifact, ArtifactSizes};
pub use store::{ArtifactStore, weights_here};

/// Where what workers make and need is.
#[derive(Debug, Clone, Default)]
pub enum Artifacts {
    /// In the folder of results, which everyone sees who needs it.
    #[default]
    InResults,
    /// In an object store.
    InStore(ArtifactStore),
}

impl Artifacts {
    /// The object store; none where everything is in the folder of results.
    pub fn store(&self) -> Option<&ArtifactStore> {
        match self {
            Self::InResults => None,
            Self::InStore(store) => Some(store),
        }
    }
}
