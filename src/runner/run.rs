//! The main loop.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Progress;
use super::crash::relieve;
use super::engines::{EngineMessage, EngineMessages, Engines};
use super::error::RunError;
use super::inputs::Inputs;
use super::job::Leaving;
use super::keep::Keeper;
use super::known::KnownJob;
use super::limits::Limits;
use super::pack::{Next, RunningPack};
use super::slot::SlotEngine;
use super::summary::{RunSummary, Stopped};
use super::tally::Tally;
use super::trouble::Trouble;
use super::usage::Meters;
use crate::artifacts::Artifacts;
use crate::device::{DeviceKind, Inventory, Slot};
use crate::job::{Bytes, JobId, Seconds, SlotId};
use crate::protocol::{Device, Event as EngineEvent, Order, PROTOCOL_VERSION};
use crate::queue::{AttemptEnd, Observer, Owner, Queue};
use crate::scheduler::{CrashCount, Effect, Event, Scheduler};

/// How long engines may take to exit at the end of a run, or to write a checkpoint when it is stopped.
pub(super) const GOODBYE: Duration = Duration::from_secs(10);
/// Interval of the periodic checks.
const TICK: Duration = Duration::from_millis(200);
/// How often the queue is checked for reachability and for dead processes.
const BEAT: Duration = Duration::from_secs(2);
/// How often jobs that cannot run here are retried.
const RETRY: Duration = Duration::from_secs(30);

/// Runs the jobs of a queue.
pub struct Runner<'a, Q> {
    /// The queue.
    pub queue: &'a Q,
    /// Only these jobs; all if none.
    pub only: Option<HashSet<JobId>>,
    /// Starts its engines.
    pub engines: &'a dyn Engines,
    /// This process as the owner of its attempts, and what it knows of others.
    pub observer: &'a dyn Fn() -> Observer,
    /// Where engines run.
    pub slots: Vec<Slot>,
    /// The device kind of the slots.
    pub device: DeviceKind,
    /// The GPUs of this machine.
    pub inventory: Inventory,
    /// Folder for adapters, checkpoints and logs.
    pub results: PathBuf,
    /// Where adapters, checkpoints and inputs are.
    pub artifacts: Artifacts,
    /// Its limits.
    pub limits: Limits,
    /// Most jobs per pack.
    pub pack: usize,
    /// Applies `[keep]`, if set.
    pub keeper: Option<Keeper<'a>>,
}

pub(super) struct Running<'a, 'w, 'i, Q: Queue> {
    pub(super) runner: &'a Runner<'a, Q>,
    pub(super) inputs: &'w mut Inputs<'i>,
    /// Jobs that were queued, with their orders.
    pub(super) jobs: HashMap<JobId, KnownJob>,
    /// Jobs that cannot run here, with the revision of their order and the reason.
    pub(super) unavailable: HashMap<JobId, (i64, String)>,
    /// Sweeps at their `[keep]` disk limit.
    pub(super) full: BTreeSet<String>,
    pub(super) scheduler: Scheduler,
    pub(super) engines: BTreeMap<SlotId, SlotEngine>,
    /// The jobs grouped into packs, with the memory of each pack.
    pub(super) packs: Vec<(Vec<JobId>, Bytes)>,
    pub(super) working: BTreeMap<SlotId, RunningPack>,
    pub(super) crashes: HashMap<JobId, CrashCount>,
    pub(super) budgets: HashMap<JobId, usize>,
    /// Jobs that use gradient checkpointing because memory was short.
    pub(super) keep_less: HashSet<JobId>,
    /// Whether the jobs of the exiting engine's pack run alone next.
    pub(super) go_apart: bool,
    /// Failures not caused by a job.
    pub(super) trouble: Trouble,
    messages: EngineMessages,
    pub(super) watch: &'w mut dyn FnMut(Progress),
    pub(super) owner: Owner,
    pub(super) tally: Tally,
    pub(super) stopped: Option<Stopped>,
    pub(super) observer: Observer,
    pub(super) last_crash: String,
    disk_full: Option<String>,
    /// GPU slots whose engine computes on the CPU: it was asked to exit.
    pub(super) without_cuda: BTreeSet<SlotId>,
    /// Number of jobs reported as waiting for memory.
    pub(super) waiting: usize,
    /// Whether the GPU driver did not respond last time.
    pub(super) driver_is_lost: bool,
    /// Quarantined slots, and since when.
    resting: BTreeMap<SlotId, Instant>,
    /// Whether a full log disk was reported.
    pub(super) logs_are_lost: bool,
    /// Time of the first change since `[keep]` was last applied.
    pub(super) keep_since: Option<Instant>,
    /// When jobs that cannot run here were last retried.
    retried: Instant,
    /// What the slots' engines use.
    pub(super) meters: Meters,
    /// Queued jobs whose orders are left for later.
    pub(super) unread: usize,
    /// The last reported number of jobs.
    pub(super) total: usize,
}

