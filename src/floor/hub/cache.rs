//! The cache: `models--ORG--NAME/` and `datasets--ORG--NAME/` with `blobs/` by hash, `snapshots/COMMIT/` of links to
//! them, `refs/` from revisions to commits.

use std::path::{Path, PathBuf};

use super::repository_id::{RepositoryId, RepositoryKind};

/// Marks a complete snapshot, or a complete folder of one.
pub const COMPLETE: &str = ".loragrid-complete";

/// A cache of models and data sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in this folder, which need not exist yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder of a model's snapshot, if complete: its download finished, or another client downloaded a
    /// configuration and weights. For a data set, the folder of its downloaded files.
    pub fn find(&self, id: &RepositoryId) -> Option<PathBuf> {
        let folder = self.folder(id);
        let named = std::fs::read_to_string(folder.join("refs").join(id.revision()));
        let commit = named.map_or_else(|_| id.revision().to_owned(), |text| text.trim().to_owned());
        if commit.contains(['/', '.']) {
            return None;
        }
        let snapshot = folder.join("snapshots").join(commit);
        if id.kind() == RepositoryKind::DataSet {
            return snapshot.is_dir().then_some(snapshot);
        }
        let has = |name: &str| snapshot.join(name).is_file();
        let foreign = has("config.json") && (has("model.safetensors") || shards_are_there(&snapshot));
        (has(COMPLETE) || foreign).then_some(snapshot)
    }

    pub(super) fn folder(&self, id: &RepositoryId) -> PathBuf {
        self.root.join(id.folder())
    }

    pub(super) fn blob(&self, id: &RepositoryId, hash: &str) -> PathBuf {
        self.folder(id).join("blobs").join(hash)
    }

    /// The lock file for writing a blob, as in huggingface_hub: `.locks/models--ORG--NAME/HASH.lock`.
    pub(super) fn lock(&self, id: &RepositoryId, hash: &str) -> PathBuf {
        self.root.join(".locks").join(id.folder()).join(format!("{hash}.lock"))
    }

    pub(super) fn snapshot(&self, id: &RepositoryId, commit: &str) -> PathBuf {
        self.folder(id).join("snapshots").join(commit)
    }

    /// Links a snapshot's file to its blob. Error: I/O.
    pub(super) fn link(
        &self,
        id: &RepositoryId,
        commit: &str,
        file: &str,
        hash: &str,
    ) -> std::io::Result<()> {
        let path = self.snapshot(id, commit).join(file);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let up = "../".repeat(2 + file.matches('/').count());
        std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(hash), path)
    }

    /// Marks a snapshot as complete and points the id's revision at it. Error: I/O.
    pub(super) fn complete(&self, id: &RepositoryId, commit: &str) -> std::io::Result<()> {
        std::fs::write(self.snapshot(id, commit).join(COMPLETE), "")?;
        self.refer(id, commit)
    }

    /// Points the id's revision at a commit. Error: I/O.
    pub(super) fn refer(&self, id: &RepositoryId, commit: &str) -> std::io::Result<()> {
        let named = self.folder(id).join("refs").join(id.revision());
        if let Some(folder) = named.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(named, commit)
    }
}

fn shards_are_there(snapshot: &Path) -> bool {
    let text = std::fs::read_to_string(snapshot.join("model.safetensors.index.json")).unwrap_or_default();
    let index: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let shards: Option<Vec<&str>> =
        index["weight_map"].as_object().and_then(|map| map.values().map(|name| name.as_str()).collect());
    shards.is_some_and(|names| !names.is_empty() && names.iter().all(|name| snapshot.join(name).is_file()))
}
