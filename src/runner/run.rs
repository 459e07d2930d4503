//! The loop.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Progress;
use super::death::{Deaths, relieve};
use super::error::RunError;
use super::heartbeat::Heartbeat;
use super::job::Leaving;
use super::limits::Limits;
use super::pack::{Next, RunningPack};
use super::slot::{SlotEngine, SlotMessage};
use super::summary::{RunSummary, Stopped};
use super::trouble::Trouble;
use crate::device::{DeviceName, Inventory, Slot};
use crate::job::{Bytes, JobId, JobState, Seconds};
use crate::plan::{PackRules, Plan, PlannedJob, packs};
use crate::protocol::{Device, Event as EngineEvent, Order, PROTOCOL_VERSION};
use crate::scheduler::{Effect, Event, Scheduler, SlotId};
use crate::store::{AttemptEnd, Observer, Owner, Store};
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
    /// Most jobs of a pack.
    pub pack: usize,
}

pub(super) struct Running<'a, 'w> {
    pub(super) runner: &'a Runner<'a>,
    pub(super) plan: &'a Plan,
    pub(super) jobs: HashMap<JobId, &'a PlannedJob>,
    pub(super) scheduler: Scheduler,
    pub(super) engines: BTreeMap<SlotId, SlotEngine>,
    /// The jobs that are missing, in the packs in which they run, with the memory of each.
    packs: Vec<(Vec<JobId>, Bytes)>,
    pub(super) working: BTreeMap<SlotId, RunningPack<'a>>,
    pub(super) deaths: HashMap<JobId, Deaths>,
    pub(super) budgets: HashMap<JobId, usize>,
    /// Jobs whose blocks are computed again in backward, as memory was short.
    pub(super) keep_less: HashSet<JobId>,
    /// Whether the jobs of the pack whose engine is on its way out go on alone.
    pub(super) go_apart: bool,
    /// Failures that were no job's.
    pub(super) trouble: Trouble,
    messages: mpsc::Sender<(SlotId, SlotMessage)>,
    pub(super) watch: &'w mut dyn FnMut(Progress),
    pub(super) owner: Owner,
    pub(super) summary: RunSummary,
    pub(super) observer: Observer,
    pub(super) last_death: String,
    disk_full: Option<String>,
    /// Slots with a GPU whose engine computes on the CPU: it was told to end.
    pub(super) without_cuda: BTreeSet<SlotId>,
    /// Jobs that were told to wait for memory.
    pub(super) waiting: usize,
    /// Whether the driver of the GPUs did not answer the last time.
    pub(super) driver_is_lost: bool,
    /// Slots that are left alone, and since when.
    resting: BTreeMap<SlotId, Instant>,
    /// Whether it was told that the disk of the logs is full.
    pub(super) logs_are_lost: bool,
    /// Since when `[keep]` was not looked after although something changed.
    pub(super) keep_since: Option<Instant>,
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
            packs: self.packs(plan, &self.store.lost_jobs().await?),
            working: BTreeMap::new(),
            deaths: HashMap::new(),
            budgets: HashMap::new(),
            keep_less: HashSet::new(),
            go_apart: false,
            trouble: Trouble::default(),
            messages: sender,
            watch,
            owner: Owner::this_process(),
            summary: RunSummary::default(),
            observer: Observer::default(),
            last_death: String::new(),
            disk_full: None,
            without_cuda: BTreeSet::new(),
            waiting: 0,
            driver_is_lost: false,
            resting: BTreeMap::new(),
            logs_are_lost: false,
            keep_since: None,
        };
        let heartbeat = Heartbeat::start(self.store, running.owner.clone());
        let result = running.drive(&mut receiver, stops).await;
        drop(heartbeat);
        running.close(&mut receiver).await;
        result?;
        running.summary.seconds = Seconds(started.elapsed().as_secs_f64());
        Ok(running.summary)
    }

    /// The packs of what the plan is missing, for the slots here. Jobs that may have taken their process with them go alone, and
    /// behind the others.
    fn packs(&self, plan: &Plan, lost: &[JobId]) -> Vec<(Vec<JobId>, Bytes)> {
        let rules = PackRules::of(&self.slots, self.pack);
        let ids = |jobs: Vec<usize>| -> Vec<JobId> {
            jobs.into_iter().map(|at| plan.jobs[at].id.clone()).collect()
        };
        let packs = packs(plan, rules).into_iter().map(|pack| (ids(pack.jobs), pack.memory));
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for (jobs, memory) in packs {
            let (suspects, others): (Vec<JobId>, Vec<JobId>) =
                jobs.into_iter().partition(|job| lost.contains(job));
            alone.extend(suspects.into_iter().map(|job| (vec![job], memory)));
            if !others.is_empty() {
                together.push((others, memory));
            }
        }
        together.append(&mut alone);
        together
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
                        Some((slot, SlotMessage::Event(event, at))) => self.on_event(slot, event, at).await?,
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
                    self.try_rested().await?;
                    if self.trouble.is_over(Instant::now()) {
                        let effects = self.scheduler.on(Event::Hold(false));
                        self.carry_out(effects).await?;
                        look = true;
                    }
                    if self.keep_since.is_some_and(|since| since.elapsed() > BEAT) && self.keep_adapters().await? {
                        return self.stop(Stopped::Disk, receiver, stops).await;
                    }
                    if beaten.elapsed() > BEAT {
                        beaten = Instant::now();
                        self.runner.store.reach().await?;
                        self.look_at_cards().await?;
                        self.give_up_undead().await?;
                        look |= self.runner.store.recover(&mut self.observer, self.runner.limits.lease).await? > 0;
                    }
                    look |= self.scheduler.is_idle() || self.runner.store.data_version().await? != version;
                }
            }
            if let Some(why) = self.is_over(0) {
                return self.stop(why, receiver, stops).await;
            }
            if self.trouble.is_too_much() {
                self.summary.trouble.clone_from(&self.trouble.reason);
                return self.stop(Stopped::Environment, receiver, stops).await;
            }
        }
    }

    /// Tries slots again that were left alone for long enough: a GPU may have been reset meanwhile.
    async fn try_rested(&mut self) -> Result<(), RunError> {
        let rest = self.runner.limits.rest;
        let rested: Vec<SlotId> =
            self.resting.iter().filter(|(_, since)| since.elapsed() >= rest).map(|(slot, _)| *slot).collect();
        for slot in rested {
            self.resting.remove(&slot);
            let effects = self.scheduler.on(Event::Rested(slot));
            self.carry_out(effects).await?;
        }
        Ok(())
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
        let queued = missing.iter().zip(&states).filter(|(_, state)| **state == JobState::Queued);
        let queued: HashSet<&JobId> = queued.map(|(job, _)| job).collect();
        for at in 0..self.packs.len() {
            let (jobs, needs) = &self.packs[at];
            let jobs: Vec<JobId> = jobs.iter().filter(|job| queued.contains(job)).cloned().collect();
            if !jobs.is_empty() {
                let effects = self.scheduler.on(Event::Queued { jobs, needs: *needs });
                self.carry_out(effects).await?;
            }
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

    /// Has attempts of a slot go back because files are away, and starts nothing for a while.
    async fn wait_for_files(
        &mut self,
        slot: SlotId,
        jobs: Vec<JobId>,
        reason: String,
    ) -> Result<(), RunError> {
        if let Some(engine) = self.engines.get_mut(&slot) {
            // What it has loaded may be half of something.
            engine.loaded = None;
        }
        let pause = self.trouble.note(&reason, Instant::now());
        (self.watch)(Progress::Waiting { reason: reason.clone(), pause });
        self.scheduler.on(Event::Hold(true));
        let ends = jobs.into_iter().map(|job| (job, AttemptEnd::Requeued(reason.clone()))).collect();
        self.end_members(slot, ends).await
    }

    async fn send(&mut self, slot: SlotId, order: &Order) -> Result<(), RunError> {
        if let Some(engine) = self.engines.get_mut(&slot) {
            engine.handle.send(order)?;
        }
        Ok(())
    }

    async fn on_event(&mut self, slot: SlotId, event: EngineEvent, at: Instant) -> Result<(), RunError> {
        if let Some(engine) = self.engines.get_mut(&slot) {
            engine.sign(at);
        }
        let Some(pack) = self.working.get_mut(&slot) else { return self.on_idle_event(slot, event).await };
        if let (Some(engine), EngineEvent::Loaded { .. }) = (self.engines.get_mut(&slot), &event) {
            engine.loaded = pack.model();
        }
        let loading = pack.is_loading();
        match pack.on(event, self.runner.store, self.watch).await? {
            Next::Wait => Ok(()),
            Next::Ends(ends) => {
                if loading && !ends.is_empty() {
                    // What was loaded is not what was planned: the next pack has it loaded again, and asks again.
                    self.engines.get_mut(&slot).into_iter().for_each(|engine| engine.loaded = None);
                } else {
                    self.trouble.clear();
                }
                self.end_members(slot, ends).await
            }
            Next::Environment(jobs, reason) => self.wait_for_files(slot, jobs, reason).await,
            Next::OutOfMemory(reason) => {
                self.go_apart = relieve(&mut self.budgets, &mut self.keep_less, pack, &reason);
                Ok(())
            }
            Next::DiskFull(reason) => {
                pack.leave(&Leaving::End(AttemptEnd::Requeued(reason.clone())));
                self.disk_full = Some(reason);
                Ok(())
            }
        }
    }

    /// Sends a slot's pack its next order, if one is due.
    pub(super) async fn send_next(&mut self, slot: SlotId) -> Result<(), RunError> {
        let threads = self.runner.slots[slot.0].threads;
        let (Some(pack), Some(engine)) = (self.working.get_mut(&slot), self.engines.get_mut(&slot)) else {
            return Ok(());
        };
        // An engine that is on its way out takes no orders.
        if pack.is_leaving() {
            return Ok(());
        }
        let loaded = engine.loaded.is_some() && engine.loaded == pack.model();
        let Some(order) = pack.next_order(loaded, threads) else { return Ok(()) };
        if matches!(order, Order::Load(_)) {
            engine.loaded = None;
            (self.watch)(Progress::Loading);
        }
        self.send(slot, &order).await
    }

    async fn on_idle_event(&mut self, slot: SlotId, event: EngineEvent) -> Result<(), RunError> {
        match event {
            EngineEvent::Hello { protocol, .. } if protocol != PROTOCOL_VERSION => {
                Err(RunError::Protocol { found: protocol, wanted: PROTOCOL_VERSION })
            }
            EngineEvent::Hello { device: Device::Cpu, .. }
                if matches!(self.runner.slots[slot.0].device, DeviceName::Cuda(_)) =>
            {
                // This GPU is lost, or the engine was built without CUDA: its end counts against the slot.
                self.without_cuda.insert(slot);
                if let Some(engine) = self.engines.get(&slot) {
                    engine.handle.kill();
                }
                Ok(())
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
                Effect::Start { slot, jobs } => {
                    if !self.start_jobs(slot, &jobs).await? {
                        // Another process has them: the slot is free for the next.
                        waiting.extend(self.scheduler.on(Event::Ended(slot)));
                    }
                }
                Effect::StartEngine(slot) => {
                    if let Err(error) = self.start_engine(slot) {
                        // A program that is being built anew, or no more processes: other slots may go on.
                        self.last_death = error.to_string();
                        let lost = Event::SlotLost { slot, back: Vec::new(), quick: true };
                        waiting.extend(self.scheduler.on(lost));
                    }
                }
                Effect::Quarantine(slot) => {
                    // What died there was not its own fault.
                    self.deaths.clear();
                    self.resting.insert(slot, Instant::now());
                    let device = self.runner.slots[slot.0].device.to_string();
                    (self.watch)(Progress::Quarantined { device, reason: self.last_death.clone() });
                }
            }
        }
        Ok(())
    }
}
