//! The main loop that connects scheduler, devices, queue and engine processes: it runs queued jobs of all sweeps.

mod artifacts;
mod attempt_end;
mod begin;
mod crash;
mod engines;
mod error;
mod inputs;
mod intake;
mod job;
mod keep;
mod known;
mod limits;
mod liveness;
mod pack;
mod run;
mod slot;
mod summary;
mod tally;
mod trouble;
mod usage;

pub use engines::{EngineControl, EngineMessage, EngineMessages, EngineProcesses, Engines};
pub use error::RunError;
pub use inputs::Inputs;
pub use keep::Keeper;
pub use limits::Limits;
pub use run::Runner;
pub use summary::{RunSummary, Stopped};

use crate::job::{JobId, SlotId};
use crate::protocol::StepReport;
use crate::queue::{AttemptEnd, Taken};

/// Progress events of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The first job of a sweep starts.
    SweepStarted {
        /// The sweep.
        sweep: String,
        /// Number of jobs to run.
        jobs: usize,
    },
    /// No jobs of a sweep are left, or the run stopped.
    SweepEnded {
        /// The sweep.
        sweep: String,
        /// Summary of its jobs.
        summary: Box<RunSummary>,
    },
    /// A sweep cannot go on.
    SweepFailed {
        /// The sweep.
        sweep: String,
        /// Remaining jobs.
        jobs: usize,
        /// Why.
        error: String,
    },
    /// The number of jobs.
    Total {
        /// Ended and remaining jobs.
        jobs: usize,
    },
    /// Jobs cannot run on this machine and stay queued.
    Unavailable {
        /// Number of jobs.
        jobs: usize,
        /// The missing input.
        reason: String,
    },
    /// The engine of a slot is loading the model.
    Loading {
        /// The slot.
        slot: SlotId,
        /// Its device.
        device: String,
    },
    /// A job started.
    Started {
        /// The job.
        job: JobId,
        /// Its label.
        label: String,
        /// Whether it trains first.
        trains: bool,
        /// The slot.
        slot: SlotId,
        /// Its device.
        device: String,
    },
    /// A job finished an optimizer step.
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
    /// A job was paused, cancelled or taken over.
    LetGo {
        /// The job.
        job: JobId,
        /// Its label.
        label: String,
        /// How.
        taken: Taken,
    },
    /// Jobs wait because other processes hold GPU memory.
    WaitingForMemory {
        /// Number of jobs.
        jobs: usize,
    },
    /// Files that jobs need are missing; nothing starts for a while.
    Waiting {
        /// What is missing.
        reason: String,
        /// Length of the pause.
        pause: std::time::Duration,
    },
    /// The disk of the logs is full: jobs continue, and log lines are lost.
    LogsLost {
        /// The folder.
        folder: std::path::PathBuf,
    },
    /// A device is quarantined.
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
