//! The loop.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Progress;
use super::death::{Deaths, halve};
use super::error::RunError;
use super::job::{JobFiles, Leaving, Next, RunningJob};
use super::limits::Limits;
use super::slot::{SlotEngine, SlotMessage};
use super::summary::{RunSummary, Stopped};
use crate::device::{DeviceName, Inventory, Slot};
use crate::job::{AttemptNumber, Bytes, JobId, JobState, Seconds};
use crate::plan::{Plan, PlannedJob, Work};
use crate::protocol::{Device, Event as EngineEvent, Order, PROTOCOL_VERSION};
use crate::scheduler::{Effect, Event, Scheduler, SlotId};
use crate::store::{Attempt, AttemptEnd, Observer, Owner, Store, Writing};
use crate::worker::Place;

/// How long engines may take to exit when the run is over, or to write down where they are when it is stopped.
pub(super) const GOODBYE: Duration = Duration::from_secs(10);
/// How often the world outside is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How often a process says that it lives.
const BEAT: Duration = Duration::from_secs(2);
/// Carries out plans.
pub struct Runner<'a> {
    /// The database.
    pub store: &'a Store,
    /// The engine's program.
    pub engine: PathBuf,
    /// Where engines run.
    pub slots: Vec<Slot>,
    /// What there is of cards.
    pub inventory: Inventory,
    /// Folder for adapters, checkpoints and logs.
    pub results: PathBuf,
    /// How long it goes on.
    pub limits: Limits,
}

pub(super) struct Running<'a, 'w> {
    pub(super) runner: &'a Runner<'a>,
    pub(super) plan: &'a Plan,
    jobs: HashMap<JobId, &'a PlannedJob>,
    pub(super) scheduler: Scheduler,
    pub(super) engines: BTreeMap<SlotId, SlotEngine>,
    pub(super) working: BTreeMap<SlotId, RunningJob<'a>>,
    pub(super) deaths: HashMap<JobId, Deaths>,
    pub(super) budgets: HashMap<JobId, usize>,
    messages: mpsc::Sender<(SlotId, SlotMessage)>,
    pub(super) watch: &'w mut dyn FnMut(Progress),
    pub(super) owner: Owner,
    pub(super) summary: RunSummary,
    pub(super) observer: Observer,
    pub(super) last_death: String,
    disk_full: Option<String>,
    /// Jobs that were told to wait for memory.
    pub(super) waiting: usize,
    /// Since when `[keep]` was not looked after although something changed.
    pub(super) keep_since: Option<Instant>,
}

/// A job that was claimed and has not begun.
pub(super) struct Claimed<'a> {
    job: &'a PlannedJob,
    attempt: Attempt,
    /// Most tokens of a pass.
    budget: usize,
}

impl Runner<'_> {
    /// Runs what the plan is missing, beside any other processes that do. A message on `stops` is the user's wish to stop:
    /// engines write down where they are and their jobs go back; a second one kills them. Errors: the database, engines that
    /// die on every slot, a full disk.
    pub async fn run(
        &self,
        plan: &Plan,
        watch: &mut dyn FnMut(Progress),
        stops: &mut mpsc::Receiver<()>,
    ) -> Result<RunSummary, RunError> {
        let started = Instant::now();
        for folder in ["logs", "adapters", "checkpoints"].map(|name| self.results.join(name)) {
            let made = std::fs::create_dir_all(&folder);
            made.map_err(|source| RunError::Folder { path: folder.clone(), source })?;
        }
        let (sender, mut receiver) = mpsc::channel(1024);
        let mut running = Running {
            runner: self,
            plan,
            jobs: plan.jobs.iter().map(|job| (job.id.clone(), job)).collect(),
            scheduler: Scheduler::new(self.slots.iter().map(|slot| (slot.id, slot.memory))),
            engines: BTreeMap::new(),
            working: BTreeMap::new(),
            deaths: HashMap::new(),
            budgets: HashMap::new(),
            messages: sender,
            watch,
            owner: Owner::this_process(),
            summary: RunSummary::default(),
            observer: Observer::default(),
            last_death: String::new(),
            disk_full: None,
            waiting: 0,
            keep_since: None,
        };
        let result = running.drive(&mut receiver, stops).await;
        running.close(&mut receiver).await;
        result?;
        running.summary.seconds = Seconds(started.elapsed().as_secs_f64());
        Ok(running.summary)
    }
}

