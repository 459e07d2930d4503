//! Models and rows that a command names: on this machine, or downloaded, which is shown on standard error.

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use super::failure::Failure;
use super::output::write_error;
use crate::hub::{Pulled, RepositoryId};
use crate::task::Task;
use crate::workspace::{Workspace, WorkspaceError, WorkspaceEvent};

/// Shows events on standard error: warnings as lines, a download as a bar.
#[derive(Debug, Default)]
pub(super) struct EventDisplay {
    bar: Option<ProgressBar>,
}

impl EventDisplay {
    pub(super) fn show(&mut self, event: WorkspaceEvent) {
        match event {
            WorkspaceEvent::Warning(warning) => write_error(&format!("warning: {warning}")),
            WorkspaceEvent::ModelDownload { name, endpoint } => {
                write_error(&format!("downloading {name} from {endpoint}"));
                self.begin();
            }
            WorkspaceEvent::Upload { name, endpoint } => {
                write_error(&format!("uploading to {name} at {endpoint}"));
                self.begin();
            }
            WorkspaceEvent::RowsDownload { name, endpoint } => {
                write_error(&format!("downloading data set {name} from {endpoint}"));
                self.begin();
            }
            WorkspaceEvent::Transfer { file, size, done } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(file);
                    bar.set_length(size.0);
                    bar.set_position(done.0);
                }
            }
            WorkspaceEvent::DownloadEnded => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }

    fn begin(&mut self) {
        let bar = ProgressBar::new(0);
        let template = "{msg} {bar:24} {bytes} of {total_bytes} {bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        self.bar = Some(bar);
    }
}

/// The path of a model: as it is named, in the cache, or downloaded now. Errors: neither path nor id, the hub's.
pub(super) fn local_model(name: &str, workspace: &Workspace) -> Result<PathBuf, Failure> {
    let mut display = EventDisplay::default();
    Ok(workspace.model(name, &mut |event| display.show(event))?)
}

/// Parses an id. Error: it is none.
pub(super) fn repository_id(name: &str) -> Result<RepositoryId, Failure> {
    Ok(RepositoryId::parse(name).ok_or_else(|| WorkspaceError::NoModel(name.to_owned()))?)
}

/// Downloads a model.
pub(super) fn pull(id: &RepositoryId, workspace: &Workspace) -> Result<Pulled, Failure> {
    let mut display = EventDisplay::default();
    Ok(workspace.pull_model(id, &mut |event| display.show(event))?)
}

/// Downloads the rows that tasks read and that are not on this machine; whether any were.
pub(super) fn pull_rows<'a>(
    tasks: impl Iterator<Item = &'a Task>,
    workspace: &Workspace,
) -> Result<bool, Failure> {
    let mut display = EventDisplay::default();
    Ok(workspace.pull_rows(tasks, &mut |event| display.show(event))?)
}
