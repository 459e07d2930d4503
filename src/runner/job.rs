//! One attempt at a job: which order comes next, and what its events mean for the store.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Progress;
use crate::job::{BaseForm, Digest, ScoreKey, Seconds, Softmax};
use crate::plan::{LocalModel, Plan, PlannedJob, PlannedTask, Work};
use crate::protocol::{
    DocumentScore, Event, FailureKind, LoadOrder, Order, ScoreOrder, TaskOrder, TrainOrder,
};
use crate::store::{
    Attempt, AttemptEnd, Harvest, ScoreRecord, Store, StoreError, StoredDocument, TrainingRecord,
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
    pub(super) log: PathBuf,
    adapter: PathBuf,
    pub(super) token_budget: usize,
    checkpoints: PathBuf,
    tokens: PathBuf,
    phase: Phase,
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
    /// What ends it when its engine is gone.
    pub(super) leaving: Option<Leaving>,
    /// Since when.
    left: Option<Instant>,
}

/// How an attempt ends whose engine is on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leaving {
    /// So.
    End(AttemptEnd),
    /// Its job is no longer its own: paused, cancelled, or given to another attempt.
    LetGo(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The slot's engine loads the job's model.
    Loading,
    Training,
    Scoring,
}

/// The files of an attempt.
pub(super) struct JobFiles {
    /// Its log.
    pub(super) log: PathBuf,
    /// Folder of its adapter.
    pub(super) adapter: PathBuf,
    /// Its encoded rows; empty where it does not train.
    pub(super) tokens: PathBuf,
    /// Folder of its checkpoints.
    pub(super) checkpoints: PathBuf,
}

/// What comes after the model is loaded.
fn first_phase(job: &PlannedJob) -> Phase {
    if job.train_missing { Phase::Training } else { Phase::Scoring }
}

/// What follows from an event.
pub(super) enum Next {
    /// Wait for the next event.
    Wait,
    /// Send the order of the next phase.
    Send,
    /// The attempt ended.
    End(AttemptEnd),
    /// A pass needed too much memory; the engine exits.
    OutOfMemory(String),
    /// Nothing can be written any more.
    DiskFull(String),
}

impl<'a> RunningJob<'a> {
    /// An attempt on a slot; `loaded` says whether its engine has the job's model already.
    pub(super) fn new(
        plan: &'a Plan,
        job: &'a PlannedJob,
        attempt: Attempt,
        files: JobFiles,
        token_budget: usize,
        loaded: bool,
    ) -> Self {
        let phase = if loaded { first_phase(job) } else { Phase::Loading };
        let JobFiles { log, adapter, tokens, checkpoints } = files;
        Self {
            plan,
            job,
            attempt,
            log,
            adapter,
            tokens,
            token_budget,
            checkpoints,
            phase,
            harvest: Harvest::default(),
            losses: None,
            known: Vec::new(),
            documents: Vec::new(),
            scored: 0,
            reach: 0,
            leaving: None,
            left: None,
        }
    }

    /// Looks up which documents an earlier attempt has scored, so that it goes on after them.
    pub(super) async fn look_up(&mut self, store: &Store) -> Result<(), StoreError> {
        let mut known = Vec::new();
        for (_, key) in self.missing() {
            known.push(store.scored_documents(key).await?);
        }
        self.scored = known.iter().map(|documents| documents.len() as u64).sum();
        self.reach = self.scored;
        self.known = known;
        Ok(())
    }

    /// Notes how it ends when its engine is gone; the first reason counts.
    pub(super) fn leave(&mut self, how: Leaving) {
        self.leaving.get_or_insert(how);
        self.left.get_or_insert(Instant::now());
    }

    /// Whether its engine should have been gone for this long.
    pub(super) fn is_overdue(&self, patience: Duration) -> bool {
        self.left.is_some_and(|left| left.elapsed() > patience)
    }

    /// Its model's place in the plan and how it is held.
    pub(super) fn model(&self) -> (usize, BaseForm) {
        (self.job.model, self.job.base_form())
    }

    /// Whether its slot's engine is loading the model.
    pub(super) fn is_loading(&self) -> bool {
        self.phase == Phase::Loading
    }

    pub(super) fn label(&self) -> &str {
        &self.job.label
    }

    pub(super) fn started(&self) -> Progress {
        Progress::Started {
            job: self.job.id.clone(),
            label: self.job.label.clone(),
            trains: self.job.train_missing,
        }
    }

