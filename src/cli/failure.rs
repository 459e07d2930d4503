//! Errors at the edge: one exit code, a message, a place, a fix.

use std::ops::Range;
use std::path::PathBuf;

use miette::{GraphicalReportHandler, LabeledSpan, MietteDiagnostic, NamedSource, Report};
use serde_json::{Value as Json, json};

use super::exit_code::ExitCode;
use super::output::{ascii_only, in_ascii, terminal_width, write_error};
use crate::data::DataError;
use crate::device::DeviceError;
use crate::engine_process::EngineNotFound;
use crate::hub::HubError;
use crate::plan::{Blocker, PlanError};
use crate::pretrained::CheckpointError;
use crate::queue::QueueError;
use crate::runner::RunError;
use crate::store::{StoreError, StoredSpecError};
use crate::sweep_file::{Problem, SourceText, SpecError};
use crate::task::TaskError;
use crate::workspace::WorkspaceError;

/// What the user is told when a command cannot do its work.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: ExitCode,
    details: Vec<Detail>,
}

/// One problem.
#[derive(Debug)]
struct Detail {
    message: String,
    help: Option<String>,
    place: Option<Location>,
}

/// Where it is.
#[derive(Debug)]
struct Location {
    file: PathBuf,
    line: Option<usize>,
    source: Option<(SourceText, Range<usize>)>,
}

impl Failure {
    /// A failure without a place.
    pub(super) fn new(code: ExitCode, message: impl Into<String>, help: impl Into<Option<String>>) -> Self {
        Self { code, details: vec![Detail { message: message.into(), help: help.into(), place: None }] }
    }

    fn at(mut self, file: PathBuf, line: Option<usize>) -> Self {
        if let Some(detail) = self.details.first_mut() {
            detail.place = Some(Location { file, line, source: None });
        }
        self
    }

    /// A problem of `--set`.
    pub(super) fn of_override(problem: &Problem) -> Self {
        Self::new(ExitCode::Usage, format!("--set: {problem}"), problem.help())
    }

    /// A plan that cannot run, with everything that is missing; `None` if nothing is.
    pub(super) fn of_blockers(blockers: &[Blocker]) -> Option<Self> {
        let code = match blockers.first()? {
            Blocker::Model { .. } => ExitCode::Model,
            Blocker::Data { .. } => ExitCode::Data,
            Blocker::Documents { .. } => ExitCode::Task,
        };
        let detail = |blocker: &Blocker| Detail {
            message: blocker.to_string(),
            help: Some(blocker.help().to_owned()),
            place: None,
        };
        Some(Self { code, details: blockers.iter().map(detail).collect() })
    }

    /// Prints to standard error: for people, or as one JSON object.
    pub(super) fn print(&self, json: bool) {
        if json {
            return write_error(&self.json().to_string());
        }
        for detail in &self.details {
            let text = detail.render();
            write_error(&if ascii_only() { in_ascii(&text) } else { text });
        }
    }

    /// {error: {code, message, file, line, column, help}}; further problems of the same file in `others`.
    fn json(&self) -> Json {
        let mut details = self.details.iter().map(Detail::json);
        let mut error = details.next().unwrap_or_else(|| json!({}));
        error["code"] = json!(self.code.as_str());
        let others: Vec<Json> = details.collect();
        if !others.is_empty() {
            error["others"] = json!(others);
        }
        json!({ "error": error })
    }
}

impl Detail {
    fn line_and_column(&self) -> (Option<usize>, Option<usize>) {
        match &self.place {
            Some(Location { source: Some((source, span)), .. }) => {
                let (line, column) = source.place(span.start);
                (Some(line), Some(column))
            }
            Some(Location { line, .. }) => (*line, None),
            None => (None, None),
        }
    }

    fn json(&self) -> Json {
        let (line, column) = self.line_and_column();
        json!({
            "code": null,
            "message": self.message,
            "file": self.place.as_ref().map(|place| place.file.display().to_string()),
            "line": line,
            "column": column,
            "help": self.help,
        })
    }

