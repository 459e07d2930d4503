//! One attempt at a job: its orders to the engine, and what their results mean for the queue.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::Progress;
use super::inputs::{JobInputs, OpenedModel};
use crate::job::{BaseForm, Digest, JobId, ScoreKey, Seconds, SlotId, Softmax};
use crate::orders::{JobOrder, OrderedSample, OrderedTask, OrderedWork};
use crate::protocol::{DocumentScore, StepReport, TaskOrder, TrainOrder, Trained};
use crate::queue::{
    Attempt, AttemptEnd, AttemptResults, JobProgress, Queue, QueueError, Record, ScoreRecord, StoredSample,
    Taken, TrainingRecord,
};
use crate::task::{Aggregate, DocumentValue, TaskMetric, aggregate};

/// Steps that are collected before they are recorded together.
const STEP_BATCH: usize = 32;
/// Documents that are collected before they are recorded together.
const DOCUMENT_BATCH: usize = 64;
/// Fewer are recorded after so long: whoever watches sees curves grow.
const RECORD_EVERY: Duration = Duration::from_secs(2);

/// A running attempt on a slot.
pub(super) struct RunningJob {
    order: Rc<JobOrder>,
    pub(super) model: Rc<OpenedModel>,
    pub(super) attempt: Attempt,
    pub(super) adapter: PathBuf,
    pub(super) checkpoints: PathBuf,
    /// Whether the object store has checkpoints of it.
    pub(super) left_checkpoints: bool,
    rows: PathBuf,
    /// Whether blocks are recomputed in backward although the configuration does not ask for it: memory was short.
    keeps_less: bool,
    /// Whether its adapter is still to be trained.
    trains: bool,
    /// Tasks still to be scored; those of the current order come first.
    missing: Vec<MissingTask>,
    /// Number of tasks in the current scoring order.
    scoring: usize,
    /// Samples still to be answered.
    samples: Vec<OrderedSample>,
    /// Tokens that end an answer.
    pub(super) stop: Vec<u32>,
    /// Results not recorded yet.
    results: AttemptResults,
    losses: Option<(f64, f64)>,
    /// When results were last recorded.
    recorded: Instant,
    /// Documents not recorded yet.
    documents: Vec<(ScoreKey, DocumentScore)>,
    scored: u64,
    /// Progress: optimizer steps and scored documents of all attempts.
    pub(super) reach: u64,
    /// Progress when the attempt began.
    pub(super) began_at: u64,
    /// How it ends when its engine is gone.
    pub(super) leaving: Option<Leaving>,
}

/// A task that is still to be scored.
struct MissingTask {
    task: OrderedTask,
    metrics: Rc<[TaskMetric]>,
    documents: PathBuf,
    /// Documents already recorded.
    done: BTreeSet<usize>,
}

/// How an attempt ends once its exiting engine is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leaving {
    /// With this end.
    End(AttemptEnd),
    /// Its job was taken over.
    LetGo(Taken),
}

/// The missing work of a job.
pub(super) struct Missing {
    pub(super) trains: bool,
    pub(super) tasks: Vec<usize>,
    /// Positions of sample files, and of the samples in them.
    pub(super) samples: Vec<(usize, usize)>,
}

impl Missing {
    /// The missing work, given the progress.
    pub(super) fn of(order: &JobOrder, inputs: &JobInputs, progress: &JobProgress) -> Self {
        let tasks: Vec<usize> = (0..inputs.tasks.len())
            .filter(|&at| !progress.scored.contains(&inputs.tasks[at].0.key))
            .collect();
        let mut samples = Vec::new();
        for (file, prompts) in inputs.samples.iter().enumerate() {
            let open = |&at: &usize| !progress.sampled.contains(&prompts.samples[at].key);
            samples.extend((0..prompts.samples.len()).filter(open).map(|at| (file, at)));
        }
        // A removed adapter is trained again only for missing scores and samples.
        let trained = progress.trained || (progress.removed && tasks.is_empty() && samples.is_empty());
        Self { trains: order.config().is_some() && !trained, tasks, samples }
    }

    /// Whether nothing is missing.
    pub(super) fn is_empty(&self) -> bool {
        !self.trains && self.tasks.is_empty() && self.samples.is_empty()
    }
}

