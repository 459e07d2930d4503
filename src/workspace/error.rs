//! Why a call cannot do its work. Facts only: whoever shows them knows the words and the exit codes.

use std::path::PathBuf;

use thiserror::Error;

use super::config::ConfigError;
use super::session::SessionError;
use super::slurm::SlurmError;
use crate::data::DataError;
use crate::device::DeviceError;
use crate::engine_process::EngineNotFound;
use crate::hub::HubError;
use crate::job::{IdError, JobId, JobState, SweepName};
use crate::plan::{Blocker, PlanError};
use crate::pretrained::{CheckpointError, TokenizerError};
use crate::queue::QueueError;
use crate::report::{FilterError, UnknownMetric, metric_title};
use crate::runner::RunError;
use crate::store::{LabeledJob, StoreError, StoredSpecError};
use crate::sweep_file::{Problem, SpecError};
use crate::task::{MetricName, TaskError};
use crate::track::TrackError;

/// Why a call cannot do its work.
#[derive(Debug, Error)]
pub enum WorkspaceError {
    /// The sweep file.
    #[error(transparent)]
    SweepFile(#[from] SpecError),
    /// A key that is overridden.
    #[error(transparent)]
    Override(#[from] Problem),
    /// A stored sweep file.
    #[error(transparent)]
    StoredSweepFile(#[from] StoredSpecError),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A task.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A model's files.
    #[error(transparent)]
    Model(#[from] CheckpointError),
    /// A download.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A batch script.
    #[error(transparent)]
    Slurm(#[from] SlurmError),
    /// Rows of a task that cannot be downloaded.
    #[error("data set {name} cannot be downloaded: {source}")]
    Rows {
        /// The data set.
        name: String,
        /// Why.
        source: HubError,
    },
    /// A plan that cannot run.
    #[error("{}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Blocked(Vec<Blocker>),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Devices.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The engine's program.
    #[error(transparent)]
    Engine(#[from] EngineNotFound),
    /// A path that engines cannot be told.
    #[error("the path {} is not UTF-8", .0.display())]
    NotUtf8(PathBuf),
    /// A sweep without a job.
    #[error("sweep '{0}' has no jobs")]
    NoJobs(String),
    /// A sweep of which nothing is done.
    #[error("sweep '{0}' has no results yet")]
    NoResults(String),
    /// A key that there is not.
    #[error("--{option}: unknown key '{name}'")]
    UnknownKey {
        /// What it is said for.
        option: &'static str,
        /// Its name.
        name: String,
    },
    /// A metric that a sweep does not score.
    #[error(transparent)]
    UnknownMetric(#[from] UnknownMetric),
    /// A condition that is not understood.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A condition that no run meets.
    #[error("no run of sweep '{0}' meets the condition")]
    NoRowMeets(String),
    /// A pivot without a value.
    #[error("no job has {rows}, {columns} and a score of {metric}")]
    EmptyPivot {
        /// The key down.
        rows: String,
        /// The key across.
        columns: String,
        /// The metric.
        metric: MetricName,
    },
    /// A sweep without an objective.
    #[error("sweep '{0}' has no objective")]
    NoObjective(String),
    /// A sweep none of whose runs has its objective in every seed.
    #[error("no run of sweep '{sweep}' has its {} yet", metric_title(metric))]
    NoWinner {
        /// The sweep.
        sweep: String,
        /// The objective.
        metric: MetricName,
    },
    /// A sweep whose file has no `[final]`.
    #[error("sweep '{0}' has no held-out tasks")]
    NoFinal(String),
    /// A sweep whose jobs would be dropped from it.
    #[error("sweep '{0}' exists, and its jobs would be dropped from it")]
    SweepExists(SweepName),
    /// A name that is made from another and is none.
    #[error(transparent)]
    Name(#[from] IdError),
    /// A job that is not there.
    #[error(transparent)]
    NoJob(StoreError),
    /// A folder that is not an adapter.
    #[error("adapter {}: {file} not found", folder.display())]
    NoAdapter {
        /// The folder.
        folder: PathBuf,
        /// The file that every adapter has.
        file: &'static str,
    },
    /// A sweep without an adapter on this machine.
    #[error("sweep '{0}' has no adapter on this machine")]
    NoAdapters(String),
    /// An adapter of another base model.
    #[error("job {job} was trained on {trained}, and {} is another model", named.display())]
    OtherModel {
        /// The job.
        job: JobId,
        /// Its model.
        trained: String,
        /// The model that is named.
        named: PathBuf,
    },
    /// A row that the last leaderboard does not have.
    #[error("the last leaderboard has {rows} rows, not {number}")]
    NoRow {
        /// The row.
        number: usize,
        /// How many there are.
        rows: usize,
    },
    /// A clone in which nothing changes.
    #[error("nothing changes: the clone is job {0} itself")]
    SameJob(JobId),
    /// Keys of a training for a job that trains nothing.
    #[error("job {0} is an untrained model: it has no training to change")]
    NothingToChange(JobId),
    /// The label of several jobs.
    #[error("the label '{label}' matches {} jobs", jobs.len())]
    SeveralJobs {
        /// The label.
        label: String,
        /// The jobs, with their sweeps.
        jobs: Vec<LabeledJob>,
    },
    /// A task that a job was not scored on.
    #[error("job {job} has no documents of task '{task}'")]
    NoTaskOfJob {
        /// The job.
        job: JobId,
        /// The task.
        task: String,
        /// Its tasks.
        known: Vec<String>,
    },
    /// Documents that are no longer in the cache.
    #[error("the documents at {} are gone", .0.display())]
    NoDocuments(PathBuf),
    /// A name that is neither a path nor a model of the hub.
    #[error("model {0} not found")]
    NoModel(String),
    /// A tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The engine of a call.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A tracker outside.
    #[error(transparent)]
    Track(TrackError),
    /// A file that cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A folder that is to be written and holds something.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// Two models without a text to compare them on.
    #[error("no text to compare on")]
    NoTexts,
    /// A prompt without a token.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A configuration file or variable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A sweep whose jobs are running.
    #[error("{running} jobs of sweep '{sweep}' are running")]
    SweepRuns {
        /// The sweep.
        sweep: String,
        /// How many of its jobs are running.
        running: u64,
    },
    /// A job that has no score yet.
    #[error("job {job} is {} and has no score yet", state.as_str())]
    NotScored {
        /// The job.
        job: JobId,
        /// The state that it is in.
        state: JobState,
    },
}