impl<Q: Queue> Runner<'_, Q> {
    /// Runs queued jobs; other processes may do so too. A message on `stops` is the user's request to stop: engines write a checkpoint
    /// and their jobs are requeued; a second message kills them. Errors: the queue, engines that crash on every slot, a full disk.
    pub async fn run(
        &self,
        inputs: &mut Inputs<'_>,
        watch: &mut dyn FnMut(Progress),
        stops: &mut mpsc::Receiver<()>,
    ) -> Result<RunSummary, RunError> {
        let started = Instant::now();
        for folder in ["logs", "adapters", "checkpoints", "cache"].map(|name| self.results.join(name)) {
            let made = std::fs::create_dir_all(&folder);
            made.map_err(|source| RunError::Folder { path: folder.clone(), source })?;
        }
        let (sender, mut receiver) = mpsc::channel(1024);
        let observer = (self.observer)();
        let mut running = Running {
            runner: self,
            inputs,
            jobs: HashMap::new(),
            unavailable: HashMap::new(),
            full: BTreeSet::new(),
            scheduler: Scheduler::new(self.slots.iter().map(|slot| (slot.id, slot.memory))),
            engines: BTreeMap::new(),
            packs: Vec::new(),
            working: BTreeMap::new(),
            crashes: HashMap::new(),
            budgets: HashMap::new(),
            keep_less: HashSet::new(),
            go_apart: false,
            trouble: Trouble::default(),
            messages: sender,
            watch,
            owner: observer.me().clone(),
            tally: Tally::default(),
            stopped: None,
            observer,
            last_crash: String::new(),
            disk_full: None,
            without_cuda: BTreeSet::new(),
            waiting: 0,
            driver_is_lost: false,
            resting: BTreeMap::new(),
            logs_are_lost: false,
            keep_since: None,
            retried: started,
            meters: Meters::default(),
            unread: 0,
            total: 0,
        };
        let heartbeat = self.queue.heartbeat(&running.owner);
        let result = running.drive(&mut receiver, stops).await;
        drop(heartbeat);
        running.let_engines_go(&mut receiver).await;
        // A database that is away has nothing to tell either.
        let _ = self.queue.note_use(&running.owner, &[]).await;
        if let Err(error) = &result {
            running.tally.fail(&error.to_string(), running.watch);
        }
        result?;
        let trouble = running.trouble.reason.clone();
        let trouble = if running.stopped == Some(Stopped::Environment) { trouble } else { String::new() };
        let mut summary = running.tally.close(running.stopped, &trouble, running.watch);
        summary.waiting = running.unavailable.into_iter().map(|(job, (_, reason))| (job, reason)).collect();
        summary.seconds = Seconds(started.elapsed().as_secs_f64());
        Ok(summary)
    }
}