impl RunningJob {
    /// An attempt that has not begun. `results` is the results folder.
    pub(super) fn new(
        order: Rc<JobOrder>,
        inputs: JobInputs,
        attempt: Attempt,
        mut progress: JobProgress,
        (results, keeps_less): (&Path, bool),
    ) -> Self {
        let missing = Missing::of(&order, &inputs, &progress);
        let subject = order.key().to_string();
        let adapter = match &order.work {
            OrderedWork::Adapter { folder } => folder.clone(),
            OrderedWork::Base | OrderedWork::Train { .. } => results.join("adapters").join(&subject),
        };
        let JobInputs { model, rows, tasks, samples } = inputs;
        let task = |at: usize| {
            let (task, metrics, documents) = tasks[at].clone();
            let done = progress.documents.remove(&task.key).unwrap_or_default();
            MissingTask { task, metrics, documents, done }
        };
        let tasks: Vec<MissingTask> = missing.tasks.into_iter().map(task).collect();
        let scored = tasks.iter().map(|task| task.done.len() as u64).sum();
        Self {
            model,
            attempt,
            adapter,
            checkpoints: results.join("checkpoints").join(&subject),
            left_checkpoints: false,
            rows,
            keeps_less,
            trains: missing.trains,
            missing: tasks,
            scoring: 0,
            stop: samples.first().map(|prompts| prompts.stop.clone()).unwrap_or_default(),
            samples: missing.samples.iter().map(|&(file, at)| samples[file].samples[at].clone()).collect(),
            results: AttemptResults::default(),
            recorded: Instant::now(),
            losses: None,
            documents: Vec::new(),
            scored,
            reach: scored,
            began_at: scored,
            leaving: None,
            order,
        }
    }

    /// Sets how it ends when its engine is gone; the first reason counts.
    pub(super) fn leave(&mut self, how: Leaving) {
        self.leaving.get_or_insert(how);
    }

    pub(super) fn id(&self) -> &JobId {
        &self.attempt.job
    }

    pub(super) fn subject(&self) -> Digest {
        self.order.key()
    }

    /// The sweep that it runs for.
    pub(super) fn sweep(&self) -> &str {
        self.order.sweep()
    }

    /// Tokens that it trains on and scores, as planned.
    pub(super) fn planned_tokens(&self) -> u64 {
        self.order.train_tokens + self.order.tasks().map(|task| task.tokens).sum::<u64>()
    }

    /// The planned throughput, in tokens per second.
    pub(super) fn tokens_per_second(&self) -> f64 {
        self.order.tokens_per_second
    }

    /// The longest row that is still to be trained on, in tokens.
    pub(super) fn longest_row(&self) -> usize {
        if self.trains { self.order.longest_row() as usize } else { 0 }
    }

    /// Whether gradient checkpointing could be turned on: less memory, the same results.
    pub(super) fn could_keep_less(&self) -> bool {
        let checkpointing = self.order.config().map(|config| config.train.gradient_checkpointing);
        self.trains && checkpointing == Some(false) && !self.keeps_less
    }

    /// Whether its adapter is trained by loragrid, now or before.
    pub(super) fn is_training(&self) -> bool {
        self.order.config().is_some()
    }

    /// Whether its adapter is still to be trained.
    pub(super) fn trains(&self) -> bool {
        self.trains
    }

