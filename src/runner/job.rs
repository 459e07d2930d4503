//! One attempt at a job: what it asks of its engine, and what that means for the store.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Progress;
use crate::job::{BaseForm, Digest, JobId, ScoreKey, Seconds, Softmax};
use crate::plan::{Plan, PlannedJob, PlannedTask, Work};
use crate::protocol::{DocumentScore, StepReport, TaskOrder, TrainOrder, Trained};
use crate::store::{
    Attempt, AttemptEnd, Harvest, ScoreRecord, Store, StoreError, StoredDocument, StoredSample,
    TrainingRecord,
};
use crate::task::{Aggregate, DocumentValue, Subset, aggregate};

/// Steps that are collected before they go into the store together.
const STEP_BATCH: usize = 32;
/// Documents that are collected before they go into the store together.
const DOCUMENT_BATCH: usize = 64;

/// An attempt that a slot works at.
pub(super) struct RunningJob<'a> {
    plan: &'a Plan,
    job: &'a PlannedJob,
    pub(super) attempt: Attempt,
    adapter: PathBuf,
    checkpoints: PathBuf,
    tokens: PathBuf,
    /// Whether blocks are computed again in backward although the configuration does not ask for it: memory was short.
    keeps_less: bool,
    /// Whether its adapter is still to be trained.
    trains: bool,
    /// Whether tasks are still to be scored.
    scores: bool,
    /// Which of the plan's samples it has still to answer.
    samples: Vec<usize>,
    /// What is not in the store yet.
    harvest: Harvest,
    losses: Option<(f64, f64)>,
    /// Documents that are in the store already, by the place of their task among the missing ones.
    known: Vec<BTreeSet<usize>>,
    /// Documents that are not in the store yet.
    documents: Vec<DocumentScore>,
    scored: u64,
    /// How far it has come: optimizer steps made and documents scored, all attempts together.
    pub(super) reach: u64,
    /// How far that was when the attempt began.
    pub(super) began_at: u64,
    /// What ends it when its engine is gone.
    pub(super) leaving: Option<Leaving>,
}

/// How an attempt ends whose engine is on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leaving {
    /// So.
    End(AttemptEnd),
    /// Its job is no longer its own: paused, cancelled, or given to another attempt.
    LetGo(&'static str),
}

/// The files of an attempt.
pub(super) struct JobFiles {
    /// Folder of its adapter.
    pub(super) adapter: PathBuf,
    /// Its encoded rows; empty where it does not train.
    pub(super) tokens: PathBuf,
    /// Folder of its checkpoints.
    pub(super) checkpoints: PathBuf,
    /// Whether memory was short before.
    pub(super) keeps_less: bool,
}

/// A job that is another's by now takes nothing in; its attempt is let go as soon as that is noticed.
fn unfenced(written: Result<(), StoreError>) -> Result<(), StoreError> {
    match written {
        Err(StoreError::Fenced { .. }) => Ok(()),
        written => written,
    }
}

impl<'a> RunningJob<'a> {
    /// An attempt that has not begun.
    pub(super) fn new(plan: &'a Plan, job: &'a PlannedJob, attempt: Attempt, files: JobFiles) -> Self {
        let JobFiles { adapter, tokens, checkpoints, keeps_less } = files;
        Self {
            plan,
            job,
            attempt,
            adapter,
            tokens,
            checkpoints,
            keeps_less,
            trains: job.train_missing,
            scores: !job.missing.is_empty(),
            samples: job.samples_missing.clone(),
            harvest: Harvest::default(),
            losses: None,
            known: Vec::new(),
            documents: Vec::new(),
            scored: 0,
            reach: 0,
            began_at: 0,
            leaving: None,
        }
    }

    /// Looks up whether an earlier attempt has trained it and which documents it has scored, so that it goes on after that.
    pub(super) async fn look_up(&mut self, store: &Store) -> Result<(), StoreError> {
        // An attempt that was broken off while it was scored has its adapter.
        if self.trains && self.adapter.is_dir() && store.has_adapter(self.job.subject.digest()).await? {
            self.trains = false;
        }
        let mut known = Vec::new();
        for (_, key) in self.missing() {
            known.push(store.scored_documents(key).await?);
        }
        self.scored = known.iter().map(|documents| documents.len() as u64).sum();
        self.reach = self.scored;
        self.began_at = self.reach;
        self.known = known;
        Ok(())
    }

    /// Notes how it ends when its engine is gone; the first reason counts.
    pub(super) fn leave(&mut self, how: Leaving) {
        self.leaving.get_or_insert(how);
    }

    pub(super) fn id(&self) -> &JobId {
        &self.attempt.job
    }

