//! Jobs known to the run: which are queued, their needs, and their packs.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::Progress;
use super::error::RunError;
use super::inputs::JobInputs;
use super::intake;
use super::job::Missing;
use super::run::Running;
use crate::device::{DeviceKind, pack_rules};
use crate::job::{Bytes, Digest, JobId, JobState, Seconds, Variant};
use crate::orders::JobOrder;
use crate::plan::MemoryEstimate;
use crate::queue::{ActiveJob, AttemptEnd, AttemptResults, Claim, Closing, JobProgress, Owner, Queue};
use crate::scheduler::{Event, PackCandidate, PackKind, TrainingLoad, plan_packs};

/// A job with its inputs.
pub(super) struct KnownJob {
    pub(super) order: Rc<JobOrder>,
    pub(super) inputs: JobInputs,
    /// The revision of the order.
    pub(super) revision: i64,
}

/// A job that was just read.
struct NewJob {
    id: JobId,
    candidate: PackCandidate,
    suspect: bool,
}

impl<Q: Queue> Running<'_, '_, '_, Q> {
    /// Applies `[keep]` before anything starts: a sweep at its disk limit starts nothing.
    pub(super) async fn prepare(&mut self) -> Result<(), RunError> {
        let active = self.active().await?;
        self.read_new(&active).await?;
        self.keep_adapters().await.map(drop)
    }

    /// Queued or running jobs of this run.
    async fn active(&self) -> Result<Vec<ActiveJob>, RunError> {
        let mut active = self.runner.queue.active().await?;
        if let Some(only) = &self.runner.only {
            active.retain(|job| only.contains(&job.id));
        }
        Ok(active)
    }

    /// Refills the scheduler from the queue. `true`: nothing is left to run or to wait for.
    pub(super) async fn refill(&mut self) -> Result<bool, RunError> {
        let active = loop {
            let active = self.active().await?;
            let ids: HashSet<&JobId> = active.iter().map(|job| &job.id).collect();
            self.tally.retain(|job| ids.contains(job));
            self.unavailable.retain(|job, _| ids.contains(job));
            self.read_new(&active).await?;
            // Where nothing of what was read can run here, more is: each time some that were not tried.
            if self.unread == 0 || self.runnable(&active).next().is_some() {
                break active;
            }
        };
        let runnable: HashSet<&JobId> = self.runnable(&active).map(|job| &job.id).collect();
        // Jobs that were paused, cancelled, taken over or are no longer wanted do not start.
        let gone = self.jobs.keys().filter(|job| !runnable.contains(job)).cloned().collect();
        self.scheduler.on(Event::Withdrawn(gone));
        for at in 0..self.packs.len() {
            let (jobs, needs) = &self.packs[at];
            let jobs: Vec<JobId> = jobs.iter().filter(|job| runnable.contains(job)).cloned().collect();
            let Some(first) = jobs.first().and_then(|job| self.jobs.get(job)) else { continue };
            let (needs, priority) = (*needs, first.order.priority());
            let effects = self.scheduler.on(Event::Queued { jobs, needs, priority });
            self.carry_out(effects).await?;
        }
        if self.unread == 0 {
            self.tally.report(self.watch);
        }
        if !self.scheduler.is_idle() {
            return Ok(false);
        }
        if !runnable.is_empty() && self.scheduler.is_out_of_slots() {
            return Err(RunError::NoDevice(self.last_crash.clone()));
        }
        let limits = &self.runner.limits;
        let running = limits.wait_for_others && active.iter().any(|job| job.state == JobState::Running);
        Ok(runnable.is_empty() && !running && !limits.forever)
    }

    /// Queued jobs that can run here.
    fn runnable<'j>(&self, active: &'j [ActiveJob]) -> impl Iterator<Item = &'j ActiveJob> {
        active.iter().filter(|job| job.state == JobState::Queued && self.can_run(&job.id))
    }

    /// Whether a job can run here: at least one sweep that wants it has disk space.
    pub(super) fn can_run(&self, job: &JobId) -> bool {
        let has_room = |known: &KnownJob| known.order.sweeps.keys().any(|sweep| !self.full.contains(sweep));
        self.jobs.get(job).is_some_and(has_room)
    }

    /// Whether jobs are left and every sweep that wants one is at its disk limit.
    pub(super) fn disk_is_full(&self) -> bool {
        let mut left = self.tally.jobs_left().peekable();
        !self.full.is_empty() && left.peek().is_some() && left.all(|job| !self.can_run(job))
    }

    /// Reads the orders of queued jobs that are new or changed; an input missing on this machine keeps a job queued.
    async fn read_new(&mut self, active: &[ActiveJob]) -> Result<(), RunError> {
        let is_new = |job: &&ActiveJob| {
            let known = self.jobs.get(&job.id).is_some_and(|known| known.revision == job.revision);
            let tried = self.unavailable.get(&job.id).is_some_and(|(revision, _)| *revision == job.revision);
            job.state == JobState::Queued && !known && !tried
        };
        let mut new: Vec<&ActiveJob> = active.iter().filter(is_new).collect();
        if self.runner.queue.is_shared() {
            // Orders that changed are read again in any case.
            let (changed, unknown) = new.into_iter().partition(|job| self.jobs.contains_key(&job.id));
            let known = self.runnable(active).map(|job| job.priority).max();
            let concurrent = self.runner.slots.len() * self.runner.pack;
            let intake = intake::choose(unknown, known, &self.owner, concurrent);
            (new, self.unread) = (changed, intake.unread);
            new.extend(intake.read);
        }
        for job in active.iter().filter(|job| job.state == JobState::Queued) {
            if let Some(known) = self.jobs.get(&job.id) {
                self.tally.add(known.order.sweep(), &job.id);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let ids: Vec<JobId> = new.iter().map(|job| job.id.clone()).collect();
        let by_id: BTreeMap<&JobId, &ActiveJob> = new.iter().map(|job| (&job.id, *job)).collect();
        let mut missing: BTreeMap<String, Vec<JobId>> = BTreeMap::new();
        let mut turns: BTreeMap<_, Vec<(u64, NewJob)>> = BTreeMap::new();
        let mut done: Vec<JobId> = Vec::new();
        for (order, progress) in self.runner.queue.orders(&ids).await? {
            let Some(job) = by_id.get(&order.id) else { continue };
            self.forget(&order.id);
            let inputs = match self.inputs.of(&order, &progress) {
                Err(_) if self.runner.artifacts.store().is_some() => self.of_brought(&order, &progress).await,
                found => found,
            };
            let inputs = match inputs {
                Ok(inputs) => inputs,
                Err(reason) => {
                    self.unavailable.insert(order.id.clone(), (job.revision, reason.clone()));
                    missing.entry(reason).or_default().push(order.id);
                    continue;
                }
            };
            let order = Rc::new(order);
            let known = KnownJob { order: Rc::clone(&order), inputs, revision: job.revision };
            let left = Missing::of(&order, &known.inputs, &progress);
            if left.is_empty() {
                done.push(order.id.clone());
                continue;
            }
            let candidate = candidate(&known, &left, &progress, self.runner.device);
            self.tally.add(order.sweep(), &order.id);
            let new = NewJob { id: order.id.clone(), candidate, suspect: job.suspect };
            turns.entry(order.turn()).or_default().push((order.position(), new));
            self.jobs.insert(order.id.clone(), known);
        }
        for mut jobs in turns.into_values() {
            jobs.sort_by_key(|(position, _)| *position);
            self.pack(jobs.into_iter().map(|(_, job)| job).collect());
        }
        for (reason, jobs) in missing {
            self.runner.queue.note_waiting(&jobs, &reason).await?;
            (self.watch)(Progress::Unavailable { jobs: jobs.len(), reason });
        }
        self.finish(&done).await?;
        self.report_total();
        Ok(())
    }

    /// The inputs of a job after those that were missing were brought. Error: why it cannot run here.
    async fn of_brought(&mut self, order: &JobOrder, progress: &JobProgress) -> Result<JobInputs, String> {
        self.bring_inputs(order, progress).await.map_err(|error| error.to_string())?;
        self.inputs.of(order, progress)
    }

    fn report_total(&mut self) {
        let total = self.tally.jobs() + self.unread;
        if total != std::mem::replace(&mut self.total, total) {
            (self.watch)(Progress::Total { jobs: total });
        }
    }

    /// Forgets an order.
    pub(super) fn forget(&mut self, job: &JobId) {
        self.unavailable.remove(job);
        self.scheduler.on(Event::Withdrawn([job.clone()].into()));
        if self.jobs.remove(job).is_some() {
            self.packs.iter_mut().for_each(|(jobs, _)| jobs.retain(|other| other != job));
            self.packs.retain(|(jobs, _)| !jobs.is_empty());
        }
    }

    /// Ends queued jobs whose wanted work was done by another attempt or an evaluation.
    async fn finish(&mut self, jobs: &[JobId]) -> Result<(), RunError> {
        let Some(slot) = self.runner.slots.first().filter(|_| !jobs.is_empty()) else { return Ok(()) };
        let claim = Claim { jobs, owner: &self.owner, slot, token_budget: slot.token_budget };
        let claimed = self.runner.queue.advance(&[], Some(claim)).await?.claimed;
        let closing = Closing::End(AttemptEnd::Finished, Box::<AttemptResults>::default());
        let nothing = crate::job::Digest::of(b"");
        let closings: Vec<_> =
            claimed.into_iter().map(|attempt| (attempt, nothing, closing.clone())).collect();
        self.runner.queue.advance(&closings, None).await?;
        Ok(())
    }

    /// Adds packs of jobs with the same turn. Jobs suspected of crashing their process run alone, after the others.
    fn pack(&mut self, jobs: Vec<NewJob>) {
        let rules = pack_rules(&self.runner.slots, self.runner.pack);
        let candidates: Vec<PackCandidate> = jobs.iter().map(|job| job.candidate.clone()).collect();
        let (mut alone, first) = (Vec::new(), self.packs.len());
        for pack in plan_packs(&candidates, rules) {
            let (suspects, others): (Vec<usize>, Vec<usize>) =
                pack.jobs.into_iter().partition(|&at| jobs[at].suspect);
            let ids = |places: &[usize]| places.iter().map(|&at| jobs[at].id.clone()).collect::<Vec<JobId>>();
            alone.extend(suspects.iter().map(|at| (ids(&[*at]), pack.memory)));
            if !others.is_empty() {
                self.packs.push((ids(&others), pack.memory));
            }
        }
        if self.runner.queue.is_shared() {
            spread(&mut self.packs[first..], &self.owner);
        }
        self.packs.append(&mut alone);
    }
}

/// Packs that are tried in an order of the worker's own.
const NEIGHBORS: usize = 64;

/// Workers on many machines would all try the same pack first: neighbors are put into an order that differs from worker to worker.
fn spread(packs: &mut [(Vec<JobId>, Bytes)], owner: &Owner) {
    for neighbors in packs.chunks_mut(NEIGHBORS) {
        neighbors.sort_by_cached_key(|(jobs, _)| {
            let first = jobs.first().map_or("", JobId::as_str);
            Digest::of(format!("{} {first}", owner.as_str()).as_bytes()).to_string()
        });
    }
}

/// A job as input of the pack planner.
fn candidate(known: &KnownJob, left: &Missing, progress: &JobProgress, device: DeviceKind) -> PackCandidate {
    let (order, config) = (&known.order, known.order.config().filter(|_| left.trains));
    let memory = known.order.config().map(|config| {
        let longest = order.longest_row();
        MemoryEstimate::of(&known.inputs.model.config, &config.train, &config.lora, (device, longest))
    });
    let unscored = known.inputs.tasks.iter().filter(|(task, ..)| !progress.scored.contains(&task.key));
    let score_tokens: u64 = unscored.map(|(task, ..)| task.tokens).sum();
    let train_tokens = if left.trains { order.train_tokens } else { 0 };
    // Scoring needs only the forward pass.
    let tokens = train_tokens as f64 + score_tokens as f64 / 3.0;
    PackCandidate {
        kind: PackKind {
            model: order.model.identity,
            form: order.form,
            trains: left.trains,
            checkpointing: config.is_some_and(|config| config.train.gradient_checkpointing),
            slow: config.is_some_and(|config| config.lora.variant == Variant::Dora),
            alone: config.filter(|config| config.train.strict).map(|_| order.id.clone()),
        },
        time: Seconds(tokens / order.tokens_per_second.max(1e-9)),
        shared: memory.map_or(Bytes(0), |memory| memory.shared()),
        adapter: memory.map_or(Bytes(0), |memory| Bytes(memory.adapter.0 + memory.optimizer.0)),
        training: config.zip(memory).map(|(config, memory)| TrainingLoad {
            steps: config.train.steps(),
            tokens: order.train_tokens,
            weights: memory.weights,
        }),
    }
}
