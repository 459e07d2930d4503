//! Every error of the rooms below as a failure: its exit code and what mends it.

use std::ops::Range;
use std::path::PathBuf;

use super::{Detail, Failure, Location};
use crate::cli::exit_code::ExitCode;
use crate::data::DataError;
use crate::device::DeviceError;
use crate::engine_process::EngineNotFound;
use crate::hub::HubError;
use crate::plan::PlanError;
use crate::pretrained::CheckpointError;
use crate::protocol::FailureKind;
use crate::queue::QueueError;
use crate::runner::RunError;
use crate::store::{LabeledJob, StoreError, StoredSpecError};
use crate::sweep_file::{Problem, SpecError};
use crate::task::TaskError;
use crate::workspace::{SessionError, WorkspaceError};

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
            WorkspaceError::NoFinal(_) => {
                let help =
                    "add [final] with eval = [\"…\"] to the sweep file, and run it again: nothing is trained twice"
                        .to_owned();
                Self::new(ExitCode::SweepFile, message, help)
            }
            WorkspaceError::SweepExists(_) => {
                let help = "give the clone another --name, or leave it out".to_owned();
                Self::new(ExitCode::Usage, message, help)
            }
            WorkspaceError::Name(_) => {
                Self::new(ExitCode::Usage, message, "give the sweep a shorter name".to_owned())
            }
            WorkspaceError::NoJob(_) => {
                let help = "name a job by the start of its id or by its label as `loragrid top` prints it, such as \
                            'r=16 lr=0.002'; `loragrid top --columns jobs` shows the ids";
                Self::new(ExitCode::NotFound, message, help.to_owned())
            }
            WorkspaceError::SeveralJobs { jobs, .. } => {
                Self::new(ExitCode::NotFound, message, format!("name one of {}", listed(&jobs)))
            }
            WorkspaceError::NoModel(_) => {
                let help =
                    "name a .gguf file, a checkpoint folder, or a hub id such as HuggingFaceTB/SmolLM2-135M";
                Self::new(ExitCode::Model, message, help.to_owned())
            }
            WorkspaceError::Tokenizer(_) => {
                Self::new(ExitCode::Model, message, "use a checkpoint with its tokenizer".to_owned())
            }
            WorkspaceError::Session(error) => error.into(),
            WorkspaceError::NotEmpty(_) => {
                let help = "name a folder that is not there yet, or remove this one".to_owned();
                Self::new(ExitCode::Usage, message, help)
            }
            WorkspaceError::NoTexts | WorkspaceError::EmptyPrompt => {
                Self::new(ExitCode::Usage, message, None)
            }
            WorkspaceError::NotScored { job, .. } => {
                let help = format!("`loragrid explain {job}` says why; compare it when it is scored");
                Self::new(ExitCode::NotFound, message, help)
            }
        }
    }
}

/// Jobs that an error lists.
const LISTED: usize = 12;

fn listed(jobs: &[LabeledJob]) -> String {
    let line = |job: &LabeledJob| format!("{:.12} ({}/{})", job.id.as_str(), job.sweep, job.label);
    let lines: Vec<String> = jobs.iter().take(LISTED).map(line).collect();
    let more = jobs.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", lines.join(", "))
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        match error {
            SessionError::Device(_) | SessionError::NotOneDevice(_) => {
                let help = "name cpu, or one GPU as cuda:0; `loragrid doctor` shows them".to_owned();
                Self::new(ExitCode::Usage, message, help)
            }
            SessionError::NoEngine(error) => error.into(),
            SessionError::NoGpu(_) => {
                let help = "it was built without CUDA, or the driver lost the GPU; --device cpu works";
                Self::new(ExitCode::Engine, message, help.to_owned())
            }
            SessionError::Failed(failure) => {
                let code = match failure.kind {
                    FailureKind::BadInput => ExitCode::Model,
                    FailureKind::Diverged
                    | FailureKind::Environment
                    | FailureKind::Internal
                    | FailureKind::OutOfMemory
                    | FailureKind::DiskFull => ExitCode::Engine,
                };
                Self::new(code, message, None)
            }
            SessionError::Process(_)
            | SessionError::Order(_)
            | SessionError::Ended(_)
            | SessionError::OtherAnswer => Self::new(ExitCode::Engine, message, None),
            SessionError::Output(_) => Self::new(ExitCode::Internal, message, None),
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