    /// The order of the attempt's present phase.
    pub(super) fn order(&self, threads: usize) -> Order {
        match (&self.job.work, self.phase) {
            (_, Phase::Loading) => {
                let local = self.plan.models[self.job.model].local.as_ref();
                let model = local.map(|local| local.path.clone()).unwrap_or_default();
                Order::Load(LoadOrder { model, form: self.job.base_form(), threads })
            }
            (Work::Train { config, .. }, Phase::Training) => Order::Train(Box::new(TrainOrder {
                log: self.log.clone(),
                tokens: self.tokens.clone(),
                train: config.train.clone(),
                lora: config.lora.clone(),
                seed: config.seed,
                token_budget: self.token_budget,
                adapter: self.adapter.clone(),
                base_name: config.model.clone(),
                key: self.job.subject.digest(),
                checkpoints: self.checkpoints.clone(),
                checkpoint_every: Seconds(config.train.checkpoint_every as f64),
            })),
            (work, _) => Order::Score(ScoreOrder {
                log: self.log.clone(),
                adapter: matches!(work, Work::Train { .. }).then(|| self.adapter.clone()),
                tasks: self.task_orders(),
                token_budget: self.token_budget,
                exact: false,
                // All tasks of a job are scored alike.
                softmax: self.missing().next().map_or(Softmax::Fp32, |(task, _)| task.facts.softmax),
            }),
        }
    }

    fn task_orders(&self) -> Vec<TaskOrder> {
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

    /// Takes in an event of this attempt.
    pub(super) async fn on(
        &mut self,
        event: Event,
        store: &Store,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Next, StoreError> {
        let subject = self.job.subject.digest();
        match event {
            Event::Step(report) => {
                self.reach = self.reach.max(self.scored + report.step);
                let first = self.losses.map_or(report.loss, |(first, _)| first);
                self.losses = Some((first, report.loss));
                self.harvest.steps.push(report);
                if self.harvest.steps.len() >= STEP_BATCH {
                    self.bring_in(store).await?;
                }
                watch(Progress::Step { job: self.job.id.clone(), report });
                Ok(Next::Wait)
            }
            Event::Trained(trained) => {
                let (adapter, losses) = (self.adapter.clone(), self.losses);
                self.harvest.training = Some(TrainingRecord { adapter, trained, losses });
                self.phase = Phase::Scoring;
                if self.job.missing.is_empty() {
                    // The end of the attempt takes it in.
                    return Ok(Next::End(AttemptEnd::Finished));
                }
                self.bring_in(store).await?;
                Ok(Next::Send)
            }
            Event::Document(score) => {
                self.documents.push(score);
                self.scored += 1;
                self.reach += 1;
                if self.documents.len() >= DOCUMENT_BATCH {
                    self.flush_documents(store).await?;
                }
                let total = self.missing().filter_map(|(task, _)| task.documents).sum();
                watch(Progress::Scoring { job: self.job.id.clone(), done: self.scored, total });
                Ok(Next::Wait)
            }
            Event::Scored { .. } => self.store_scores(subject, store).await.map(Next::End),
            Event::Failed(failure) => {
                self.flush(store).await?;
                Ok(match failure.kind {
                    FailureKind::Diverged => Next::End(AttemptEnd::Diverged(failure.message)),
                    FailureKind::BadInput | FailureKind::Internal => {
                        Next::End(AttemptEnd::Failed(failure.message))
                    }
                    FailureKind::OutOfMemory => Next::OutOfMemory(failure.message),
                    FailureKind::DiskFull => Next::DiskFull(failure.message),
                })
            }
            Event::Loaded { .. } => {
                let local = self.plan.models[self.job.model].local.as_ref();
                if let Some(file) = local.and_then(LocalModel::changed_file) {
                    let reason = format!("{} changed after the sweep was planned", file.display());
                    return Ok(Next::End(AttemptEnd::Failed(reason)));
                }
                self.phase = first_phase(self.job);
                Ok(Next::Send)
            }
            Event::Stopped => {
                self.flush(store).await?;
                Ok(Next::Wait)
            }
            Event::Pass | Event::Resumed { .. } => Ok(Next::Wait),
            // Answers to orders that a job never sends.
            Event::Hello { .. }
            | Event::Token { .. }
            | Event::Generated { .. }
            | Event::Merged { .. }
            | Event::Probed { .. } => Ok(Next::Wait),
        }
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
        store.record_documents(keyed).await
    }

    async fn bring_in(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.harvest.is_empty() {
            return Ok(());
        }
        store.bring_in(self.job.subject.digest(), &self.harvest).await?;
        if std::mem::take(&mut self.harvest).training.is_some() {
            self.clear_checkpoints();
        }
        Ok(())
    }

    async fn store_scores(&mut self, subject: Digest, store: &Store) -> Result<AttemptEnd, StoreError> {
        self.flush_documents(store).await?;
        for (planned, key) in self.missing() {
            let documents = store.documents(key).await?;
            let wanted = planned.documents.unwrap_or_default();
            if documents.len() as u64 != wanted {
                let (name, found) = (&planned.task.name, documents.len());
                return Ok(AttemptEnd::Failed(format!(
                    "task '{name}': {found} of {wanted} documents were scored"
                )));
            }
            let metrics = planned.task.metrics.iter().enumerate();
            let aggregates: Vec<Aggregate> = metrics
                .map(|(index, metric)| {
                    let value = |document: &StoredDocument| document.metrics.get(index).cloned();
                    let values: Vec<DocumentValue> = documents.iter().filter_map(value).collect();
                    aggregate(*metric, &values)
                })
                .collect();
            let record = ScoreRecord { key, task: planned.task.name.clone(), aggregates };
            store.record_scores(subject, &record).await?;
        }
        Ok(AttemptEnd::Finished)
    }
}
