//! Errors of artifacts.

use std::path::PathBuf;

use thiserror::Error;

/// An error of an object store, or of the files that are copied from and to it.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// The store does not answer, or refuses.
    #[error("{place}: {source}")]
    Store {
        /// Its address.
        place: String,
        /// Why.
        source: object_store::Error,
    },
    /// Something is not there.
    #[error("{name} is not in {place}")]
    Missing {
        /// The address of the store.
        place: String,
        /// Its name there.
        name: String,
    },
    /// Its bytes are not those that were put there.
    #[error("{name} in {place} is damaged: {why}")]
    Damaged {
        /// The address of the store.
        place: String,
        /// Its name there.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file of this machine.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The adapter in the folder is not the one that was trained.
    #[error("the adapter in {} is not the one that was trained: another process wrote it", folder.display())]
    OtherAdapter {
        /// The folder.
        folder: PathBuf,
    },
}

impl ArtifactError {
    /// Whether it is not there, and trying again does not help.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}
