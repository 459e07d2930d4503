//! What a user can do, callable without a shell: typed arguments in, data or an error out, progress as events.

mod adapters;
mod boards;
mod config;
mod control;
mod edit;
mod error;
mod evaluate;
mod examples;
mod export_adapter;
mod fetch;
mod job_names;
mod last_board;
mod leaderboards;
mod live;
mod open;
mod plan;
mod queue;
mod rate;
mod session;
mod slurm;
mod tracking;
mod winner;

pub use adapters::{TrainedAdapter, usual_template};
pub use boards::{Compared, board, compare, report_input, tested_rows};
pub use config::{Config, ConfigError, ConfigFlags, ConfigOrigin, Configured, DATABASE, Launching};
pub use control::{MovedJobs, move_named, retry, set_priority, wait_for_engines};
pub use edit::{CloneRequest, PreparedClone};
pub use error::WorkspaceError;
pub use evaluate::{Evaluated, EvaluationQueue, EvaluationSubject, evaluate};
pub use examples::{ChoiceScore, Example, FilteredAnswer, examples};
pub use export_adapter::{AdapterFormat, ExportedAdapter};
pub use job_names::job_named;
pub use last_board::{job_or_row, remember_board};
pub use leaderboards::{BoardRequest, PivotRequest, ShownBoard, shown_board, shown_pivot};
pub use live::{
    LiveSweep, Phase, RememberedBoard, RunningJob, live_sweep, log_tail, sweep_to_watch, thinned,
};
pub use open::Workspace;
pub use plan::{Prepared, SweepRequest};
pub use queue::{EndedSweep, WorkRequest, remove_sweep, wait_for_sweep};
pub use session::{
    Answer, AnswerError, AnswerPart, AnswerStream, CompareRequest, ComparedModel, GenerationLimits,
    Generator, MergeRequest, Merged, ModelServer, Question, SessionDevice, SessionError, compare_models,
    merge, require_adapter,
};
pub use slurm::{BatchScript, SIGNAL_BEFORE_END, SlurmError, send_batch};
pub use tracking::{SharedTracker, TrackLoop, TrackSummary, forget_tracked, track_sweep, trackers_of};
pub use winner::{Winner, winner};

use crate::job::Bytes;
use crate::plan::PlanStage;

/// What is reported while a call goes on; runs report [`crate::runner::Progress`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkspaceEvent {
    /// What a plan does next.
    Planning(PlanStage),
    /// Something that is right to run and may not be what was meant.
    Warning(String),
    /// A model is downloaded.
    ModelDownload {
        /// The model.
        name: String,
        /// The hub.
        endpoint: String,
    },
    /// Files are uploaded.
    Upload {
        /// The repository.
        name: String,
        /// The hub.
        endpoint: String,
    },
    /// The rows of a data set are downloaded.
    RowsDownload {
        /// The data set.
        name: String,
        /// The hub.
        endpoint: String,
    },
    /// How far a file of a download or an upload is.
    Transfer {
        /// The file.
        file: String,
        /// Its bytes.
        size: Bytes,
        /// Those that are there.
        done: Bytes,
    },
    /// A download or an upload ended.
    DownloadEnded,
}
