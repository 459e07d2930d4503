//! The running pack of a slot: its next order, and what engine events mean for its members.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Progress;
use super::job::{Leaving, RunningJob};
use crate::artifacts::Artifacts;
use crate::device::Slot;
use crate::job::{BaseForm, Digest, JobId};
use crate::orders::OrderedSample;
use crate::plan::ModelFiles;
use crate::protocol::{
    EngineFailure, Event, FailureKind, LoadOrder, Order, PackOrder, SampleOrder, SamplePrompt, ScoreOrder,
    TrainOrder,
};
use crate::queue::{AttemptEnd, Queue, QueueError, Taken};

/// Attempts that share an engine.
pub(super) struct RunningPack {
    /// Members that have not ended.
    pub(super) members: Vec<RunningJob>,
    /// Initial number of members.
    size: usize,
    /// The sweep it runs for: packs do not mix sweeps.
    sweep: String,
    pub(super) log: PathBuf,
    pub(super) token_budget: usize,
    artifacts: Artifacts,
    phase: Phase,
    /// Since when its engine should have exited.
    left: Option<Instant>,
}

/// The current phase of the slot's engine, with its jobs in the order that events use.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// No phase, or the last one is over.
    Between,
    Loading,
    Training(Vec<JobId>),
    Scoring(Vec<JobId>),
    /// With the samples, in the order that events use.
    Sampling(Vec<JobId>, Vec<OrderedSample>),
}

/// The consequence of an event.
pub(super) enum Next {
    /// Wait for the next event.
    Wait,
    /// These attempts ended; if the phase is over, the next order is due.
    Ends(Vec<(JobId, AttemptEnd)>),
    /// A pass ran out of memory; the engine exits.
    OutOfMemory(String),
    /// The disk is full.
    DiskFull(String),
    /// Files are missing; these attempts are requeued through no fault of their own.
    Environment(Vec<JobId>, String),
}

impl RunningPack {
    /// Attempts that have not begun; at least one.
    pub(super) fn new(
        members: Vec<RunningJob>,
        log: PathBuf,
        token_budget: usize,
        artifacts: Artifacts,
    ) -> Self {
        let size = members.len();
        let sweep = members.first().map(|member| member.sweep().to_owned()).unwrap_or_default();
        Self { sweep, members, size, log, token_budget, artifacts, phase: Phase::Between, left: None }
    }

    /// Whether it has one member.
    pub(super) fn is_single(&self) -> bool {
        self.size == 1
    }

    /// The jobs that have not ended.
    pub(super) fn jobs(&self) -> Vec<JobId> {
        self.members.iter().map(|member| member.id().clone()).collect()
    }

    pub(super) fn member(&mut self, job: &JobId) -> Option<&mut RunningJob> {
        self.members.iter_mut().find(|member| member.id() == job)
    }

    /// Removes an ended member; its current order still runs to the end.
    pub(super) fn remove(&mut self, job: &JobId) -> Option<RunningJob> {
        let at = self.members.iter().position(|member| member.id() == job)?;
        Some(self.members.remove(at))
    }

    /// The base model of the pack, and its form.
    pub(super) fn base(&self) -> Option<(Digest, BaseForm)> {
        self.members.first().map(RunningJob::base)
    }

    /// The sweep that the pack runs for.
    pub(super) fn sweep(&self) -> &str {
        &self.sweep
    }

    /// Whether its slot's engine is loading the model.
    pub(super) fn is_loading(&self) -> bool {
        self.phase == Phase::Loading
    }

    /// Whether all members have ended and the engine is idle.
    pub(super) fn is_done(&self) -> bool {
        self.members.is_empty() && self.phase == Phase::Between
    }

    /// Whether any member is to end when its engine is gone.
    pub(super) fn is_leaving(&self) -> bool {
        self.left.is_some()
    }

    /// Sets how members without a pending end finish when the engine is gone.
    pub(super) fn leave(&mut self, how: &Leaving) {
        self.members.iter_mut().for_each(|member| member.leave(how.clone()));
        self.left.get_or_insert(Instant::now());
    }