    /// Tokens that it trains on and scores, as planned.
    pub(super) fn planned_tokens(&self) -> u64 {
        self.job.estimate.train_tokens + self.job.estimate.score_tokens
    }

    /// The longest row that it trains on, in tokens.
    pub(super) fn longest_row(&self) -> usize {
        let Work::Train { data, .. } = &self.job.work else { return 0 };
        let encoded = self.plan.data[*data].encoded.as_ref().filter(|_| self.trains);
        let lengths = encoded.into_iter().flat_map(|encoded| &encoded.examples);
        lengths.map(|example| example.tokens.len()).max().unwrap_or_default()
    }

    /// Whether it could keep a block's input only and compute the block again in backward: less memory, the same numbers.
    pub(super) fn could_keep_less(&self) -> bool {
        match &self.job.work {
            Work::Train { config, .. } => {
                self.trains && !config.train.gradient_checkpointing && !self.keeps_less
            }
            Work::Base => false,
        }
    }

    /// Whether its adapter is still to be trained.
    pub(super) fn trains(&self) -> bool {
        self.trains
    }

    /// Whether tasks are still to be scored.
    pub(super) fn scores(&self) -> bool {
        self.scores
    }

    /// The samples that it has still to answer, by their places in the plan.
    pub(super) fn samples(&self) -> &[usize] {
        &self.samples
    }

    /// Its model's place in the plan and how it is held.
    pub(super) fn model(&self) -> (usize, BaseForm) {
        (self.job.model, self.job.base_form())
    }

    pub(super) fn label(&self) -> &str {
        &self.job.label
    }

    pub(super) fn started(&self) -> Progress {
        Progress::Started { job: self.job.id.clone(), label: self.job.label.clone(), trains: self.trains }
    }

    /// What its engine is to train; none for a base model.
    pub(super) fn train_order(&self) -> Option<TrainOrder> {
        let Work::Train { config, .. } = &self.job.work else { return None };
        let mut train = config.train.clone();
        train.gradient_checkpointing |= self.keeps_less;
        Some(TrainOrder {
            tokens: self.tokens.clone(),
            train,
            lora: config.lora.clone(),
            seed: config.seed,
            adapter: self.adapter.clone(),
            base_name: config.model.clone(),
            key: self.job.subject.digest(),
            checkpoints: self.checkpoints.clone(),
            attempt: self.attempt.number,
            checkpoint_every: Seconds(config.train.checkpoint_every as f64),
        })
    }

    /// The folder of the adapter that is scored; none for a base model.
    pub(super) fn scored_adapter(&self) -> Option<PathBuf> {
        matches!(self.job.work, Work::Train { .. }).then(|| self.adapter.clone())
    }

    /// In which dtype its log-likelihoods are made; all tasks of a job are scored alike.
    pub(super) fn softmax(&self) -> Softmax {
        self.missing().next().map_or(Softmax::Fp32, |(task, _)| task.facts.softmax)
    }

    /// The tasks that are to be scored, with the documents that are known.
    pub(super) fn task_orders(&self) -> Vec<TaskOrder> {
        let order = |(place, (task, _)): (usize, (&PlannedTask, ScoreKey))| TaskOrder {
            task: task.task.clone(),
            subset: Subset::from(task.facts.limit),
            done: self.known.get(place).cloned().unwrap_or_default(),
        };
        self.missing().enumerate().map(order).collect()
    }

    /// The tasks that are still to be scored, with the keys of their scores.
    fn missing(&self) -> impl Iterator<Item = (&PlannedTask, ScoreKey)> {
        self.job.missing.iter().map(|&at| {
            let (task, key) = self.job.wanted[at];
            (&self.plan.tasks[task], key)
        })
    }

    /// Takes in an optimizer step.
    pub(super) async fn step(&mut self, report: StepReport, store: &Store) -> Result<Progress, StoreError> {
        self.reach = self.reach.max(self.scored + report.step);
        let first = self.losses.map_or(report.loss, |(first, _)| first);
        self.losses = Some((first, report.loss));
        self.harvest.steps.push(report);
        if self.harvest.steps.len() >= STEP_BATCH {
            self.bring_in(store).await?;
        }
        Ok(Progress::Step { job: self.job.id.clone(), report })
    }

    /// Takes in the end of its training; its own end, if nothing is to be scored.
    pub(super) async fn trained(
        &mut self,
        trained: Trained,
        store: &Store,
    ) -> Result<Option<AttemptEnd>, StoreError> {
        self.harvest.training = Some(TrainingRecord { trained, losses: self.losses });
        self.trains = false;
        let end = self.end_if_done();
        if end.is_none() {
            self.bring_in(store).await?;
        }
        // The end of the attempt takes it in.
        Ok(end)
    }

