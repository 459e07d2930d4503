//! Where the queue and the results are.

use std::fmt;
use std::path::{Path, PathBuf};

use super::server::ServerAddress;
use crate::artifacts::ArtifactsAddress;
use crate::job::Digest;

/// Where the queue and the results are: in a file, or on a server, whose results are copied into a file of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    file: PathBuf,
    /// The folder of results, where it is not that of the file.
    results: Option<PathBuf>,
    server: Option<ServerAddress>,
    /// The object store of its artifacts, where workers share no folder.
    artifacts: Option<ArtifactsAddress>,
}

impl Database {
    /// A server, with its folder of results and the folder of copies.
    pub fn of_server(server: ServerAddress, results: PathBuf, copies: &Path) -> Self {
        // A folder of its own: it belongs to this database.
        let file = copies.join(Digest::of(server.as_str().as_bytes()).prefix(16)).join("copy.db");
        Self { file, results: Some(results), server: Some(server), artifacts: None }
    }

    /// The same with artifacts in an object store; none: in the folder of results.
    pub fn with_artifacts(self, artifacts: Option<ArtifactsAddress>) -> Self {
        Self { artifacts, ..self }
    }

    /// The object store of its artifacts.
    pub fn artifacts(&self) -> Option<&ArtifactsAddress> {
        self.artifacts.as_ref()
    }

    /// The file that is read.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The server.
    pub fn server(&self) -> Option<&ServerAddress> {
        self.server.as_ref()
    }

    /// Whether it is there, as far as can be told without asking.
    pub fn exists(&self) -> bool {
        self.server.is_some() || self.file.is_file()
    }

    /// The folder of adapters, checkpoints, logs and the cache.
    pub fn results(&self) -> PathBuf {
        let beside = self.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = self.results.as_deref().or(beside).unwrap_or_else(|| Path::new("."));
        std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
    }

    /// What names it on the command line of another process that starts in any folder.
    pub fn argument(&self) -> std::io::Result<String> {
        match &self.server {
            Some(server) => Ok(server.as_str().to_owned()),
            None => Ok(std::path::absolute(&self.file)?.to_string_lossy().into_owned()),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Some(server) => server.fmt(f),
            None => self.file.display().fmt(f),
        }
    }
}

impl<P: AsRef<Path>> From<P> for Database {
    fn from(file: P) -> Self {
        Self { file: file.as_ref().to_owned(), results: None, server: None, artifacts: None }
    }
}

impl From<&Database> for Database {
    fn from(database: &Database) -> Self {
        database.clone()
    }
}