    fn render(&self) -> String {
        let mut diagnostic = MietteDiagnostic::new(self.message.clone());
        if let Some(help) = &self.help {
            diagnostic = diagnostic.with_help(help.clone());
        }
        let source = self.place.as_ref().and_then(|place| place.source.as_ref());
        let report = match source {
            Some((source, span)) => {
                let label = LabeledSpan::new_with_span(None, (span.start, span.len()));
                let named = NamedSource::new(source.path().display().to_string(), source.text().to_owned());
                Report::new(diagnostic.with_label(label)).with_source_code(named)
            }
            None => Report::new(diagnostic),
        };
        let mut text = String::new();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|own| !own.is_empty());
        let handler = match !plain && std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            true => GraphicalReportHandler::new()
                .with_width(terminal_width().map_or(100, |width| usize::from(width.max(40)))),
            false => GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor()),
        };
        match handler.render_report(&mut text, report.as_ref()) {
            Ok(()) => text.trim_end().to_owned(),
            Err(_) => self.message.clone(),
        }
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        match error {
            SpecError::Problems { source_text, problems } => {
                let detail = |(problem, span): (Problem, Range<usize>)| Detail {
                    message: problem.to_string(),
                    help: Some(problem.help()),
                    place: Some(Location {
                        file: source_text.path().to_owned(),
                        line: None,
                        source: Some(((*source_text).clone(), span)),
                    }),
                };
                Self { code: ExitCode::SweepFile, details: problems.into_iter().map(detail).collect() }
            }
            SpecError::Io { ref path, .. } => {
                let help = "name an existing sweep file, or - to read one from standard input; a sweep that was submitted goes on with `loragrid work`".to_owned();
                Self::new(ExitCode::SweepFile, error.to_string(), help).at(path.clone(), None)
            }
            SpecError::Encoding { ref path, .. } => {
                let help = "save the file as UTF-8".to_owned();
                Self::new(ExitCode::SweepFile, error.to_string(), help).at(path.clone(), None)
            }
        }
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        let failure = Self::new(ExitCode::Data, error.to_string(), error.help());
        match error {
            DataError::Io { path, .. } | DataError::Format { path } | DataError::File { path, .. } => {
                failure.at(path, None)
            }
            DataError::Line { path, line, .. } => failure.at(path, Some(line)),
            _ => failure,
        }
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        let failure = Self::new(ExitCode::Task, error.to_string(), error.help());
        match error {
            TaskError::Io { file, .. } | TaskError::Malformed { file, .. } => {
                failure.at(PathBuf::from(file), None)
            }
            _ => failure,
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let message = error.to_string();
        match error {
            PlanError::Spec(error) => error.into(),
            PlanError::Data(error) => error.into(),
            PlanError::Task(error) => error.into(),
            PlanError::Checkpoint(error) => error.into(),
            PlanError::Tokenizer(_) => {
                Self::new(ExitCode::Model, message, "use a checkpoint with its tokenizer".to_owned())
            }
            PlanError::SameJob { .. } => {
                Self::new(ExitCode::SweepFile, message, "remove one of the two cells".to_owned())
            }
            PlanError::NoSteps { .. } => Self::new(
                ExitCode::SweepFile,
                message,
                "raise train.iterations or train.epochs, or lower train.batch_size".to_owned(),
            ),
            PlanError::Objective { .. } => Self::new(
                ExitCode::SweepFile,
                message,
                "name a task of eval, or one of its metrics as task:metric".to_owned(),
            ),
            PlanError::NotPulled { name } => Self::new(
                ExitCode::Model,
                message,
                format!("`loragrid model pull {name}` brings it, and so does `loragrid run`; or name a path"),
            ),
            PlanError::Samples { .. } => {
                let help = "[samples] takes prompts = [\"…\"], rows = N and max_tokens = N".to_owned();
                Self::new(ExitCode::SweepFile, message, help)
            }
            PlanError::Setting(_) => Self::new(ExitCode::Internal, message, None),
        }
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        let help = error.help();
        Self::new(ExitCode::Model, error.to_string(), help)
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        let (help, path) = (error.help().to_owned(), error.path().to_owned());
        Self::new(ExitCode::Model, error.to_string(), help).at(path, None)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        let (code, help) = match &error {
            StoreError::NoSweep { known, .. } => {
                (ExitCode::NotFound, format!("sweeps there: {}", known.join(", ")))
            }
            StoreError::NoJob { .. } => {
                (ExitCode::NotFound, "`loragrid top --columns jobs` shows the ids of a sweep's jobs".into())
            }
            StoreError::Empty | StoreError::NoDatabase { .. } => (
                ExitCode::NotFound,
                "`loragrid run SWEEP.toml` makes the first results; --db names another file".into(),
            ),
            StoreError::NoRoom { .. } => {
                (ExitCode::Disk, "free some space (`loragrid gc --dry-run` shows what may go), or name a database on another disk with --db".into())
            }
            StoreError::Full => (
                ExitCode::Disk,
                "free some space (`loragrid gc --dry-run` shows what may go); the same command goes on".into(),
            ),
            StoreError::Network { .. } => {
                (ExitCode::Database, "name a file on a disk of this machine with --db or LORAGRID_DB".into())
            }
            StoreError::Replaced { .. } => (
                ExitCode::Database,
                "what engines had written down is kept; the same command goes on with the file that is there now"
                    .into(),
            ),
            StoreError::OldSchema { path } => (
                ExitCode::Database,
                format!("`loragrid --db {} db upgrade` upgrades it, after a copy", path.display()),
            ),
            StoreError::NewerSchema { .. } => {
                (ExitCode::Database, "use the newer loragrid, or another database with --db".into())
            }
            StoreError::NoTables { .. } => (
                ExitCode::Database,
                "copy the -wal file too, or start anew with `loragrid run SWEEP.toml` and another --db".into(),
            ),
            StoreError::Busy { .. } => {
                (ExitCode::Database, "stop it first, or wait until it ends".into())
            }
            StoreError::ForeignFolder { marker, .. } => (
                ExitCode::Database,
                format!(
                    "name a database in a folder of its own with --db; if the other one is gone, remove {} to use its folder",
                    marker.display()
                ),
            ),
            StoreError::Open { .. } | StoreError::Migrate { .. } => {
                (ExitCode::Database, "check the path and its permissions, or name another with --db".into())
            }
            StoreError::Sql(_) | StoreError::Value { .. } | StoreError::Fenced { .. } => {
                (ExitCode::Database, "results so far are kept; run the same command again".into())
            }
        };
        Self::new(code, message, help)
    }
}

