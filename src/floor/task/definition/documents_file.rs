//! A task with its documents as one file of the cache: whoever scores it reads no data set and builds no prompt.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::{read_checked, write_checked};
use crate::job::{Digest, canonical_json};
use crate::task::definition::document::Document;
use crate::task::definition::subset::Subset;
use crate::task::definition::task::Task;

/// Version of the format; a file of another version is not read.
const VERSION: u32 = 1;

/// A task with the documents that are scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDocuments {
    version: u32,
    /// The task.
    pub task: Task,
    /// Its documents, or those of them that are scored.
    pub documents: Vec<Document>,
}

impl TaskDocuments {
    /// A task with documents that [`crate::task::build_documents`] made of it.
    pub fn new(task: Task, documents: Vec<Document>) -> Self {
        Self { version: VERSION, task, documents }
    }

    /// The name of the file: of a task's version, which is its definition and the content of its documents, and of those of them
    /// that are scored.
    pub fn file_name(version: Digest, subset: &Subset) -> String {
        let key = format!("documents v{VERSION} {version} {}", canonical_json(subset));
        format!("{}.documents", Digest::of(key.as_bytes()).prefix(32))
    }

    /// Writes the file; it appears whole or not at all. Error: the system's.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        write_checked(path, serde_json::to_vec(self).map_err(std::io::Error::other)?)
    }

    /// Reads the file. `None`: it does not exist, is damaged, or is of another version.
    pub fn read(path: &Path) -> Option<Self> {
        let read: Self = serde_json::from_slice(&read_checked(path)?).ok()?;
        (read.version == VERSION).then_some(read)
    }
}