    /// Records that the engine is to exit, for one member or for all.
    pub(super) fn break_off(&mut self) {
        self.left.get_or_insert(Instant::now());
    }

    /// Whether its engine should have exited this long ago.
    pub(super) fn is_overdue(&self, patience: Duration) -> bool {
        self.left.is_some_and(|left| left.elapsed() > patience)
    }

    /// The next order, unless one is running; none when nothing is left to do. `loaded`: the engine has the model.
    pub(super) fn next_order(&mut self, loaded: bool, slot: &Slot) -> Option<Order> {
        if self.phase != Phase::Between {
            return None;
        }
        let first = self.members.first()?;
        if !loaded {
            let (model, (_, form)) = (first.model.local.path.clone(), first.base());
            self.phase = Phase::Loading;
            return Some(Order::Load(LoadOrder {
                model,
                form,
                threads: slot.threads,
                devices: slot.devices,
            }));
        }
        let training = self.members.iter().filter(|member| member.trains());
        let (jobs, members): (Vec<JobId>, Vec<TrainOrder>) =
            training.filter_map(|member| Some((member.id().clone(), member.train_order()?))).unzip();
        if !members.is_empty() {
            self.phase = Phase::Training(jobs);
            let (log, token_budget) = (self.log.clone(), self.token_budget);
            return Some(Order::Train(PackOrder { log, token_budget, members }));
        }
        match self.members.iter().position(RunningJob::scores) {
            Some(first) => self.score_order(first),
            None => self.sample_order(),
        }
    }

    /// Orders the first member's samples for all members with the same samples left.
    fn sample_order(&mut self) -> Option<Order> {
        let first = self.members.first()?;
        let (samples, stop) = (first.samples().to_vec(), first.stop.clone());
        let prompt = |sample: &OrderedSample| SamplePrompt {
            tokens: sample.tokens.clone(),
            max_new_tokens: sample.max_tokens,
        };
        let prompts = samples.iter().map(prompt).collect();
        let alike = self.members.iter().filter(|member| member.samples() == samples);
        let (jobs, adapters) = alike.map(|member| (member.id().clone(), member.scored_adapter())).unzip();
        self.phase = Phase::Sampling(jobs, samples);
        Some(Order::Sample(SampleOrder { log: self.log.clone(), adapters, prompts, stop }))
    }

    /// Scores a member, and all others with the same documents, in one pass over them.
    fn score_order(&mut self, first: usize) -> Option<Order> {
        let (tasks, form) = (self.members[first].task_orders(), self.members[first].scoring_form());
        let (softmax, exact) = form?;
        let (mut jobs, mut adapters) = (Vec::new(), Vec::new());
        for member in &mut self.members {
            if member.scoring_form() == form && member.task_orders() == tasks {
                member.begin_scoring();
                jobs.push(member.id().clone());
                adapters.push(member.scored_adapter());
            }
        }
        self.phase = Phase::Scoring(jobs);
        let (log, token_budget) = (self.log.clone(), self.token_budget);
        Some(Order::Score(ScoreOrder { log, adapters, tasks, token_budget, exact, softmax }))
    }

