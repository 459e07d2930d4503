//! Models and rows that a command names: on this machine, or downloaded, which is shown on standard error.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::failure::Failure;
use super::output::{in_one_line, is_json, is_quiet, write_error, write_event};
use crate::hub::{Pulled, RepositoryId};
use crate::plan::PlanStage;
use crate::task::Task;
use crate::workspace::{Workspace, WorkspaceError, WorkspaceEvent};

/// How often the spinner of a plan turns.
const TICK: Duration = Duration::from_millis(120);

/// Shows events: warnings as lines on standard error, downloads and the stages of a plan as a bar there. A run with `--json` writes the
/// stages as events.
#[derive(Debug, Default)]
pub(super) struct EventDisplay {
    bar: Option<ProgressBar>,
    writes_stages: bool,
}

impl EventDisplay {
    /// For a command whose standard output is a stream of events with `--json`.
    pub(super) fn of_run() -> Self {
        Self { bar: None, writes_stages: is_json() }
    }

    pub(super) fn show(&mut self, event: WorkspaceEvent) {
        match event {
            WorkspaceEvent::Planning(stage) => self.plan(&stage),
            WorkspaceEvent::Warning(warning) => {
                let write = || write_error(&format!("warning: {warning}"));
                self.bar.as_ref().map_or_else(write, |bar| bar.suspend(write));
            }
            WorkspaceEvent::ModelDownload { name, endpoint } => {
                self.end();
                write_error(&format!("downloading {name} from {endpoint}"));
                self.begin();
            }
            WorkspaceEvent::Upload { name, endpoint } => {
                self.end();
                write_error(&format!("uploading to {name} at {endpoint}"));
                self.begin();
            }
            WorkspaceEvent::RowsDownload { name, endpoint } => {
                self.end();
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
            WorkspaceEvent::DownloadEnded => self.end(),
        }
    }

    /// Shows a stage of a plan on a terminal.
    fn plan(&mut self, stage: &PlanStage) {
        let (word, name, text) = match stage {
            PlanStage::Sweep { name } => ("sweep", name, format!("planning {name}")),
            PlanStage::Model { name } => ("model", name, format!("reading model {name}")),
            PlanStage::Rows { name } => ("rows", name, format!("encoding data set {name}")),
            PlanStage::Documents { name } => ("documents", name, format!("encoding task {name}")),
        };
        if self.writes_stages {
            // A reader that is gone misses it.
            let _ = write_event(&json!({ "event": "planning", "stage": word, "name": name }));
        }
        if !is_quiet() && !is_json() {
            let bar = self.bar.get_or_insert_with(|| {
                let spinner = ProgressBar::new_spinner();
                spinner.enable_steady_tick(TICK);
                spinner
            });
            bar.set_message(in_one_line(&text));
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

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for EventDisplay {
    fn drop(&mut self) {
        self.end();
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
