//! The queue: jobs that wait, who runs them, and what attempts record. One trait, held alike by every implementation: memory here,
//! SQLite in `store`.

mod attempt;
mod memory;
mod observer;
mod owner;
mod records;
#[cfg(test)]
pub(crate) mod suite;
pub mod suspicion;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

pub use attempt::{Attempt, AttemptEnd, Taken};
pub use memory::MemoryQueue;
pub use observer::Observer;
pub use owner::Owner;
pub use records::{AttemptResults, Record, ScoreRecord, StoredDocument, StoredSample, TrainingRecord};

use crate::device::Slot;
use crate::job::{Digest, JobId, JobState, ScoreKey, Transition};
use crate::orders::JobOrder;

/// Why an operation on a queue failed; the cause is the implementation's own error.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct QueueError(pub Box<dyn std::error::Error + Send + Sync>);

/// A job that is put into the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// Its order, with what the submitting sweep wants.
    pub order: JobOrder,
    /// Whether nothing of it is missing: it is not queued.
    pub is_done: bool,
}

/// A job that is queued or running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveJob {
    /// The job.
    pub id: JobId,
    /// Whether an attempt has it.
    pub state: JobState,
    /// Counts the changes of its order.
    pub revision: i64,
    /// Whether its last attempt ended with the end of its process: it runs alone, so that the others of a pack are not taken along.
    pub suspect: bool,
}

/// What of a job is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// Whether its adapter is trained and on disk.
    pub trained: bool,
    /// Whether its adapter was trained and was removed from disk since.
    pub removed: bool,
    /// Keys of whole scores.
    pub scored: HashSet<ScoreKey>,
    /// Documents that are scored of tasks that are not whole.
    pub documents: HashMap<ScoreKey, BTreeSet<usize>>,
    /// Keys of answered samples.
    pub sampled: HashSet<Digest>,
}

/// Jobs that are to be claimed for a slot, all of those that are still queued.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// The jobs.
    pub jobs: &'a [JobId],
    /// The claiming process.
    pub owner: &'a Owner,
    /// The slot.
    pub slot: &'a Slot,
    /// Most tokens of one pass.
    pub token_budget: usize,
}

/// How an attempt is closed.
#[derive(Debug, Clone, PartialEq)]
pub enum Closing {
    /// It ended, with what it has done and not recorded yet.
    End(AttemptEnd, Box<AttemptResults>),
    /// Its job was taken from it.
    LetGo(Taken),
}

impl Closing {
    /// An end without anything that is not recorded.
    pub fn of_end(end: AttemptEnd) -> Self {
        Self::End(end, Box::default())
    }
}

/// What one step of a queue did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advanced {
    /// For each closing, whether it was written. An end is not where the job is no longer the attempt's; the attempt is closed as lost
    /// then.
    pub closed: Vec<bool>,
    /// The claimed attempts; jobs that are not queued any more are left out.
    pub claimed: Vec<Attempt>,
}

/// Whether a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// It was.
    Held,
    /// The job is another attempt's by now: nothing was written.
    Broken,
}

/// Jobs that wait and those that run. Every operation that writes for an attempt carries the attempt, and changes nothing where the
/// job is no longer the attempt's. Errors of all operations: the implementation's.
#[expect(async_fn_in_trait, reason = "the runner polls the futures on one thread")]
pub trait Queue {
    /// Sends heartbeats until it is dropped.
    type Heartbeat;

    /// Puts jobs into the queue: new ones, and ones that ended but lack something. Jobs that are `dropped` are no longer wanted by
    /// the sweep.
    async fn submit(&self, sweep: &str, jobs: &[Submission], dropped: &[JobId]) -> Result<(), QueueError>;

    /// Every job that is queued or running and that a sweep wants.
    async fn active(&self) -> Result<Vec<ActiveJob>, QueueError>;

    /// The orders of jobs with what is done of each, documents of tasks that are not whole left out; jobs without an order are left
    /// out.
    async fn orders(&self, jobs: &[JobId]) -> Result<Vec<(JobOrder, JobProgress)>, QueueError>;

    /// What of a job is done.
    async fn progress(&self, order: &JobOrder) -> Result<JobProgress, QueueError>;

    /// Closes attempts, then claims jobs: all of it or nothing.
    async fn advance(
        &self,
        closings: &[(Attempt, Digest, Closing)],
        claim: Option<Claim<'_>>,
    ) -> Result<Advanced, QueueError>;

    /// Records what an attempt has done so far.
    async fn record(&self, attempt: &Attempt, record: &Record) -> Result<Fence, QueueError>;

    /// The documents that are scored under a key, by number.
    async fn documents(&self, key: ScoreKey) -> Result<Vec<StoredDocument>, QueueError>;

    /// What became of an attempt's job, if it is no longer the attempt's.
    async fn fate(&self, attempt: &Attempt) -> Result<Option<Taken>, QueueError>;

    /// Requeues running jobs whose process is gone, or has sent no heartbeat for longer than `lease`. Returns how many.
    async fn recover(&self, observer: &mut Observer, lease: Duration) -> Result<usize, QueueError>;

    /// Moves jobs by a transition, those of them that are in a state that allows it. Returns the jobs that moved.
    async fn move_jobs(
        &self,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<JobId>, QueueError>;

    /// Notes why queued jobs wait.
    async fn note_waiting(&self, jobs: &[JobId], reason: &str) -> Result<(), QueueError>;

    /// A number that changes whenever another process changes the queue.
    async fn changes(&self) -> Result<i64, QueueError>;

    /// Waits until the queue can be changed.
    async fn reach(&self) -> Result<(), QueueError>;

    /// Sends heartbeats for every open attempt of an owner, from now on.
    fn heartbeat(&self, owner: &Owner) -> Self::Heartbeat;
}
