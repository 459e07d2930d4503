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
use crate::report::{FilterError, UnknownMetric};
use crate::runner::RunError;
use crate::store::{StoreError, StoredSpecError};
use crate::sweep_file::{Problem, SpecError};
use crate::task::TaskError;
use crate::web::WebError;
use crate::workspace::SessionError;

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
                let help =
                    "name a sweep file, or - for standard input; `loragrid work` continues a submitted sweep"
                        .to_owned();
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
                format!("download it with `loragrid model pull {name}` or `loragrid run`, or name a path"),
            ),
            PlanError::Samples { .. } => {
                let help = "[samples] takes prompts = [\"…\"], rows = N and max_tokens = N".to_owned();
                Self::new(ExitCode::SweepFile, message, help)
            }
            PlanError::GenKwargs { .. } => {
                let help =
                    "write key=value pairs separated by commas, such as temperature=0.7,top_p=0.9".to_owned();
                Self::new(ExitCode::SweepFile, message, help)
            }
            PlanError::ChatTemplate { .. } => {
                let help = "remove apply_chat_template, or use a model whose tokenizer has a chat template"
                    .to_owned();
                Self::new(ExitCode::Model, message, help)
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
                (ExitCode::NotFound, format!("existing sweeps: {}", known.join(", ")))
            }
            StoreError::NoJob { .. } => {
                (ExitCode::NotFound, "`loragrid top` shows the ids of a sweep's jobs".into())
            }
            StoreError::Empty | StoreError::NoDatabase { .. } => (
                ExitCode::NotFound,
                "`loragrid run SWEEP.toml` creates it; use --db for another file".into(),
            ),
            StoreError::NoRoom { .. } => {
                (ExitCode::Disk, "free some space (`loragrid gc -n` lists what can be deleted), or use a database on another disk with --db".into())
            }
            StoreError::Full => (
                ExitCode::Disk,
                "free some space (`loragrid gc -n` lists what can be deleted), then run the same command to continue".into(),
            ),
            StoreError::Network { .. } => {
                (ExitCode::Database, "use a file on a local disk with --db or LORAGRID_DB; where the file system has working POSIX locks, LORAGRID_JOURNAL=rollback uses them".into())
            }
            StoreError::Server { .. } => (
                ExitCode::Database,
                "check the address and the server; a password comes from PGPASSWORD, or from the file that PGPASSFILE names (~/.pgpass)".into(),
            ),
            StoreError::Artifacts(_) => (
                ExitCode::Database,
                "check --artifacts and the store; keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, another server than Amazon's from AWS_ENDPOINT_URL".into(),
            ),
            StoreError::ServerSchema { .. } => {
                (ExitCode::Database, "the user must be allowed to create tables there, once; PostgreSQL 13 or newer".into())
            }
            StoreError::NewerServer { .. } => {
                (ExitCode::Database, "use the newer loragrid on every machine".into())
            }
            StoreError::ForeignCopy { path } => {
                (ExitCode::Database, format!("delete {} to copy anew", path.display()))
            }
            StoreError::ImportToServer => {
                (ExitCode::Usage, "import into a file with --db FILE, and compare there".into())
            }
            StoreError::Journal { .. } => {
                (ExitCode::Usage, "unset it for a database on a local disk".into())
            }
            StoreError::Replaced { .. } => (
                ExitCode::Database,
                "checkpoints are kept; run the same command to continue with the current file"
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
            StoreError::NoOperation { .. } => {
                (ExitCode::NotFound, "`loragrid undo --list` shows what was done".into())
            }
            StoreError::NotUndoable { .. } => {
                (ExitCode::Usage, "`loragrid undo --list` shows what was done".into())
            }
            StoreError::Busy { .. } => {
                (ExitCode::Database, "stop it, or wait until it has ended".into())
            }
            StoreError::ForeignFolder { marker, .. } => (
                ExitCode::Database,
                format!(
                    "use a database in another folder with --db; if the other database no longer exists, delete {} to use its folder",
                    marker.display()
                ),
            ),
            StoreError::Open { .. } | StoreError::Migrate { .. } => {
                (ExitCode::Database, "check the path and its permissions, or use another with --db".into())
            }
            StoreError::Sql(_) | StoreError::Value { .. } | StoreError::Fenced { .. } => {
                (ExitCode::Database, "results are kept; run the same command again".into())
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

impl From<WebError> for Failure {
    fn from(error: WebError) -> Self {
        let message = error.to_string();
        match error {
            WebError::Bind { .. } => {
                Self::new(ExitCode::Usage, message, "use another --port; 0 takes a free one".to_owned())
            }
            WebError::NoToken(_) => {
                let help = "set LORAGRID_TOKEN, or name a file with --token-file".to_owned();
                Self::new(ExitCode::Usage, message, help)
            }
            WebError::BadToken => {
                Self::new(ExitCode::Usage, message, "use letters, digits and punctuation".to_owned())
            }
            WebError::Serve(_) => Self::new(ExitCode::Internal, message, None),
        }
    }
}

impl From<UnknownMetric> for Failure {
    fn from(error: UnknownMetric) -> Self {
        let help = match error.known.as_slice() {
            [] => "it has no task".to_owned(),
            known => format!("it scores {}", known.join(", ")),
        };
        Self::new(ExitCode::NotFound, error.to_string(), help)
    }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        let help =
            "such as \"lora.rank >= 64 && arc_easy > 0.4\"; `loragrid keys` lists the keys, and a score is named task or task:metric"
                .to_owned();
        let place = match &error {
            FilterError::Text { span, .. } => format!(" at character {}", span.start + 1),
            FilterError::NotBool => String::new(),
        };
        Self::new(ExitCode::Usage, format!("--where{place}: {error}"), help)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        match error {
            SessionError::Device(_) | SessionError::NotOneDevice(_) => {
                let help = "use cpu, or one GPU as cuda:0; `loragrid doctor` lists them".to_owned();
                Self::new(ExitCode::Usage, message, help)
            }
            SessionError::NoEngine(error) => error.into(),
            SessionError::NoGpu(_) => {
                let help = "it was built without CUDA, or the driver lost the GPU; use --device cpu";
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
            DeviceError::Mig { .. } => "use other GPUs with --devices, or --devices cpu",
            DeviceError::Visible { .. } => {
                "name each GPU once, by its index or full UUID; `nvidia-smi -L` lists them"
            }
            _ => "use auto, cpu, cpu:N for N slots, cuda, or cuda:0,2",
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
                "`loragrid doctor` lists the devices; --devices cpu uses the CPU".to_owned(),
            ),
            RunError::DiskFull(_) => Self::new(
                ExitCode::Disk,
                error.to_string(),
                "free some space (`loragrid gc -n` lists what can be deleted), then run the same command to continue"
                    .to_owned(),
            ),
            RunError::Worker(_) | RunError::Order(_) | RunError::Protocol { .. } | RunError::NoDevice(_) => {
                Self::new(
                    ExitCode::Engine,
                    message,
                    "see the log in the folder logs beside the database".to_owned(),
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
