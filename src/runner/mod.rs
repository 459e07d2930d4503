//! The one loop that knows scheduler, device, store and worker: it carries out a plan.

mod begin;
mod death;
mod ending;
mod error;
mod heartbeat;
mod job;
mod keep;
mod limits;
mod pack;
mod run;
mod slot;
mod summary;
mod trouble;
mod watch;

pub use error::RunError;
pub use limits::Limits;
pub use run::Runner;
pub use summary::{RunSummary, Stopped};

use crate::job::JobId;
use crate::protocol::StepReport;
use crate::store::AttemptEnd;

/// What a watcher is told while a plan runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// An engine is loading the model.
    Loading,
    /// A job began.
    Started {
        /// The job.
        job: JobId,
        /// Its label.
        label: String,
        /// Whether it trains first.
        trains: bool,
    },
    /// A job made an optimizer step.
    Step {
        /// The job.
        job: JobId,
        /// The step.
        report: StepReport,
    },
    /// A job is being scored.
    Scoring {
        /// The job.
        job: JobId,
        /// Documents scored.
        done: u64,
        /// Documents to score.
        total: u64,
    },
    /// A job was taken away: paused, cancelled, or given to another process.
    LetGo {
        /// Its label.
        label: String,
        /// What became of it.
        outcome: &'static str,
    },
    /// Jobs wait because strangers hold the memory of cards.
    WaitingForMemory {
        /// How many.
        jobs: usize,
    },
    /// Files that jobs need are away; nothing starts for a while.
    Waiting {
        /// What is away.
        reason: String,
        /// How long nothing starts.
        pause: std::time::Duration,
    },
    /// The disk of the logs is full: jobs go on, and their lines are lost.
    LogsLost {
        /// The folder.
        folder: std::path::PathBuf,
    },
    /// A device is left alone from now on.
    Quarantined {
        /// The device.
        device: String,
        /// Why.
        reason: String,
    },
    /// A job ended.
    Ended {
        /// The job.
        job: JobId,
        /// Its label.
        label: String,
        /// How.
        end: AttemptEnd,
    },
}
