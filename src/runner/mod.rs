//! The one loop that knows scheduler, device, queue and engine processes: it runs the jobs of a queue, of every sweep.

mod attempt_end;
mod begin;
mod crash;
mod error;
mod inputs;
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

pub use error::RunError;
pub use inputs::Inputs;
pub use keep::Keeper;
pub use limits::Limits;
pub use run::Runner;
pub use summary::{RunSummary, Stopped};

use crate::job::{JobId, SlotId};
use crate::protocol::StepReport;
use crate::queue::{AttemptEnd, Taken};

/// What is reported while jobs run.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The first job of a sweep begins.
    SweepStarted {
        /// The sweep.
        sweep: String,
        /// Jobs that are to run.
        jobs: usize,
    },
    /// Nothing of a sweep is left, or the run stopped.
    SweepEnded {
        /// The sweep.
        sweep: String,
        /// What its jobs came to.
        summary: Box<RunSummary>,
    },
    /// A sweep cannot go on.
    SweepFailed {
        /// The sweep.
        sweep: String,
        /// Jobs that are left.
        jobs: usize,
        /// Why.
        error: String,
    },
    /// There are so many jobs.
    Total {
        /// Jobs that ended and jobs that are left.
        jobs: usize,
    },
    /// Jobs cannot run on this machine, and stay queued.
    Unavailable {
        /// How many.
        jobs: usize,
        /// What is missing.
        reason: String,
    },
    /// The engine of a slot is loading the model.
    Loading {
        /// The slot.
        slot: SlotId,
        /// Its device.
        device: String,
    },
    /// A job began.
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
        /// The job.
        job: JobId,
        /// Its label.
        label: String,
        /// How.
        taken: Taken,
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