impl<'a> Running<'a, '_> {
    async fn drive(
        &mut self,
        receiver: &mut mpsc::Receiver<(SlotId, SlotMessage)>,
        stops: &mut mpsc::Receiver<()>,
    ) -> Result<(), RunError> {
        let missing: Vec<JobId> = self.plan.to_run().map(|job| job.id.clone()).collect();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut beaten, mut version) = (Instant::now(), -1);
        self.look_at_cards().await?;
        if self.keep_adapters().await? {
            self.summary.stopped = Some(Stopped::Disk);
            return Ok(());
        }
        let mut look = true;
        loop {
            if look {
                version = self.runner.store.data_version().await?;
                self.let_go_of_lost().await?;
                if self.refill(&missing).await? {
                    self.keep_adapters().await?;
                    return Ok(());
                }
                look = false;
            }
            tokio::select! {
                // A wish to stop comes before the news of engines.
                biased;
                Some(()) = stops.recv() => return self.stop(Stopped::User, receiver, stops).await,
                message = receiver.recv() => {
                    match message {
                        Some((slot, SlotMessage::Event(event))) => self.on_event(slot, event).await?,
                        Some((slot, SlotMessage::Died(death))) => self.on_death(slot, death).await?,
                        None => return Ok(()),
                    }
                    if let Some(reason) = self.disk_full.take() {
                        self.stop(Stopped::User, receiver, stops).await?;
                        return Err(RunError::DiskFull(reason));
                    }
                    look |= self.scheduler.is_idle();
                }
                _ = ticks.tick() => {
                    self.kill_silent();
                    if self.keep_since.is_some_and(|since| since.elapsed() > BEAT) && self.keep_adapters().await? {
                        return self.stop(Stopped::Disk, receiver, stops).await;
                    }
                    if beaten.elapsed() > BEAT {
                        beaten = Instant::now();
                        self.look_at_cards().await?;
                        self.runner.store.beat(&self.owner).await?;
                        look |= self.runner.store.recover(&mut self.observer, self.runner.limits.lease).await? > 0;
                    }
                    look |= self.scheduler.is_idle() || self.runner.store.data_version().await? != version;
                }
            }
            if let Some(why) = self.is_over(0) {
                return self.stop(why, receiver, stops).await;
            }
        }
    }

    /// Whether time or patience is at its end, with so many more failures than are counted.
    pub(super) fn is_over(&self, more: usize) -> Option<Stopped> {
        let limits = &self.runner.limits;
        if limits.until.is_some_and(|until| Instant::now() >= until) {
            return Some(Stopped::Time);
        }
        let failures = (self.summary.failed.len() + self.summary.diverged.len() + more) as u64;
        limits.max_failures.filter(|most| failures >= *most).map(|_| Stopped::Failures)
    }

    /// Queues what the database has queued. `true`: nothing is left to do, or to wait for.
    async fn refill(&mut self, missing: &[JobId]) -> Result<bool, RunError> {
        let states = self.runner.store.states(missing).await?;
        for (job, _) in missing.iter().zip(&states).filter(|(_, state)| **state == JobState::Queued) {
            let needs =
                self.jobs.get(job).and_then(|job| job.estimate.memory).map_or(Bytes(0), |m| m.total());
            let effects = self.scheduler.on(Event::Queued { job: job.clone(), needs });
            self.carry_out(effects).await?;
        }
        if !self.scheduler.is_idle() {
            return Ok(false);
        }
        let queued = states.contains(&JobState::Queued);
        if queued && self.scheduler.is_out_of_slots() {
            return Err(RunError::NoDevice(self.last_death.clone()));
        }
        let running = states.contains(&JobState::Running) && self.runner.limits.wait_for_others;
        Ok(!queued && !running)
    }

    fn start_engine(&mut self, slot: SlotId) -> Result<(), RunError> {
        let here = &self.runner.slots[slot.0];
        let log = self.runner.results.join("logs").join(format!("engine-{}.log", slot.0));
        let cores = if self.runner.slots.len() > 1 { here.cores.clone() } else { Vec::new() };
        let cards = here.card.as_ref().map(|card| card.0.clone());
        let place = Place { device: here.device.to_string(), cores, cards };
        let engine = SlotEngine::start(slot, &self.runner.engine, &log, &place, self.messages.clone())?;
        self.engines.insert(slot, engine);
        Ok(())
    }

    async fn send(&mut self, slot: SlotId, order: &Order) -> Result<(), RunError> {
        if let Some(engine) = self.engines.get_mut(&slot) {
            engine.handle.send(order).await?;
        }
        Ok(())
    }

    async fn on_event(&mut self, slot: SlotId, event: EngineEvent) -> Result<(), RunError> {
        if let Some(engine) = self.engines.get_mut(&slot) {
            engine.sign();
        }
        let Some(job) = self.working.get_mut(&slot) else { return self.on_idle_event(slot, event).await };
        // What a job says that is no longer this process's is not written down.
        if matches!(job.leaving, Some(Leaving::LetGo("lost"))) {
            return Ok(());
        }
        match job.on(event, self.runner.store, self.watch).await? {
            Next::Wait => Ok(()),
            Next::Send => {
                let order = job.order(self.runner.slots[slot.0].threads);
                if let Some(engine) = self.engines.get_mut(&slot) {
                    engine.loaded = Some(job.model());
                }
                self.send(slot, &order).await
            }
            Next::End(end) => self.next_job(slot, end).await,
            Next::OutOfMemory(reason) => {
                let end = halve(&mut self.budgets, job, reason);
                job.leave(Leaving::End(end));
                Ok(())
            }
            Next::DiskFull(reason) => {
                let end = AttemptEnd::Requeued(reason.clone());
                job.leave(Leaving::End(end));
                self.disk_full = Some(reason);
                Ok(())
            }
        }
    }

    async fn on_idle_event(&mut self, slot: SlotId, event: EngineEvent) -> Result<(), RunError> {
        match event {
            EngineEvent::Hello { protocol, .. } if protocol != PROTOCOL_VERSION => {
                Err(RunError::Protocol { found: protocol, wanted: PROTOCOL_VERSION })
            }
            EngineEvent::Hello { device: Device::Cpu, .. }
                if matches!(self.runner.slots[slot.0].device, DeviceName::Cuda(_)) =>
            {
                Err(RunError::NoCuda)
            }
            EngineEvent::Hello { .. } => {
                let effects = self.scheduler.on(Event::SlotReady(slot));
                self.carry_out(effects).await
            }
            // Late news of a job that has ended.
            _ => Ok(()),
        }
    }

    pub(super) async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), RunError> {
        let mut waiting: std::collections::VecDeque<Effect> = effects.into();
        while let Some(effect) = waiting.pop_front() {
            match effect {
                Effect::Start { slot, job } => {
                    if !self.start_job(slot, &job).await? {
                        // Another process has it: the slot is free for the next.
                        waiting.extend(self.scheduler.on(Event::Ended(slot)));
                    }
                }
                Effect::StartEngine(slot) => self.start_engine(slot)?,
                Effect::Quarantine(slot) => {
                    // What died there was not its own fault.
                    self.deaths.clear();
                    let device = self.runner.slots[slot.0].device.to_string();
                    (self.watch)(Progress::Quarantined { device, reason: self.last_death.clone() });
                }
            }
        }
        Ok(())
    }

    /// Claims a job and sends its first order. `false`: the job is not queued any more.
    async fn start_job(&mut self, slot: SlotId, id: &JobId) -> Result<bool, RunError> {
        let mut writing = self.runner.store.write().await?;
        let claimed = self.claim(&mut writing, slot, id).await?;
        writing.commit().await?;
        let Some(claimed) = claimed else { return Ok(false) };
        self.begin(slot, claimed).await?;
        Ok(true)
    }

    fn log(&self, id: &JobId, number: AttemptNumber) -> PathBuf {
        self.runner.results.join("logs").join(format!("{id}-{number}.log"))
    }

    /// Claims a job. `None`: it is not queued any more.
    pub(super) async fn claim(
        &self,
        writing: &mut Writing<'_>,
        slot: SlotId,
        id: &JobId,
    ) -> Result<Option<Claimed<'a>>, RunError> {
        let Some(&job) = self.jobs.get(id) else { return Ok(None) };
        let here = &self.runner.slots[slot.0];
        let budget = self.budgets.get(id).copied().unwrap_or(here.token_budget);
        let log = |number| self.log(id, number).display().to_string();
        let attempt = writing.claim(id, &self.owner, here, budget, log).await?;
        Ok(attempt.map(|attempt| Claimed { job, attempt, budget }))
    }

    /// Sends the first order of an attempt.
    pub(super) async fn begin(&mut self, slot: SlotId, claimed: Claimed<'a>) -> Result<(), RunError> {
        let Claimed { job, attempt, budget } = claimed;
        let here = &self.runner.slots[slot.0];
        let log = self.log(&job.id, attempt.number);
        let log = std::path::absolute(&log).unwrap_or(log);
        let subject = job.subject.digest().to_string();
        let files = JobFiles {
            adapter: self.runner.results.join("adapters").join(&subject),
            tokens: self.tokens(job)?,
            checkpoints: self.runner.results.join("checkpoints").join(&subject),
            log: log.clone(),
        };
        let wanted = (job.model, job.base_form());
        let loaded = self.engines.get(&slot).is_some_and(|engine| engine.loaded == Some(wanted));
        let mut running = RunningJob::new(self.plan, job, attempt, files, budget, loaded);
        running.look_up(self.runner.store).await?;
        if !loaded {
            (self.watch)(Progress::Loading);
        }
        (self.watch)(running.started());
        let order = running.order(here.threads);
        if let Some(engine) = self.engines.get_mut(&slot) {
            engine.loaded = engine.loaded.filter(|_| loaded);
            engine.log.send_replace(Some(log));
            engine.give();
        }
        self.working.insert(slot, running);
        self.send(slot, &order).await
    }

    /// The file of a job's encoded rows.
    fn tokens(&self, job: &PlannedJob) -> Result<PathBuf, RunError> {
        match &job.work {
            Work::Train { data, .. } if job.train_missing => {
                let folder = self.runner.results.join("cache");
                let cached = self.plan.data[*data].cache_in(&folder);
                cached.map_err(|source| RunError::Folder { path: folder, source })
            }
            _ => Ok(PathBuf::new()),
        }
    }
}