    /// Handles an event of the engine.
    pub(super) async fn on(
        &mut self,
        event: Event,
        queue: &impl Queue,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Next, QueueError> {
        let (job, artifacts) = (self.job_of(&event), self.artifacts.clone());
        // Events of a job that this process no longer holds are not recorded.
        let is_held = |member: &&mut RunningJob| member.leaving != Some(Leaving::LetGo(Taken::Lost));
        let member = job.as_ref().and_then(|job| self.member(job)).filter(is_held);
        let mut ends = Vec::new();
        match (event, member) {
            (Event::Step { report, .. }, Some(member)) => watch(member.step(report, queue).await?),
            (Event::Document { score, .. }, Some(member)) => watch(member.document(score, queue).await?),
            (Event::Trained { mut trained, .. }, Some(member)) => {
                if let Err(error) = member.put_adapter(&mut trained, &artifacts).await {
                    let (job, reason) = (member.id().clone(), error.to_string());
                    self.end_training(&[(job.clone(), AttemptEnd::Requeued(reason.clone()))]);
                    return Ok(Next::Environment(vec![job], reason));
                }
                let end = member.trained(trained, queue).await?;
                ends.extend(end.map(|end| (member.id().clone(), end)));
            }
            (Event::MemberFailed { failure, .. }, Some(member)) => {
                member.flush(queue).await?;
                if failure.kind == FailureKind::Environment {
                    let job = member.id().clone();
                    self.end_training(&[(job.clone(), AttemptEnd::Requeued(failure.message.clone()))]);
                    return Ok(Next::Environment(vec![job], failure.message));
                }
                match end_of(failure) {
                    Ok(end) => ends.push((member.id().clone(), end)),
                    Err(next) => return Ok(next),
                }
            }
            (Event::Sample { prompt, tokens, .. }, _) => {
                let sample = self.sample_of(prompt).cloned();
                let member = job.as_ref().and_then(|job| self.member(job)).filter(is_held);
                if let (Some(sample), Some(member)) = (sample, member) {
                    let end = member.sample(&sample, &tokens, queue).await?;
                    ends.extend(end.map(|end| (member.id().clone(), end)));
                }
            }
            (Event::Sampled, _) => self.phase = Phase::Between,
            (Event::Loaded { .. }, _) => {
                self.phase = Phase::Between;
                match self.check_model() {
                    ModelFiles::Same => {}
                    ModelFiles::Away(file) => {
                        let reason = format!("{} cannot be read", file.display());
                        return Ok(Next::Environment(self.jobs(), reason));
                    }
                    ModelFiles::Changed(file) => {
                        let reason = format!("{} changed after the sweep was planned", file.display());
                        let end = |job| (job, AttemptEnd::Failed(reason.clone()));
                        ends = self.jobs().into_iter().map(end).collect();
                    }
                }
            }
            (Event::Scored { .. }, _) => {
                for job in self.order_jobs() {
                    if let Some(member) = self.member(&job) {
                        ends.extend(member.scored(queue).await?.map(|end| (job, end)));
                    }
                }
                self.phase = Phase::Between;
            }
            (Event::Failed(failure), _) => {
                self.flush(queue).await?;
                let concerned = self.concerned();
                if failure.kind == FailureKind::Environment {
                    self.phase = Phase::Between;
                    return Ok(Next::Environment(concerned, failure.message));
                }
                match end_of(failure) {
                    Ok(end) => {
                        ends = concerned.into_iter().map(|job| (job, end.clone())).collect();
                        self.phase = Phase::Between;
                    }
                    Err(next) => return Ok(next),
                }
            }
            (Event::Stopped, _) => self.flush(queue).await?,
            // Signs of life, and replies to orders that a pack never sends.
            _ => {}
        }
        self.end_training(&ends);
        let goes_on = ends.is_empty() && self.phase != Phase::Between;
        Ok(if goes_on { Next::Wait } else { Next::Ends(ends) })
    }

    /// A training phase is over when every member has ended or trained.
    fn end_training(&mut self, ends: &[(JobId, AttemptEnd)]) {
        let Phase::Training(jobs) = &self.phase else { return };
        let trains = |job: &JobId| {
            let ended = ends.iter().any(|(other, _)| other == job);
            !ended && self.members.iter().any(|member| member.id() == job && member.trains())
        };
        if !jobs.iter().any(trains) {
            self.phase = Phase::Between;
        }
    }

    /// The jobs of the current order.
    fn order_jobs(&self) -> Vec<JobId> {
        match &self.phase {
            Phase::Training(jobs) | Phase::Scoring(jobs) | Phase::Sampling(jobs, _) => jobs.clone(),
            Phase::Between | Phase::Loading => Vec::new(),
        }
    }

    /// A sample of the current order.
    fn sample_of(&self, prompt: usize) -> Option<&OrderedSample> {
        let Phase::Sampling(_, samples) = &self.phase else { return None };
        samples.get(prompt)
    }

    /// The job of an event.
    fn job_of(&self, event: &Event) -> Option<JobId> {
        let (Event::Step { member, .. }
        | Event::Resumed { member, .. }
        | Event::Trained { member, .. }
        | Event::Document { member, .. }
        | Event::Sample { member, .. }
        | Event::MemberFailed { member, .. }) = event
        else {
            return None;
        };
        self.order_jobs().get(*member).cloned()
    }

    /// The jobs affected by a failure of the order.
    fn concerned(&self) -> Vec<JobId> {
        let trains = |job: &JobId| self.members.iter().any(|member| member.id() == job && member.trains());
        match &self.phase {
            Phase::Between | Phase::Loading => self.jobs(),
            // Trained members wait to be scored.
            Phase::Training(jobs) => jobs.iter().filter(|job| trains(job)).cloned().collect(),
            Phase::Scoring(jobs) | Phase::Sampling(jobs, _) => jobs.clone(),
        }
    }

    /// Whether the model's files are unchanged since planning.
    pub(super) fn check_model(&self) -> ModelFiles {
        self.members.first().map_or(ModelFiles::Same, |member| member.model.local.check_files())
    }

    /// The longest training row of any member, in tokens: a smaller budget does not shrink its pass.
    pub(super) fn longest_row(&self) -> usize {
        self.members.iter().map(RunningJob::longest_row).max().unwrap_or_default()
    }

    /// Upper bound on the time of a pass, estimated from the model's throughput.
    pub(super) fn pass_time(&self) -> Duration {
        let rate = self.members.first().map_or(1.0, RunningJob::tokens_per_second);
        // The number of tokens of an evaluation is unknown.
        let tokens = match self.members.iter().map(RunningJob::planned_tokens).sum() {
            0 => u64::MAX,
            tokens => tokens,
        };
        pass_time(self.token_budget.max(self.longest_row()), tokens, rate)
    }

    /// Records pending results after the engine is gone, except for jobs that were taken over.
    pub(super) async fn flush(&mut self, queue: &impl Queue) -> Result<(), QueueError> {
        for member in &mut self.members {
            if member.leaving != Some(Leaving::LetGo(Taken::Lost)) {
                member.flush(queue).await?;
            }
        }
        Ok(())
    }
}

/// How a failure ends an attempt, or its consequence for the whole pack.
fn end_of(failure: EngineFailure) -> Result<AttemptEnd, Next> {
    match failure.kind {
        FailureKind::Diverged => Ok(AttemptEnd::Diverged(failure.message)),
        FailureKind::BadInput | FailureKind::Internal => Ok(AttemptEnd::Failed(failure.message)),
        FailureKind::OutOfMemory => Err(Next::OutOfMemory(failure.message)),
        FailureKind::DiskFull => Err(Next::DiskFull(failure.message)),
        FailureKind::Environment => Ok(AttemptEnd::Requeued(failure.message)),
    }
}

/// Time of a pass of at most `budget` tokens, at `rate` tokens per second. A pass holds at most the `tokens` of the whole pack: for short
/// jobs the measured rate is mostly overhead and does not describe a full pass.
fn pass_time(budget: usize, tokens: u64, rate: f64) -> Duration {
    let pass = (budget as u64).min(tokens) as f64;
    Duration::try_from_secs_f64(pass / rate.max(1e-3)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_not_estimated_longer_than_its_whole_pack_takes() {
        assert_eq!(pass_time(4096, 1_000_000, 2048.0), Duration::from_secs(2));
        // Jobs of 40 tokens that took half a second each: 80 tokens per second, which does not describe a full pass.
        assert_eq!(pass_time(4096, 8 * 40, 80.0), Duration::from_secs(4));
        assert_eq!(pass_time(4096, 0, 0.0), Duration::ZERO);
    }
}
