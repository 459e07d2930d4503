//! Scores models and adapters that are no sweep's, by the same runner as a sweep's jobs.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::device::SlotUse;
use crate::job::{BaseForm, Digest, JobId, ScoreKey, SubjectKey, Transition};
use crate::orders::{JobOrder, ORDER_VERSION, OrderedModel, OrderedTask, OrderedWork, SweepWants};
use crate::queue::{
    ActiveJob, Advanced, Attempt, Claim, Closing, Fence, JobProgress, MemoryQueue, Observer, Owner, Queue,
    QueueError, Record, StoredDocument, Submission, Taken,
};
use crate::runner::{Inputs, Progress, RunError, RunSummary, Runner};
use crate::store::Store;

/// The name under which an evaluation is in its queue.
const NAME: &str = "evaluation";

/// A model or adapter to score.
#[derive(Debug, Clone)]
pub struct EvaluationSubject {
    /// What it is called in reports.
    pub label: String,
    /// Its key.
    pub key: SubjectKey,
    /// The adapter's folder; none for the base model.
    pub adapter: Option<PathBuf>,
    /// The tasks, with the keys of this subject's scores.
    pub tasks: Vec<OrderedTask>,
}

/// What an evaluation came to.
#[derive(Debug)]
pub struct Evaluated {
    /// What its jobs came to.
    pub summary: RunSummary,
    /// Documents that were scored before.
    pub known: usize,
    /// Documents of all subjects.
    pub documents: u64,
}

/// A queue in memory whose documents and scores go into a database, so that an evaluation that is broken off goes on.
#[derive(Debug, Clone)]
pub struct EvaluationQueue {
    memory: MemoryQueue,
    store: Store,
}

impl EvaluationQueue {
    /// An evaluation whose documents and scores go into a database.
    pub fn new(store: Store) -> Self {
        Self { memory: MemoryQueue::default(), store }
    }

    /// Queues subjects. Documents that the database has are not scored again, unless `again`. Returns how many it has, and of how
    /// many. Errors: the database's.
    async fn fill(
        &self,
        subjects: &[EvaluationSubject],
        (model, form, again): (&OrderedModel, BaseForm, bool),
    ) -> Result<(usize, u64), RunError> {
        let (mut jobs, mut known, mut all) = (Vec::new(), 0, 0);
        for (position, subject) in subjects.iter().enumerate() {
            let mut missing = Vec::new();
            for task in &subject.tasks {
                let documents = if again { Vec::new() } else { self.store.documents(task.key).await? };
                known += documents.len();
                all += task.count;
                if (documents.len() as u64) < task.count {
                    self.memory.add_documents(task.key, documents);
                    missing.push(task.clone());
                }
            }
            if !missing.is_empty() {
                let order = order_of(subject, position as u64, (model, form), missing);
                jobs.push(Submission { order, is_done: false });
            }
        }
        self.memory.submit(NAME, &jobs, &[]).await?;
        Ok((known, all))
    }
}

fn order_of(
    subject: &EvaluationSubject,
    position: u64,
    (model, form): (&OrderedModel, BaseForm),
    tasks: Vec<OrderedTask>,
) -> JobOrder {
    let label = subject.label.clone();
    let wants = SweepWants { label, priority: 0, submitted_ms: 0, position, tasks, samples: None };
    JobOrder {
        version: ORDER_VERSION,
        id: JobId::of(subject.key.digest()),
        subject: subject.key,
        work: match &subject.adapter {
            Some(folder) => OrderedWork::Adapter { folder: folder.clone() },
            None => OrderedWork::Base,
        },
        model: model.clone(),
        form,
        train_tokens: 0,
        // What a model of this size does is not known: no pass is expected to end at any time.
        tokens_per_second: 1.0,
        sweeps: [(NAME.to_owned(), wants)].into(),
    }
}

/// Scores subjects over one base model. Errors: the run's.
pub async fn evaluate(
    runner: &Runner<'_, EvaluationQueue>,
    (model, form, again): (&OrderedModel, BaseForm, bool),
    subjects: &[EvaluationSubject],
    inputs: &mut Inputs<'_>,
    watch: &mut dyn FnMut(Progress),
    stops: &mut mpsc::Receiver<()>,
) -> Result<Evaluated, RunError> {
    let (known, documents) = runner.queue.fill(subjects, (model, form, again)).await?;
    let is_idle = runner.queue.active().await?.is_empty();
    let summary = if is_idle { RunSummary::default() } else { runner.run(inputs, watch, stops).await? };
    Ok(Evaluated { summary, known, documents })
}

impl Queue for EvaluationQueue {
    type Heartbeat = ();

    async fn submit(&self, sweep: &str, jobs: &[Submission], dropped: &[JobId]) -> Result<(), QueueError> {
        self.memory.submit(sweep, jobs, dropped).await
    }

    async fn active(&self) -> Result<Vec<ActiveJob>, QueueError> {
        self.memory.active().await
    }

    async fn orders(&self, jobs: &[JobId]) -> Result<Vec<(JobOrder, JobProgress)>, QueueError> {
        self.memory.orders(jobs).await
    }

    async fn progress(&self, order: &JobOrder) -> Result<JobProgress, QueueError> {
        self.memory.progress(order).await
    }

    async fn advance(
        &self,
        closings: &[(Attempt, Digest, Closing)],
        claim: Option<Claim<'_>>,
    ) -> Result<Advanced, QueueError> {
        self.memory.advance(closings, claim).await
    }

    async fn record(&self, attempt: &Attempt, record: &Record) -> Result<Fence, QueueError> {
        // Nobody else has the attempts of this queue.
        self.store.write_record(None, record).await?;
        self.memory.record(attempt, record).await
    }

    async fn documents(&self, key: ScoreKey) -> Result<Vec<StoredDocument>, QueueError> {
        self.memory.documents(key).await
    }

    async fn fate(&self, attempt: &Attempt) -> Result<Option<Taken>, QueueError> {
        self.memory.fate(attempt).await
    }

    async fn recover(&self, observer: &mut Observer, lease: Duration) -> Result<usize, QueueError> {
        self.memory.recover(observer, lease).await
    }

    async fn move_jobs(
        &self,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<JobId>, QueueError> {
        self.memory.move_jobs(jobs, transition, reason).await
    }

    async fn note_waiting(&self, jobs: &[JobId], reason: &str) -> Result<(), QueueError> {
        self.memory.note_waiting(jobs, reason).await
    }

    async fn changes(&self) -> Result<i64, QueueError> {
        self.memory.changes().await
    }

    async fn note_use(&self, owner: &Owner, slots: &[SlotUse]) -> Result<(), QueueError> {
        self.memory.note_use(owner, slots).await
    }

    async fn reach(&self) -> Result<(), QueueError> {
        Ok(self.store.reach().await?)
    }

    fn heartbeat(&self, _: &Owner) -> Self::Heartbeat {}
}
