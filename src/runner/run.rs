//! The loop.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::mpsc;

use super::Progress;
use super::job::{JobFiles, Next, RunningJob};
use super::slot::{SlotEngine, SlotMessage};
use crate::device::Slot;
use crate::job::{JobId, Seconds};
use crate::plan::{Plan, PlannedJob, Work};
use crate::protocol::{Event as EngineEvent, FrameError, Order, PROTOCOL_VERSION};
use crate::scheduler::{Effect, Event, Scheduler, SlotId};
use crate::store::{AttemptEnd, Owner, Store, StoreError};
use crate::worker::{Death, WorkerError};

/// Attempts at a job whose engine dies before the job itself fails.
const MAX_DEATHS: u32 = 3;
/// How long engines may take to exit when the run is over.
const GOODBYE: Duration = Duration::from_secs(5);

/// Why a run cannot go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An engine.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// An order that cannot be sent.
    #[error("an order cannot be sent: {0}")]
    Order(#[from] FrameError),
    /// An engine of another version.
    #[error("the engine speaks protocol {found}, this program {wanted}: build both with `make build`")]
    Protocol {
        /// The engine's.
        found: u32,
        /// This program's.
        wanted: u32,
    },
    /// An engine that dies before it has a job.
    #[error("the engine does not start: {0}")]
    Start(Death),
    /// A folder that cannot be made.
    #[error("{} cannot be made: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunSummary {
    /// Jobs that finished.
    pub finished: u64,
    /// Jobs that failed, with their reasons.
    pub failed: Vec<(String, String)>,
    /// Jobs that diverged, with their reasons.
    pub diverged: Vec<(String, String)>,
    /// Jobs that went back into the queue when the run was stopped.
    pub requeued: u64,
    /// Whether the user stopped it.
    pub stopped: bool,
    /// Wall time.
    pub seconds: Seconds,
}

/// Carries out plans.
pub struct Runner<'a> {
    /// The database.
    pub store: &'a Store,
    /// The engine's program.
    pub engine: PathBuf,
    /// Where engines run.
    pub slots: Vec<Slot>,
    /// Folder for adapters and logs.
    pub results: PathBuf,
}

struct Running<'a, 'w> {
    runner: &'a Runner<'a>,
    plan: &'a Plan,
    jobs: HashMap<JobId, &'a PlannedJob>,
    scheduler: Scheduler,
    engines: BTreeMap<SlotId, SlotEngine>,
    working: BTreeMap<SlotId, RunningJob<'a>>,
    deaths: HashMap<JobId, u32>,
    messages: mpsc::Sender<(SlotId, SlotMessage)>,
    watch: &'w mut dyn FnMut(Progress),
    owner: Owner,
    summary: RunSummary,
    done: bool,
}

impl Runner<'_> {
    /// Runs what the plan is missing. `stop` resolves when the user wants to stop: engines are killed and their jobs go
    /// back. Errors: the database, an engine that cannot be started.
    pub async fn run(
        &self,
        plan: &Plan,
        watch: &mut dyn FnMut(Progress),
        stop: impl Future<Output = ()>,
    ) -> Result<RunSummary, RunError> {
        let started = Instant::now();
        for folder in ["logs", "adapters"].map(|name| self.results.join(name)) {
            let made = std::fs::create_dir_all(&folder);
            made.map_err(|source| RunError::Folder { path: folder.clone(), source })?;
        }
        let (sender, mut receiver) = mpsc::channel(1024);
        let mut running = Running {
            runner: self,
            plan,
            jobs: plan.jobs.iter().map(|job| (job.id.clone(), job)).collect(),
            scheduler: Scheduler::new(self.slots.iter().map(|slot| slot.id)),
            engines: BTreeMap::new(),
            working: BTreeMap::new(),
            deaths: HashMap::new(),
            messages: sender,
            watch,
            owner: Owner::this_process(),
            summary: RunSummary::default(),
            done: plan.to_run().next().is_none(),
        };
        let result = running.drive(&mut receiver, stop).await;
        running.close(&mut receiver).await;
        result?;
        running.summary.seconds = Seconds(started.elapsed().as_secs_f64());
        Ok(running.summary)
    }
}

