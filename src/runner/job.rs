//! One attempt at a job: which order comes next, and what its events mean for the store.

use std::path::{Path, PathBuf};

use super::Progress;
use crate::job::Digest;
use crate::plan::{Plan, PlannedJob, Work};
use crate::protocol::{DocumentScore, Event, FailureKind, Order, ScoreOrder, StepReport, TrainOrder};
use crate::store::{Attempt, AttemptEnd, DocumentRecord, Store, StoreError, TrainingRecord};
use crate::task::{Aggregate, aggregate};

/// Steps that are collected before they go into the store together.
const STEP_BATCH: usize = 32;

/// An attempt that a slot works at.
pub(super) struct RunningJob<'a> {
    plan: &'a Plan,
    job: &'a PlannedJob,
    pub(super) attempt: Attempt,
    pub(super) log: PathBuf,
    adapter: PathBuf,
    token_budget: usize,
    phase: Phase,
    steps: Vec<StepReport>,
    losses: Option<(f64, f64)>,
    documents: Vec<DocumentScore>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Training,
    Scoring,
}

/// What follows from an event.
pub(super) enum Next {
    /// Wait for the next event.
    Wait,
    /// Send this order.
    Send(Box<Order>),
    /// The attempt ended.
    End(AttemptEnd),
}

impl<'a> RunningJob<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        job: &'a PlannedJob,
        attempt: Attempt,
        log: PathBuf,
        adapters: &Path,
        token_budget: usize,
    ) -> Self {
        let adapter = adapters.join(job.subject.digest().as_str());
        let phase = if job.train_missing { Phase::Training } else { Phase::Scoring };
        let (steps, documents) = (Vec::new(), Vec::new());
        Self { plan, job, attempt, log, adapter, token_budget, phase, steps, losses: None, documents }
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
    pub(super) fn order(&self) -> Order {
        match (&self.job.work, self.phase) {
            (Work::Train { config, data, template }, Phase::Training) => Order::Train(TrainOrder {
                log: self.log.clone(),
                data: data.clone(),
                template: *template,
                train: config.train.clone(),
                lora: config.lora.clone(),
                seed: config.seed,
                token_budget: self.token_budget,
                adapter: self.adapter.clone(),
                base_name: config.model.clone(),
            }),
            (work, _) => Order::Score(ScoreOrder {
                log: self.log.clone(),
                adapter: matches!(work, Work::Train { .. }).then(|| self.adapter.clone()),
                tasks: self.job.missing.iter().map(|&task| self.plan.tasks[task].task.clone()).collect(),
                limit: self.plan.limit,
                token_budget: self.token_budget,
            }),
        }
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
                let first = self.losses.map_or(report.loss, |(first, _)| first);
                self.losses = Some((first, report.loss));
                self.steps.push(report);
                if self.steps.len() >= STEP_BATCH {
                    self.flush_steps(store).await?;
                }
                watch(Progress::Step { job: self.job.id.clone(), report });
                Ok(Next::Wait)
            }
            Event::Trained(trained) => {
                self.flush_steps(store).await?;
                let record = TrainingRecord { adapter: self.adapter.clone(), trained, losses: self.losses };
                store.record_training(subject, &record).await?;
                self.phase = Phase::Scoring;
                Ok(if self.job.missing.is_empty() {
                    Next::End(AttemptEnd::Finished)
                } else {
                    Next::Send(Box::new(self.order()))
                })
            }
            Event::Document(score) => {
                self.documents.push(score);
                let total = self.job.missing.iter().map(|&task| self.plan.tasks[task].documents).sum();
                let done = self.documents.len() as u64;
                watch(Progress::Scoring { job: self.job.id.clone(), done, total });
                Ok(Next::Wait)
            }
            Event::Scored { .. } => self.store_scores(subject, store).await.map(Next::End),
            Event::Failed(failure) => {
                self.flush_steps(store).await?;
                Ok(Next::End(match failure.kind {
                    FailureKind::Diverged => AttemptEnd::Diverged(failure.message),
                    FailureKind::BadInput | FailureKind::Internal => AttemptEnd::Failed(failure.message),
                }))
            }
            Event::Hello { .. } | Event::Loaded { .. } => Ok(Next::Wait),
        }
    }

    /// What the attempt leaves behind when its engine is gone.
    pub(super) async fn flush_steps(&mut self, store: &Store) -> Result<(), StoreError> {
        if !self.steps.is_empty() {
            store.record_steps(self.job.subject.digest(), &self.steps).await?;
            self.steps.clear();
        }
        Ok(())
    }

    async fn store_scores(&mut self, subject: &Digest, store: &Store) -> Result<AttemptEnd, StoreError> {
        for &position in &self.job.missing {
            let planned = &self.plan.tasks[position];
            let of_task = |score: &DocumentScore| score.task == planned.task.name;
            let documents: Vec<DocumentScore> =
                self.documents.iter().filter(|s| of_task(s)).cloned().collect();
            if documents.len() as u64 != planned.documents {
                let (name, found, wanted) = (&planned.task.name, documents.len(), planned.documents);
                return Ok(AttemptEnd::Failed(format!(
                    "task '{name}': {found} of {wanted} documents were scored"
                )));
            }
            let metrics = planned.task.metrics.iter().enumerate();
            let aggregates: Vec<Aggregate> = metrics
                .map(|(index, metric)| {
                    let values: Vec<f64> = documents.iter().map(|document| document.metrics[index]).collect();
                    aggregate(*metric, &values)
                })
                .collect();
            let key = self.job.wanted[position].clone();
            let record = DocumentRecord { key, task: planned.task.name.clone(), documents, aggregates };
            store.record_scores(subject, &record).await?;
        }
        Ok(AttemptEnd::Finished)
    }
}
