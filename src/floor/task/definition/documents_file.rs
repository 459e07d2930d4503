//! A task and its documents in one cache file, so scoring needs no data set and no prompt building.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::{read_checked, write_checked};
use crate::job::{Digest, canonical_json};
use crate::task::definition::document::Document;
use crate::task::definition::subset::Subset;
use crate::task::definition::task::Task;

/// Format version; files of other versions are not read.
const VERSION: u32 = 1;

/// A task with its scored documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDocuments {
    version: u32,
    /// The task.
    pub task: Task,
    /// Its documents, or a subset to score.
    pub documents: Vec<Document>,
}

impl TaskDocuments {
    /// A task with documents built by [`crate::task::build_documents`].
    pub fn new(task: Task, documents: Vec<Document>) -> Self {
        Self { version: VERSION, task, documents }
    }

    /// The file name: from the task's version, which is its definition and its documents' content, and the scored
    /// subset.
    pub fn file_name(version: Digest, subset: &Subset) -> String {
        let key = format!("documents v{VERSION} {version} {}", canonical_json(subset));
        format!("{}.documents", Digest::of(key.as_bytes()).prefix(32))
    }

    /// Writes the file atomically. Error: I/O.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        write_checked(path, serde_json::to_vec(self).map_err(std::io::Error::other)?)
    }

    /// Reads the file. `None`: it does not exist, is damaged, or has another version.
    pub fn read(path: &Path) -> Option<Self> {
        let read: Self = serde_json::from_slice(&read_checked(path)?).ok()?;
        (read.version == VERSION).then_some(read)
    }
}