impl From<EngineNotFound> for Failure {
    fn from(error: EngineNotFound) -> Self {
        Self::new(ExitCode::NoEngine, error.to_string(), None)
    }
}

impl From<WorkspaceError> for Failure {
    fn from(error: WorkspaceError) -> Self {
        let message = error.to_string();
        match error {
            WorkspaceError::SweepFile(error) => error.into(),
            WorkspaceError::Override(problem) => Self::of_override(&problem),
            WorkspaceError::StoredSweepFile(error) => error.into(),
            WorkspaceError::Plan(error) => error.into(),
            WorkspaceError::Data(error) => error.into(),
            WorkspaceError::Task(error) => error.into(),
            WorkspaceError::Model(error) => error.into(),
            WorkspaceError::Hub(error) => error.into(),
            WorkspaceError::Store(error) => error.into(),
            WorkspaceError::Queue(error) => error.into(),
            WorkspaceError::Run(error) => error.into(),
            WorkspaceError::Device(error) => error.into(),
            WorkspaceError::Engine(error) => error.into(),
            WorkspaceError::Rows { name, source } => {
                let help = format!("{}; or {}", source.help(), DataError::NotLocal { name }.help());
                Self::new(ExitCode::Task, message, help)
            }
            WorkspaceError::Blocked(blockers) => {
                Self::of_blockers(&blockers).unwrap_or_else(|| Self::new(ExitCode::Blocked, message, None))
            }
            WorkspaceError::NotUtf8(_) => {
                let help = "rename the folder, or name a database in another one with --db".to_owned();
                Self::new(ExitCode::Usage, message, help)
            }
            WorkspaceError::NoJobs(_) => {
                let help = "`loragrid status` lists the sweeps with their jobs".to_owned();
                Self::new(ExitCode::NotFound, message, help)
            }
            WorkspaceError::NoResults(_) => {
                Self::new(ExitCode::NotFound, message, "`loragrid work` runs what is queued".to_owned())
            }
            WorkspaceError::NoObjective(_) | WorkspaceError::NoWinner { .. } => {
                let help = "`loragrid top` shows where each run stands; `loragrid work` goes on".to_owned();
                Self::new(ExitCode::NotFound, message, help)
            }
            WorkspaceError::NotScored { job, .. } => {
                let help = format!("`loragrid explain {job}` says why; compare it when it is scored");
                Self::new(ExitCode::NotFound, message, help)
            }
        }
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let help = match &error {
            DeviceError::Mig { .. } => "name other GPUs with --devices, or --devices cpu",
            DeviceError::Visible { .. } => {
                "name each GPU once, by its number or its whole UUID; `nvidia-smi -L` lists them"
            }
            _ => "write auto, cpu, cpu:N for N slots, or cuda:0,2",
        };
        Self::new(ExitCode::Usage, error.to_string(), help.to_owned())
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        match error.0.downcast::<StoreError>() {
            Ok(error) => (*error).into(),
            Err(error) => Self::new(ExitCode::Database, error.to_string(), None),
        }
    }
}

impl From<StoredSpecError> for Failure {
    fn from(error: StoredSpecError) -> Self {
        match error {
            StoredSpecError::File(error) => error.into(),
            StoredSpecError::Override(problem) => Self::of_override(&problem),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let message = error.to_string();
        match error {
            RunError::Store(error) => error.into(),
            RunError::Queue(error) => error.into(),
            RunError::Folder { .. } => Self::new(
                ExitCode::Database,
                message,
                "results go beside the database; name another with --db".to_owned(),
            ),
            RunError::NoCuda => Self::new(ExitCode::Engine, message, None),
            RunError::Device(_) => Self::new(
                ExitCode::Engine,
                message,
                "`loragrid doctor` shows the devices; --devices cpu does without cards".to_owned(),
            ),
            RunError::DiskFull(_) => Self::new(
                ExitCode::Disk,
                error.to_string(),
                "free some space (`loragrid gc --dry-run` shows what may go); the same command goes on"
                    .to_owned(),
            ),
            RunError::Worker(_) | RunError::Order(_) | RunError::Protocol { .. } | RunError::NoDevice(_) => {
                Self::new(
                    ExitCode::Engine,
                    message,
                    "its log is in the folder logs beside the database".to_owned(),
                )
            }
        }
    }
}

impl From<std::io::Error> for Failure {
    /// Of writing to standard output.
    fn from(error: std::io::Error) -> Self {
        Self::new(ExitCode::Internal, format!("output failed: {error}"), None)
    }
}