    /// Takes in a document.
    pub(super) async fn document(
        &mut self,
        score: DocumentScore,
        store: &Store,
    ) -> Result<Progress, StoreError> {
        self.documents.push(score);
        self.scored += 1;
        self.reach += 1;
        if self.documents.len() >= DOCUMENT_BATCH {
            self.flush_documents(store).await?;
        }
        let total = self.missing().filter_map(|(task, _)| task.documents).sum();
        Ok(Progress::Scoring { job: self.job.id.clone(), done: self.scored, total })
    }

    /// Takes in that everything is scored; its own end, if it is one.
    pub(super) async fn scored(&mut self, store: &Store) -> Result<Option<AttemptEnd>, StoreError> {
        let failed = self.store_scores(self.job.subject.digest(), store).await?;
        self.scores = false;
        Ok(failed.or_else(|| self.end_if_done()))
    }

    /// Takes in an answer to the sample at a place of the plan; its own end, if that was the last thing to do.
    pub(super) async fn sample(
        &mut self,
        place: usize,
        tokens: &[u32],
        store: &Store,
    ) -> Result<Option<AttemptEnd>, StoreError> {
        let local = self.plan.models[self.job.model].local.as_ref();
        let answer = local.and_then(|local| local.tokenizer.decode(tokens).ok()).unwrap_or_default();
        let sample = &self.plan.samples[place];
        let record = StoredSample {
            key: sample.key,
            position: place as i64,
            prompt: sample.prompt.clone(),
            wanted: sample.wanted.clone(),
            answer,
            tokens: tokens.len() as i64,
        };
        unfenced(store.record_sample(&self.attempt, self.job.subject.digest(), &record).await)?;
        self.samples.retain(|own| *own != place);
        Ok(self.end_if_done())
    }

    fn end_if_done(&self) -> Option<AttemptEnd> {
        let left = self.trains || self.scores || !self.samples.is_empty();
        (!left).then_some(AttemptEnd::Finished)
    }

    /// What the attempt leaves behind when its engine is gone.
    pub(super) async fn flush(&mut self, store: &Store) -> Result<(), StoreError> {
        self.flush_documents(store).await?;
        self.bring_in(store).await
    }

    /// What the end of the attempt takes in, by the job's subject.
    pub(super) fn left_over(&self) -> (Digest, &Harvest) {
        (self.job.subject.digest(), &self.harvest)
    }

    /// Removes the checkpoints of a training that the store has.
    pub(super) fn clear_checkpoints(&self) {
        // What stays of them is found by `loragrid gc`.
        let _ = std::fs::remove_dir_all(&self.checkpoints);
    }

    async fn flush_documents(&mut self, store: &Store) -> Result<(), StoreError> {
        let keys: Vec<ScoreKey> = self.missing().map(|(_, key)| key).collect();
        let documents = std::mem::take(&mut self.documents);
        let keyed = documents.iter().filter_map(|score| Some((*keys.get(score.task)?, score)));
        unfenced(store.record_documents(Some(&self.attempt), keyed).await)
    }

    async fn bring_in(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.harvest.is_empty() {
            return Ok(());
        }
        unfenced(store.bring_in(&self.attempt, self.job.subject.digest(), &self.harvest).await)?;
        if std::mem::take(&mut self.harvest).training.is_some() {
            self.clear_checkpoints();
        }
        Ok(())
    }

    /// Records the scores of every task; why the attempt fails, where documents are missing.
    async fn store_scores(
        &mut self,
        subject: Digest,
        store: &Store,
    ) -> Result<Option<AttemptEnd>, StoreError> {
        self.flush_documents(store).await?;
        let mut records = Vec::new();
        for (planned, key) in self.missing() {
            let documents = store.documents(key).await?;
            let wanted = planned.documents.unwrap_or_default();
            if documents.len() as u64 != wanted {
                let (name, found) = (&planned.task.name, documents.len());
                return Ok(Some(AttemptEnd::Failed(format!(
                    "task '{name}': {found} of {wanted} documents were scored"
                ))));
            }
            let metrics = planned.task.metrics.iter().enumerate();
            let aggregates: Vec<Aggregate> = metrics
                .map(|(index, metric)| {
                    let value = |document: &StoredDocument| document.metrics.get(index).cloned();
                    let values: Vec<DocumentValue> = documents.iter().filter_map(value).collect();
                    aggregate(*metric, &values)
                })
                .collect();
            let task = planned.task.name.clone();
            let documents = documents.into_iter().map(|own| (own.document, own.metrics)).collect();
            records.push((subject, ScoreRecord { key, task, aggregates, documents }));
        }
        unfenced(store.record_scores(Some(&self.attempt), &records).await)?;
        Ok(None)
    }
}