    /// Whether tasks are still to be scored.
    pub(super) fn scores(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Whether anything is left to do.
    pub(super) fn has_work(&self) -> bool {
        self.end_if_done().is_none()
    }

    /// The samples still to be answered.
    pub(super) fn samples(&self) -> &[OrderedSample] {
        &self.samples
    }

    /// Its model's identity and form.
    pub(super) fn base(&self) -> (Digest, BaseForm) {
        (self.order.model.identity.0, self.order.form)
    }

    pub(super) fn label(&self) -> &str {
        self.order.label()
    }

    pub(super) fn started(&self, slot: SlotId, device: String) -> Progress {
        let (job, label) = (self.order.id.clone(), self.label().to_owned());
        Progress::Started { job, label, trains: self.trains, slot, device }
    }

    /// Its training order; none for a job that trains nothing.
    pub(super) fn train_order(&self) -> Option<TrainOrder> {
        let config = self.order.config()?;
        let mut train = config.train.clone();
        train.gradient_checkpointing |= self.keeps_less;
        Some(TrainOrder {
            tokens: self.rows.clone(),
            train,
            lora: config.lora.clone(),
            seed: config.seed,
            adapter: self.adapter.clone(),
            base_name: config.model.clone(),
            key: self.order.key(),
            checkpoints: self.checkpoints.clone(),
            attempt: self.attempt.number,
            checkpoint_every: Seconds(config.train.checkpoint_every as f64),
        })
    }

    /// The folder of the adapter that is scored; none for a base model.
    pub(super) fn scored_adapter(&self) -> Option<PathBuf> {
        match self.order.work {
            OrderedWork::Base => None,
            OrderedWork::Adapter { .. } | OrderedWork::Train { .. } => Some(self.adapter.clone()),
        }
    }

    /// How its next tasks are scored: the dtype of log-likelihoods, and whether one request at a time.
    pub(super) fn scoring_form(&self) -> Option<(Softmax, bool)> {
        self.missing.first().map(|missing| (missing.task.softmax, missing.task.exact))
    }

    /// The tasks to be scored next, all in one form, with the documents already scored.
    pub(super) fn task_orders(&self) -> Vec<TaskOrder> {
        let form = self.scoring_form();
        let alike = |missing: &&MissingTask| Some((missing.task.softmax, missing.task.exact)) == form;
        let order = |missing: &MissingTask| TaskOrder {
            documents: missing.documents.clone(),
            done: missing.done.clone(),
        };
        self.missing.iter().filter(alike).map(order).collect()
    }

    /// Marks the tasks of [`Self::task_orders`] as being scored: they come first.
    pub(super) fn begin_scoring(&mut self) {
        let Some(form) = self.scoring_form() else { return };
        let other = |missing: &MissingTask| (missing.task.softmax, missing.task.exact) != form;
        self.missing.sort_by_key(other);
        self.scoring = self.missing.iter().filter(|missing| !other(missing)).count();
    }

    /// Records an optimizer step.
    pub(super) async fn step(
        &mut self,
        report: StepReport,
        queue: &impl Queue,
    ) -> Result<Progress, QueueError> {
        self.reach = self.reach.max(self.scored + report.step);
        let first = self.losses.map_or(report.loss, |(first, _)| first);
        self.losses = Some((first, report.loss));
        self.results.steps.push(report);
        if self.results.steps.len() >= STEP_BATCH || self.is_record_due() {
            self.record_training(queue).await?;
        }
        Ok(Progress::Step { job: self.order.id.clone(), report })
    }

    /// Whether results were last recorded long enough ago; if so, they are recorded now.
    fn is_record_due(&mut self) -> bool {
        let due = self.recorded.elapsed() >= RECORD_EVERY;
        if due {
            self.recorded = Instant::now();
        }
        due
    }

    /// Records the end of its training; returns the attempt's end if nothing is to be scored.
    pub(super) async fn trained(
        &mut self,
        trained: Trained,
        queue: &impl Queue,
    ) -> Result<Option<AttemptEnd>, QueueError> {
        self.results.training = Some(TrainingRecord { trained, losses: self.losses });
        self.trains = false;
        let end = self.end_if_done();
        if end.is_none() {
            self.record_training(queue).await?;
        }
        // Recorded at the end of the attempt.
        Ok(end)
    }

    /// Records a document.
    pub(super) async fn document(
        &mut self,
        score: DocumentScore,
        queue: &impl Queue,
    ) -> Result<Progress, QueueError> {
        if let Some(missing) = self.missing.get(score.task) {
            self.documents.push((missing.task.key, score));
        }
        self.scored += 1;
        self.reach += 1;
        if self.documents.len() >= DOCUMENT_BATCH || self.is_record_due() {
            self.record_documents(queue).await?;
        }
        let total = self.missing.iter().map(|missing| missing.task.count).sum();
        Ok(Progress::Scoring { job: self.order.id.clone(), done: self.scored, total })
    }

    /// Records that the tasks of an order are scored; returns the attempt's end, if reached.
    pub(super) async fn scored(&mut self, queue: &impl Queue) -> Result<Option<AttemptEnd>, QueueError> {
        let failed = self.record_scores(queue).await?;
        if failed.is_none() {
            self.missing.drain(..self.scoring.min(self.missing.len()));
        }
        self.scoring = 0;
        Ok(failed.or_else(|| self.end_if_done()))
    }

    /// Records an answer to a sample; returns the attempt's end if it was the last one.
    pub(super) async fn sample(
        &mut self,
        sample: &OrderedSample,
        tokens: &[u32],
        queue: &impl Queue,
    ) -> Result<Option<AttemptEnd>, QueueError> {
        let stored = StoredSample {
            key: sample.key,
            position: sample.position as i64,
            prompt: sample.prompt.clone(),
            wanted: sample.wanted.clone(),
            answer: self.model.local.tokenizer.decode(tokens).unwrap_or_default(),
            tokens: tokens.len() as i64,
        };
        // A job that was taken over records nothing; its attempt is let go as soon as that is noticed.
        queue.record(&self.attempt, &Record::Sample(self.subject(), stored)).await?;
        self.samples.retain(|other| other.key != sample.key);
        Ok(self.end_if_done())
    }

    fn end_if_done(&self) -> Option<AttemptEnd> {
        let left = self.trains || !self.missing.is_empty() || !self.samples.is_empty();
        (!left).then_some(AttemptEnd::Finished)
    }

    /// Records pending results after its engine is gone.
    pub(super) async fn flush(&mut self, queue: &impl Queue) -> Result<(), QueueError> {
        self.record_documents(queue).await?;
        self.record_training(queue).await
    }

    /// Results to record with the end of the attempt.
    pub(super) fn results(&self) -> &AttemptResults {
        &self.results
    }

    /// Removes the checkpoints of a recorded training.
    pub(super) fn clear_checkpoints(&self) {
        // Leftovers are found by `loragrid gc`.
        let _ = std::fs::remove_dir_all(&self.checkpoints);
    }

    async fn record_documents(&mut self, queue: &impl Queue) -> Result<(), QueueError> {
        if self.documents.is_empty() {
            return Ok(());
        }
        let documents = std::mem::take(&mut self.documents);
        queue.record(&self.attempt, &Record::Documents(documents)).await.map(drop)
    }

    async fn record_training(&mut self, queue: &impl Queue) -> Result<(), QueueError> {
        if self.results.is_empty() {
            return Ok(());
        }
        let results = std::mem::take(&mut self.results);
        let is_whole = results.training.is_some();
        queue.record(&self.attempt, &Record::Training(self.subject(), results)).await?;
        if is_whole {
            self.clear_checkpoints();
        }
        Ok(())
    }

    /// Records the scores of an order's tasks; returns why the attempt fails if documents are missing.
    async fn record_scores(&mut self, queue: &impl Queue) -> Result<Option<AttemptEnd>, QueueError> {
        self.record_documents(queue).await?;
        let mut records = Vec::new();
        for missing in self.missing.iter().take(self.scoring) {
            let (name, wanted, key) = (&missing.task.task, missing.task.count, missing.task.key);
            let documents = queue.documents(key).await?;
            if documents.len() as u64 != wanted {
                let found = documents.len();
                return Ok(Some(AttemptEnd::Failed(format!(
                    "task '{name}': {found} of {wanted} documents were scored"
                ))));
            }
            let metrics = missing.metrics.iter().enumerate();
            let aggregates: Vec<Aggregate> = metrics
                .map(|(index, metric)| {
                    let values: Vec<DocumentValue> = documents
                        .iter()
                        .filter_map(|document| document.metrics.get(index).cloned())
                        .collect();
                    aggregate(*metric, &values)
                })
                .collect();
            let documents =
                documents.into_iter().map(|document| (document.document, document.metrics)).collect();
            records.push(ScoreRecord { key, task: name.clone(), aggregates, documents });
        }
        queue.record(&self.attempt, &Record::Scores(self.subject(), records)).await?;
        Ok(None)
    }
}
