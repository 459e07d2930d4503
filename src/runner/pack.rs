//! The pack that a slot works at: which order comes next, and what its events mean for the members.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Progress;
use super::job::{Leaving, RunningJob};
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
    /// Those that have not ended.
    pub(super) members: Vec<RunningJob>,
    /// How many there were.
    size: usize,
    /// The sweep that they run for: packs do not mix sweeps.
    sweep: String,
    pub(super) log: PathBuf,
    pub(super) token_budget: usize,
    phase: Phase,
    /// Since when its engine should be gone.
    left: Option<Instant>,
}

/// What the slot's engine does, with the jobs that it does it for, in the order in which events name them.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Nothing yet, or what it did is done.
    Between,
    Loading,
    Training(Vec<JobId>),
    Scoring(Vec<JobId>),
    /// With the samples, in the order in which events name them.
    Sampling(Vec<JobId>, Vec<OrderedSample>),
}

/// What follows from an event.
pub(super) enum Next {
    /// Wait for the next event.
    Wait,
    /// These attempts ended; if the phase is over, the next order is due.
    Ends(Vec<(JobId, AttemptEnd)>),
    /// A pass needed too much memory; the engine exits.
    OutOfMemory(String),
    /// Nothing can be written any more.
    DiskFull(String),
    /// Files are away; these attempts go back, through no fault of their own.
    Environment(Vec<JobId>, String),
}

impl RunningPack {
    /// Attempts that have not begun; at least one.
    pub(super) fn new(members: Vec<RunningJob>, log: PathBuf, token_budget: usize) -> Self {
        let size = members.len();
        let sweep = members.first().map(|member| member.sweep().to_owned()).unwrap_or_default();
        Self { sweep, members, size, log, token_budget, phase: Phase::Between, left: None }
    }

    /// Whether the attempts are one.
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

    /// Takes out a member that ended; an order that is still being carried out for it goes on to its end.
    pub(super) fn remove(&mut self, job: &JobId) -> Option<RunningJob> {
        let at = self.members.iter().position(|member| member.id() == job)?;
        Some(self.members.remove(at))
    }

    /// The model that all of it needs, and how it is held.
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

    /// Whether every member has ended and the engine waits for an order.
    pub(super) fn is_done(&self) -> bool {
        self.members.is_empty() && self.phase == Phase::Between
    }

    /// Whether any of it is to end when its engine is gone.
    pub(super) fn is_leaving(&self) -> bool {
        self.left.is_some()
    }

    /// Notes how all that have no reason of their own end when the engine is gone.
    pub(super) fn leave(&mut self, how: &Leaving) {
        self.members.iter_mut().for_each(|member| member.leave(how.clone()));
        self.left.get_or_insert(Instant::now());
    }

    /// Notes that the engine is to go, for one of them or for all.
    pub(super) fn break_off(&mut self) {
        self.left.get_or_insert(Instant::now());
    }

    /// Whether its engine should have been gone for this long.
    pub(super) fn is_overdue(&self, patience: Duration) -> bool {
        self.left.is_some_and(|left| left.elapsed() > patience)
    }

