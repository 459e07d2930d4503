//! The queue: waiting jobs, their owners, and the records of attempts. One trait with two implementations: memory here, SQLite in
//! `store`.

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
pub use memory::{MemoryQueue, MemoryResults};
pub use observer::Observer;
pub use owner::Owner;
pub use records::{AttemptResults, Record, ScoreRecord, StoredDocument, StoredSample, TrainingRecord};

use crate::device::{Slot, SlotUse};
use crate::job::{Digest, JobId, JobState, ScoreKey, Transition};
use crate::orders::JobOrder;

/// Why an operation on a queue failed; the cause is the implementation's error.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct QueueError(pub Box<dyn std::error::Error + Send + Sync>);

/// A job to be queued.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// Its order, with what the submitting sweep wants.
    pub order: JobOrder,
    /// Whether nothing is missing: it is not queued.
    pub is_done: bool,
}

/// A job that is queued or running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveJob {
    /// The job.
    pub id: JobId,
    /// Its state.
    pub state: JobState,
    /// Number of changes of its order.
    pub revision: i64,
    /// Whether the process of its last attempt exited: it runs alone, so that it does not crash the others of a pack.
    pub suspect: bool,
    /// Its priority, where workers on other machines share the queue; else 0.
    pub priority: i64,
}

/// Finished work of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// Whether its adapter is trained and on disk.
    pub trained: bool,
    /// The SHA-256 of its weights, where it is recorded.
    pub weights: Option<Digest>,
    /// Whether its adapter was trained and later removed from disk.
    pub removed: bool,
    /// Keys of complete scores.
    pub scored: HashSet<ScoreKey>,
    /// Scored documents of incomplete tasks.
    pub documents: HashMap<ScoreKey, BTreeSet<usize>>,
    /// Keys of answered samples.
    pub sampled: HashSet<Digest>,
}

/// Jobs to be claimed for a slot, those that are still queued.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// The jobs.
    pub jobs: &'a [JobId],
    /// The claiming process.
    pub owner: &'a Owner,
    /// The slot.
    pub slot: &'a Slot,
    /// Most tokens per pass.
    pub token_budget: usize,
}

/// How to close an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Closing {
    /// It ended, with results that are not recorded yet.
    End(AttemptEnd, Box<AttemptResults>),
    /// Its job was taken over.
    LetGo(Taken),
}

impl Closing {
    /// An end without unrecorded results.
    pub fn of_end(end: AttemptEnd) -> Self {
        Self::End(end, Box::default())
    }
}

/// The result of one queue step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advanced {
    /// For each closing, whether it was written. An end is not written if the job was taken over; the attempt is then closed as lost.
    pub closed: Vec<bool>,
    /// The claimed attempts; jobs that are no longer queued are left out.
    pub claimed: Vec<Attempt>,
}

/// Whether a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// It was.
    Held,
    /// The job was taken over: nothing was written.
    Broken,
}

/// Waiting and running jobs. Every write for an attempt names the attempt, and changes nothing if the job was taken over. Errors of all
/// operations: the implementation's.
#[expect(async_fn_in_trait, reason = "the runner polls the futures on one thread")]
pub trait Queue {
    /// Sends heartbeats until it is dropped.
    type Heartbeat;

    /// Queues jobs: new ones, and ones that ended but lack something. The sweep no longer wants `dropped` jobs.
    async fn submit(&self, sweep: &str, jobs: &[Submission], dropped: &[JobId]) -> Result<(), QueueError>;

    /// All queued or running jobs that a sweep wants.
    async fn active(&self) -> Result<Vec<ActiveJob>, QueueError>;

    /// The orders of jobs with their progress, without documents of incomplete tasks; jobs without an order are left out.
    async fn orders(&self, jobs: &[JobId]) -> Result<Vec<(JobOrder, JobProgress)>, QueueError>;

    /// The progress of a job.
    async fn progress(&self, order: &JobOrder) -> Result<JobProgress, QueueError>;

    /// Closes attempts, then claims jobs, atomically.
    async fn advance(
        &self,
        closings: &[(Attempt, Digest, Closing)],
        claim: Option<Claim<'_>>,
    ) -> Result<Advanced, QueueError>;

    /// Records results of an attempt so far.
    async fn record(&self, attempt: &Attempt, record: &Record) -> Result<Fence, QueueError>;

    /// The documents scored under a key, by number.
    async fn documents(&self, key: ScoreKey) -> Result<Vec<StoredDocument>, QueueError>;

    /// How an attempt's job was taken from it, if it was.
    async fn fate(&self, attempt: &Attempt) -> Result<Option<Taken>, QueueError>;

    /// Requeues running jobs whose process is gone, or has sent no heartbeat for longer than `lease`. Returns how many.
    async fn recover(&self, observer: &mut Observer, lease: Duration) -> Result<usize, QueueError>;

    /// Moves those of the jobs by a transition whose state allows it. Returns the jobs that moved.
    async fn move_jobs(
        &self,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<JobId>, QueueError>;

    /// Notes why queued jobs wait.
    async fn note_waiting(&self, jobs: &[JobId], reason: &str) -> Result<(), QueueError>;

    /// Whether workers on other machines may try the same jobs at the same time: each then tries neighboring jobs in an order of its own.
    fn is_shared(&self) -> bool {
        false
    }

    /// Jobs that others took since this was asked last, as far as an implementation can tell without reading the queue again.
    async fn taken(&self) -> Result<Vec<JobId>, QueueError> {
        Ok(Vec::new())
    }

    /// A number that changes whenever another process changes the queue.
    async fn changes(&self) -> Result<i64, QueueError>;

    /// Replaces what the slots of an owner use; with none, nothing of the owner is left.
    async fn note_use(&self, owner: &Owner, slots: &[SlotUse]) -> Result<(), QueueError>;

    /// Waits until the queue is writable.
    async fn reach(&self) -> Result<(), QueueError>;

    /// Sends heartbeats for every open attempt of an owner, from now on.
    fn heartbeat(&self, owner: &Owner) -> Self::Heartbeat;
}