impl<Q: Queue> Running<'_, '_, '_, Q> {
    async fn drive(
        &mut self,
        receiver: &mut mpsc::Receiver<(SlotId, EngineMessage)>,
        stops: &mut mpsc::Receiver<()>,
    ) -> Result<(), RunError> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut reached, mut changes) = (Instant::now(), -1);
        let (mut looked, mut was_idle) = (Instant::now(), false);
        self.look_at_cards().await?;
        // Requeues jobs of processes that have exited.
        self.runner.queue.recover(&mut self.observer, self.runner.limits.lease).await?;
        self.prepare().await?;
        let mut look = true;
        loop {
            if look {
                looked = Instant::now();
                changes = self.runner.queue.changes().await?;
                self.let_go_of_lost().await?;
                if self.refill().await? {
                    self.keep_adapters().await?;
                    self.stopped = self.disk_is_full().then_some(Stopped::Disk);
                    return Ok(());
                }
                (look, was_idle) = (false, self.scheduler.is_idle());
            }
            tokio::select! {
                // A stop request comes before engine events.
                biased;
                Some(()) = stops.recv() => {
                    if self.working.is_empty() && self.runner.limits.forever {
                        return Ok(());
                    }
                    return self.stop(Stopped::User, receiver, stops).await;
                }
                message = receiver.recv() => {
                    match message {
                        Some((slot, EngineMessage::Event(event, at))) => self.on_event(slot, event, at).await?,
                        Some((slot, EngineMessage::Exited(exit))) => self.on_exit(slot, exit).await?,
                        None => return Ok(()),
                    }
                    if let Some(reason) = self.disk_full.take() {
                        self.stop(Stopped::User, receiver, stops).await?;
                        return Err(RunError::DiskFull(reason));
                    }
                    look |= self.scheduler.is_idle() || self.unread > 0 && self.scheduler.lacks_work();
                }
                _ = ticks.tick() => {
                    self.kill_silent();
                    self.try_rested().await?;
                    if self.trouble.is_over(Instant::now()) {
                        let effects = self.scheduler.on(Event::Hold(false));
                        self.carry_out(effects).await?;
                        look = true;
                    }
                    if self.keep_since.is_some_and(|since| since.elapsed() > BEAT) {
                        look |= self.keep_adapters().await?;
                    }
                    if self.retried.elapsed() > RETRY && !self.unavailable.is_empty() {
                        self.retried = Instant::now();
                        self.unavailable.clear();
                        self.inputs.retry();
                        look = true;
                    }
                    if reached.elapsed() > BEAT {
                        reached = Instant::now();
                        self.runner.queue.reach().await?;
                        self.look_at_cards().await?;
                        self.note_use().await?;
                        self.give_up_undead().await?;
                        look |= self.runner.queue.recover(&mut self.observer, self.runner.limits.lease).await? > 0;
                    }
                    // What this process changed itself is looked at where it is done; the rest of a long queue is not read for nothing.
                    look |= self.scheduler.is_idle() && (!was_idle || looked.elapsed() > RETRY)
                        || self.runner.queue.changes().await? != changes;
                }
            }
            if let Some(why) = self.is_over(0) {
                if self.working.is_empty() && self.runner.limits.forever && why == Stopped::Time {
                    return Ok(());
                }
                return self.stop(why, receiver, stops).await;
            }
            if self.disk_is_full() {
                return self.stop(Stopped::Disk, receiver, stops).await;
            }
            if self.trouble.is_too_much() {
                return self.stop(Stopped::Environment, receiver, stops).await;
            }
        }
    }

    /// Retries slots that were quarantined for long enough: a GPU may have been reset in the meantime.
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

    /// Whether the time is up or too many jobs failed; `more` failures are added to the counted ones.
    pub(super) fn is_over(&self, more: usize) -> Option<Stopped> {
        let limits = &self.runner.limits;
        if limits.until.is_some_and(|until| Instant::now() >= until) {
            return Some(Stopped::Time);
        }
        let failures = (self.tally.failures() + more) as u64;
        limits.max_failures.filter(|most| failures >= *most).map(|_| Stopped::Failures)
    }

    fn start_engine(&mut self, slot: SlotId) -> Result<(), RunError> {
        let here = &self.runner.slots[slot.0];
        let log = self.runner.results.join("logs").join(format!("engine-{}.log", slot.0));
        let engine = SlotEngine::start(self.runner.engines, here, &log, self.messages.clone())?;
        self.engines.insert(slot, engine);
        Ok(())
    }

    /// Requeues attempts of a slot because files are missing, and starts nothing for a while.
    async fn wait_for_files(
        &mut self,
        slot: SlotId,
        jobs: Vec<JobId>,
        reason: String,
    ) -> Result<(), RunError> {
        if let Some(engine) = self.engines.get_mut(&slot) {
            // A loaded model may be incomplete.
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
            engine.loaded = pack.base();
        }
        let loading = pack.is_loading();
        match pack.on(event, self.runner.queue, self.watch).await? {
            Next::Wait => Ok(()),
            Next::Ends(ends) => {
                if loading && !ends.is_empty() {
                    // The loaded model is not the planned one: the next pack loads and checks it again.
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
        let here = &self.runner.slots[slot.0];
        let (Some(pack), Some(engine)) = (self.working.get_mut(&slot), self.engines.get_mut(&slot)) else {
            return Ok(());
        };
        // An exiting engine takes no orders.
        if pack.is_leaving() {
            return Ok(());
        }
        let loaded = engine.loaded.is_some() && engine.loaded == pack.base();
        let Some(order) = pack.next_order(loaded, here) else { return Ok(()) };
        if matches!(order, Order::Load(_)) {
            engine.loaded = None;
            let device = here.device.to_string();
            (self.watch)(Progress::Loading { slot, device });
        }
        self.send(slot, &order).await
    }

    async fn on_idle_event(&mut self, slot: SlotId, event: EngineEvent) -> Result<(), RunError> {
        match event {
            EngineEvent::Hello { protocol, .. } if protocol != PROTOCOL_VERSION => {
                Err(RunError::Protocol { found: protocol, wanted: PROTOCOL_VERSION })
            }
            EngineEvent::Hello { device: Device::Cpu, .. } if self.runner.slots[slot.0].device.is_cuda() => {
                // This GPU is lost, or the engine was built without CUDA: its exit counts against the slot.
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
            // Late events of a job that has ended.
            _ => Ok(()),
        }
    }

    pub(super) async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), RunError> {
        let mut waiting: std::collections::VecDeque<Effect> = effects.into();
        while let Some(effect) = waiting.pop_front() {
            match effect {
                Effect::Start { slot, jobs } => {
                    if !self.start_jobs(slot, &jobs).await? {
                        // Another process has them: the slot is free for the next pack of which nobody took the jobs meanwhile.
                        let taken = self.runner.queue.taken().await?;
                        self.scheduler.on(Event::Withdrawn(taken.into_iter().collect()));
                        waiting.extend(self.scheduler.on(Event::Ended(slot)));
                    }
                }
                Effect::StartEngine(slot) => {
                    if let Err(error) = self.start_engine(slot) {
                        // The executable is being rebuilt, or the process limit is reached: other slots may continue.
                        self.last_crash = error.to_string();
                        let lost = Event::SlotLost { slot, back: Vec::new(), quick: true };
                        waiting.extend(self.scheduler.on(lost));
                    }
                }
                Effect::Quarantine(slot) => {
                    // Earlier crashes there were not the jobs' fault.
                    self.crashes.clear();
                    self.resting.insert(slot, Instant::now());
                    let device = self.runner.slots[slot.0].device.to_string();
                    (self.watch)(Progress::Quarantined { device, reason: self.last_crash.clone() });
                }
            }
        }
        Ok(())
    }
}