    /// The order that comes next, unless one is being carried out; none when nothing is left to do. `loaded` says whether
    /// the engine has the model.
    pub(super) fn next_order(&mut self, loaded: bool, threads: usize) -> Option<Order> {
        if self.phase != Phase::Between {
            return None;
        }
        let first = self.members.first()?;
        if !loaded {
            let (model, (_, form)) = (first.model.local.path.clone(), first.base());
            self.phase = Phase::Loading;
            return Some(Order::Load(LoadOrder { model, form, threads }));
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

    /// Has the first member's samples answered by all that have the same ones left.
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

    /// Scores a member, and all that are to be scored on the same documents, in one walk.
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

    /// Takes in an event of the engine.
    pub(super) async fn on(
        &mut self,
        event: Event,
        queue: &impl Queue,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Next, QueueError> {
        let job = self.job_of(&event);
        // What is said of a job that is no longer this process's is not written down.
        let is_held = |member: &&mut RunningJob| member.leaving != Some(Leaving::LetGo(Taken::Lost));
        let member = job.as_ref().and_then(|job| self.member(job)).filter(is_held);
        let mut ends = Vec::new();
        match (event, member) {
            (Event::Step { report, .. }, Some(member)) => watch(member.step(report, queue).await?),
            (Event::Document { score, .. }, Some(member)) => watch(member.document(score, queue).await?),
            (Event::Trained { trained, .. }, Some(member)) => {
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
            // Signs of life, and answers to orders that a pack never sends.
            _ => {}
        }
        self.end_training(&ends);
        let goes_on = ends.is_empty() && self.phase != Phase::Between;
        Ok(if goes_on { Next::Wait } else { Next::Ends(ends) })
    }

    /// A training is over when every member has ended or trained.
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

    /// The jobs of the order that is being carried out.
    fn order_jobs(&self) -> Vec<JobId> {
        match &self.phase {
            Phase::Training(jobs) | Phase::Scoring(jobs) | Phase::Sampling(jobs, _) => jobs.clone(),
            Phase::Between | Phase::Loading => Vec::new(),
        }
    }

    /// A sample of the order that is being carried out.
    fn sample_of(&self, prompt: usize) -> Option<&OrderedSample> {
        let Phase::Sampling(_, samples) = &self.phase else { return None };
        samples.get(prompt)
    }

    /// The job that an event is about.
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

    /// The jobs that a failure of the order concerns.
    fn concerned(&self) -> Vec<JobId> {
        let trains = |job: &JobId| self.members.iter().any(|member| member.id() == job && member.trains());
        match &self.phase {
            Phase::Between | Phase::Loading => self.jobs(),
            // Those that are trained wait to be scored.
            Phase::Training(jobs) => jobs.iter().filter(|job| trains(job)).cloned().collect(),
            Phase::Scoring(jobs) | Phase::Sampling(jobs, _) => jobs.clone(),
        }
    }

    /// Whether the model's files are what the sweep was planned on.
    pub(super) fn check_model(&self) -> ModelFiles {
        self.members.first().map_or(ModelFiles::Same, |member| member.model.local.check_files())
    }

    /// The longest row that any member trains on, in tokens: no smaller budget makes its passes smaller.
    pub(super) fn longest_row(&self) -> usize {
        self.members.iter().map(RunningJob::longest_row).max().unwrap_or_default()
    }

    /// Time that a pass takes at most, estimated from the model's throughput.
    pub(super) fn pass_time(&self) -> Duration {
        let rate = self.members.first().map_or(1.0, RunningJob::tokens_per_second);
        // An evaluation does not know its tokens.
        let tokens = match self.members.iter().map(RunningJob::planned_tokens).sum() {
            0 => u64::MAX,
            tokens => tokens,
        };
        pass_time(self.token_budget.max(self.longest_row()), tokens, rate)
    }

    /// What the attempts leave behind when their engine is gone. One whose job is another's leaves nothing.
    pub(super) async fn flush(&mut self, queue: &impl Queue) -> Result<(), QueueError> {
        for member in &mut self.members {
            if member.leaving != Some(Leaving::LetGo(Taken::Lost)) {
                member.flush(queue).await?;
            }
        }
        Ok(())
    }
}

/// How a failure ends an attempt, or what follows for the whole pack.
fn end_of(failure: EngineFailure) -> Result<AttemptEnd, Next> {
    match failure.kind {
        FailureKind::Diverged => Ok(AttemptEnd::Diverged(failure.message)),
        FailureKind::BadInput | FailureKind::Internal => Ok(AttemptEnd::Failed(failure.message)),
        FailureKind::OutOfMemory => Err(Next::OutOfMemory(failure.message)),
        FailureKind::DiskFull => Err(Next::DiskFull(failure.message)),
        FailureKind::Environment => Ok(AttemptEnd::Requeued(failure.message)),
    }
}

/// Time of a pass of at most `budget` tokens, at `rate` tokens per second. A pass holds no more than the `tokens` of the whole pack:
/// where jobs are short, the measured rate is mostly their overhead, and says nothing about a full pass.
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
        // Jobs of 40 tokens that took half a second each: 80 tokens per second, which says nothing about a full pass.
        assert_eq!(pass_time(4096, 8 * 40, 80.0), Duration::from_secs(4));
        assert_eq!(pass_time(4096, 0, 0.0), Duration::ZERO);
    }
}