impl Running<'_, '_> {
    async fn drive(
        &mut self,
        receiver: &mut mpsc::Receiver<(SlotId, SlotMessage)>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        for job in self.plan.to_run() {
            let effects = self.scheduler.on(Event::Queued(job.id.clone()));
            self.carry_out(effects).await?;
        }
        if !self.done {
            for slot in &self.runner.slots {
                self.start_engine(slot.id)?;
            }
        }
        tokio::pin!(stop);
        while !self.done {
            tokio::select! {
                () = &mut stop => {
                    self.summary.stopped = true;
                    return self.stop().await;
                }
                message = receiver.recv() => match message {
                    Some((slot, SlotMessage::Event(event))) => self.on_event(slot, event).await?,
                    Some((slot, SlotMessage::Died(death))) => self.on_death(slot, death).await?,
                    None => return Ok(()),
                },
            }
        }
        Ok(())
    }

    fn slot(&self, id: SlotId) -> Slot {
        self.runner.slots[id.0]
    }

    fn start_engine(&mut self, slot: SlotId) -> Result<(), RunError> {
        let log = self.runner.results.join("logs").join(format!("engine-{}.log", slot.0));
        let engine = SlotEngine::start(slot, &self.runner.engine, &log, self.messages.clone())?;
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
        if let Some(job) = self.working.get_mut(&slot) {
            return match job.on(event, self.runner.store, self.watch).await? {
                Next::Wait => Ok(()),
                Next::Send => {
                    let order = job.order(self.runner.slots[slot.0].threads);
                    if let Some(engine) = self.engines.get_mut(&slot) {
                        engine.loaded = Some(job.model());
                    }
                    self.send(slot, &order).await
                }
                Next::End(end) => {
                    self.end_job(slot, end).await?;
                    let effects = self.scheduler.on(Event::Ended(slot));
                    self.carry_out(effects).await
                }
            };
        }
        match event {
            EngineEvent::Hello { protocol, .. } if protocol != PROTOCOL_VERSION => {
                Err(RunError::Protocol { found: protocol, wanted: PROTOCOL_VERSION })
            }
            EngineEvent::Hello { .. } => {
                let effects = self.scheduler.on(Event::SlotReady(slot));
                self.carry_out(effects).await
            }
            EngineEvent::Failed(failure) => {
                let last_words = Some(failure.message);
                Err(RunError::Start(Death { code: None, signal: None, last_words }))
            }
            // Late news of a job that has ended.
            _ => Ok(()),
        }
    }

    async fn on_death(&mut self, slot: SlotId, death: Death) -> Result<(), RunError> {
        self.engines.remove(&slot);
        let Some(job) = self.working.get_mut(&slot) else {
            return Err(RunError::Start(death));
        };
        job.flush(self.runner.store).await?;
        let deaths = self.deaths.entry(job.attempt.job.clone()).or_default();
        *deaths += 1;
        let retry = *deaths < MAX_DEATHS;
        let reason = death.to_string();
        let end = if retry { AttemptEnd::Requeued(reason) } else { AttemptEnd::Failed(reason) };
        self.end_job(slot, end).await?;
        let effects = self.scheduler.on(Event::SlotLost { slot, retry });
        self.carry_out(effects).await
    }

