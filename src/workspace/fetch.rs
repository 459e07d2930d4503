//! Models and rows that are not on this machine: downloaded from the hub, with progress as events.

use std::path::{Path, PathBuf};

use super::WorkspaceEvent;
use super::error::WorkspaceError;
use super::open::Workspace;
use crate::hub::{Pulled, Pushed, RepositoryId, Tables};
use crate::task::{Published, Task};

impl Workspace {
    /// The path of a model: as it is named, in the cache, or downloaded now. Errors: neither path nor id, the hub's.
    pub fn model(
        &self,
        name: &str,
        watch: &mut dyn FnMut(WorkspaceEvent),
    ) -> Result<PathBuf, WorkspaceError> {
        let path = Path::new(name);
        if path.exists() {
            return Ok(path.to_owned());
        }
        let id = RepositoryId::parse(name).ok_or_else(|| WorkspaceError::NoModel(name.to_owned()))?;
        match self.hub.cache.find(&id) {
            Some(folder) => Ok(folder),
            None => Ok(self.pull_model(&id, watch)?.folder),
        }
    }

    /// Downloads a model. Errors: the hub's.
    pub fn pull_model(
        &self,
        id: &RepositoryId,
        watch: &mut dyn FnMut(WorkspaceEvent),
    ) -> Result<Pulled, WorkspaceError> {
        watch(WorkspaceEvent::ModelDownload {
            name: id.to_string(),
            endpoint: self.hub.endpoint.to_string(),
        });
        let pulled = self.hub.pull(id, |transfer| {
            watch(WorkspaceEvent::Transfer {
                file: transfer.file.to_owned(),
                size: transfer.size,
                done: transfer.done,
            });
        });
        watch(WorkspaceEvent::DownloadEnded);
        Ok(pulled?)
    }

    /// Uploads the files of a folder to a model's repository on the hub, as one commit. Errors: no token, the hub's.
    pub fn push(
        &self,
        id: &RepositoryId,
        folder: &Path,
        (message, private): (&str, bool),
        watch: &mut dyn FnMut(WorkspaceEvent),
    ) -> Result<Pushed, WorkspaceError> {
        let name = id.to_string();
        watch(WorkspaceEvent::Upload { name, endpoint: self.hub.endpoint.to_string() });
        let pushed = self.hub.push(id, folder, (message, private), |transfer| {
            watch(WorkspaceEvent::Transfer {
                file: transfer.file.to_owned(),
                size: transfer.size,
                done: transfer.done,
            });
        });
        watch(WorkspaceEvent::DownloadEnded);
        Ok(pushed?)
    }

    /// Downloads the rows that tasks read and that are not on this machine. Returns whether any were; offline none are. Errors: the
    /// hub's.
    pub fn pull_rows<'a>(
        &self,
        tasks: impl Iterator<Item = &'a Task>,
        watch: &mut dyn FnMut(WorkspaceEvent),
    ) -> Result<bool, WorkspaceError> {
        let mut any = false;
        let mut tried: Vec<&Published> = Vec::new();
        for rows in tasks.flat_map(Task::sources).filter(|rows| rows.here.is_none()) {
            if self.hub.offline || tried.contains(&rows) {
                continue;
            }
            tried.push(rows);
            any |= self.pull_rows_of(rows, watch)?;
        }
        Ok(any)
    }

    fn pull_rows_of(
        &self,
        rows: &Published,
        watch: &mut dyn FnMut(WorkspaceEvent),
    ) -> Result<bool, WorkspaceError> {
        let Some((id, file)) = rows.place().repository() else { return Ok(false) };
        watch(WorkspaceEvent::RowsDownload { name: rows.name(), endpoint: self.hub.endpoint.to_string() });
        let tables = match &file {
            Some(file) => Tables::File(file),
            None => Tables::Split { config: rows.config.as_deref(), split: &rows.split },
        };
        let pulled = self.hub.pull_tables(&id, tables, |transfer| {
            watch(WorkspaceEvent::Transfer {
                file: transfer.file.to_owned(),
                size: transfer.size,
                done: transfer.done,
            });
        });
        watch(WorkspaceEvent::DownloadEnded);
        match pulled {
            Ok(_) => Ok(true),
            Err(source) => Err(WorkspaceError::Rows { name: rows.name(), source }),
        }
    }
}