    async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), RunError> {
        let mut waiting: std::collections::VecDeque<Effect> = effects.into();
        while let Some(effect) = waiting.pop_front() {
            match effect {
                Effect::Start { slot, job } => {
                    if !self.start_job(slot, &job).await? {
                        // Another process has it: the slot is free for the next.
                        waiting.extend(self.scheduler.on(Event::Ended(slot)));
                    }
                }
                Effect::Restart(slot) => self.start_engine(slot)?,
                // The attempt was ended with `Requeued`, which put the job back.
                Effect::Requeue { .. } => {}
                Effect::Finished => self.done = true,
            }
        }
        Ok(())
    }

    /// Claims a job and sends its first order. `false`: the job is not queued any more.
    async fn start_job(&mut self, slot: SlotId, id: &JobId) -> Result<bool, RunError> {
        let Some(&job) = self.jobs.get(id) else { return Ok(false) };
        let logs = self.runner.results.join("logs");
        let log = |number| logs.join(format!("{id}-{number}.log"));
        let named = |number| log(number).display().to_string();
        let here = self.slot(slot);
        let Some(attempt) = self.runner.store.claim(id, &self.owner, here, named).await? else {
            return Ok(false);
        };
        let log = std::path::absolute(log(attempt.number)).unwrap_or_else(|_| log(attempt.number));
        let files = JobFiles {
            adapter: self.runner.results.join("adapters").join(job.subject.digest().to_string()),
            tokens: self.tokens(job)?,
            log: log.clone(),
        };
        let wanted = (job.model, job.base_form());
        let loaded = self.engines.get(&slot).is_some_and(|engine| engine.loaded == Some(wanted));
        let mut running = RunningJob::new(self.plan, job, attempt, files, here.token_budget, loaded);
        running.look_up(self.runner.store).await?;
        if !loaded {
            (self.watch)(Progress::Loading);
        }
        (self.watch)(running.started());
        let order = running.order(here.threads);
        if let Some(engine) = self.engines.get(&slot) {
            engine.log.send_replace(Some(log));
        }
        self.working.insert(slot, running);
        self.send(slot, &order).await?;
        Ok(true)
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

    async fn end_job(&mut self, slot: SlotId, end: AttemptEnd) -> Result<(), RunError> {
        let Some(job) = self.working.remove(&slot) else { return Ok(()) };
        self.runner.store.end(&job.attempt, &end).await?;
        let label = job.label().to_owned();
        match &end {
            AttemptEnd::Finished => self.summary.finished += 1,
            AttemptEnd::Failed(reason) => self.summary.failed.push((label.clone(), reason.clone())),
            AttemptEnd::Diverged(reason) => self.summary.diverged.push((label.clone(), reason.clone())),
            AttemptEnd::Requeued(_) => self.summary.requeued += 1,
        }
        (self.watch)(Progress::Ended { job: job.attempt.job.clone(), label, end });
        Ok(())
    }

    /// Kills every engine and puts their jobs back.
    async fn stop(&mut self) -> Result<(), RunError> {
        self.scheduler.on(Event::Stop);
        let slots: Vec<SlotId> = self.working.keys().copied().collect();
        for slot in slots {
            if let Some(engine) = self.engines.get(&slot) {
                engine.handle.kill();
            }
            if let Some(job) = self.working.get_mut(&slot) {
                job.flush(self.runner.store).await?;
            }
            self.end_job(slot, AttemptEnd::Requeued("stopped by the user".to_owned())).await?;
        }
        Ok(())
    }

    /// Lets engines go: asks them to exit, kills those that do not. A job that an error interrupted goes back.
    async fn close(&mut self, receiver: &mut mpsc::Receiver<(SlotId, SlotMessage)>) {
        for (_, job) in std::mem::take(&mut self.working) {
            let end = AttemptEnd::Requeued("the run ended with an error".to_owned());
            // The error that is being reported may be the database's own.
            let _ = self.runner.store.end(&job.attempt, &end).await;
        }
        for engine in self.engines.values_mut() {
            let _ = engine.handle.send(&Order::Shutdown).await;
        }
        let left = async {
            while !self.engines.is_empty() {
                match receiver.recv().await {
                    Some((slot, SlotMessage::Died(_))) => drop(self.engines.remove(&slot)),
                    Some(_) => {}
                    None => return,
                }
            }
        };
        if tokio::time::timeout(GOODBYE, left).await.is_err() {
            self.engines.values().for_each(|engine| engine.handle.kill());
        }
    }
}
