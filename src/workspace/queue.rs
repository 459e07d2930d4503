//! Submitting plans, and running what is queued.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use tokio::sync::mpsc;

use super::WorkspaceEvent;
use super::error::WorkspaceError;
use super::open::Workspace;
use super::plan::Prepared;
use crate::device::Inventory;
use crate::job::{Bytes, JobId, JobState, Transition};
use crate::plan::Plan;
use crate::queue::{Observer, Queue};
use crate::report::plan_disk;
use crate::runner::{EngineProcesses, Inputs, Keeper, Limits, Progress, RunError, RunSummary, Runner};
use crate::store::{Actor, Before, OperationKind, Origin, Store, StoreError, SweepRemoval, require_room};

/// Why jobs of an earlier release wait that their sweep does not have when it is planned here.
const OTHERWISE: &str = "model, rows or tasks on this machine differ from those at submission";

/// Jobs at the front of the queue whose models are opened before the run begins.
const FIRST: usize = 256;

/// How jobs are run.
#[derive(Debug, Clone)]
pub struct WorkRequest {
    /// Only these jobs; every job where it is not named.
    pub only: Option<HashSet<JobId>>,
    /// How long it goes on.
    pub limits: Limits,
    /// Most jobs of a pack.
    pub pack: usize,
    /// Sweeps whose `[keep]` is looked after although nothing of them is queued.
    pub keep: Vec<String>,
}

impl WorkRequest {
    /// The jobs of a plan.
    pub fn of_plan(plan: &Plan, limits: Limits, pack: usize) -> Self {
        let only = Some(plan.jobs.iter().map(|job| job.id.clone()).collect());
        Self { only, limits, pack, keep: vec![plan.name.to_string()] }
    }
}

impl Workspace {
    /// Writes what a plan's jobs read into the cache and queues what is missing. Errors: no room on the disk, the database's.
    pub async fn submit(
        &self,
        prepared: Prepared,
        watch: &mut dyn FnMut(WorkspaceEvent),
    ) -> Result<(Store, Plan), WorkspaceError> {
        let store = match prepared.store {
            Some(store) => store,
            None => Store::open(&self.db).await?,
        };
        let (adapters, checkpoints) = plan_disk(&prepared.plan);
        require_room(store.path(), checkpoints)?;
        let all = Bytes(adapters.0.saturating_add(checkpoints.0));
        if require_room(store.path(), all).is_err() {
            let place = store.results().display().to_string();
            watch(WorkspaceEvent::Warning(format!(
                "adapters and checkpoints need {all}, more than is free at {place}"
            )));
        }
        write_inputs(&store, &prepared.plan).await?;
        store.remember(&prepared.digests).await?;
        store.submit(&prepared.plan, &prepared.origin, prepared.priority).await?;
        if prepared.plan.to_run().next().is_some() {
            let (actor, name) = (Actor::here(Origin::Command), prepared.plan.name.as_str());
            store.note_operation(&actor, OperationKind::Submit, name, &Before::default()).await?;
        }
        Ok((store, prepared.plan))
    }

    /// Runs queued jobs on the devices of this workspace. A message on `stops` is the user's wish to stop. `open` is called with the
    /// opening of models, which may read whole files. Errors: the run's, no engine.
    pub async fn work(
        &self,
        store: &Store,
        request: WorkRequest,
        open: impl FnOnce(&mut dyn FnMut()),
        watch: &mut dyn FnMut(Progress),
        stops: &mut mpsc::Receiver<()>,
    ) -> Result<RunSummary, WorkspaceError> {
        let is_wanted = |job: &JobId| request.only.as_ref().is_none_or(|only| only.contains(job));
        let active = store.active().await?.into_iter().map(|job| job.id);
        let mut queued: Vec<JobId> = active.filter(is_wanted).collect();
        let needs_engine = request.limits.forever || !queued.is_empty();
        // Models of later orders are opened when their turn comes.
        queued.truncate(FIRST);
        let orders = store.orders(&queued).await?;
        let inventory = Inventory::find();
        let slots = self.slots(&inventory)?;
        let engines = EngineProcesses {
            program: if needs_engine { self.find_engine()? } else { PathBuf::new() },
            launcher: self.launching.as_ref().map(|launching| launching.launcher.clone()),
            is_pinned: slots.len() > 1,
        };
        let runner = Runner {
            queue: store,
            only: request.only,
            engines: &engines,
            observer: &Observer::default,
            slots,
            device: self.device_kind()?,
            inventory,
            results: self.results(),
            artifacts: store.artifacts().clone(),
            limits: request.limits,
            pack: request.pack,
            keeper: Some(Keeper::new(store, request.keep)),
        };
        let mut digests = store.digests().await?;
        let mut inputs = Inputs::new(self.cache(), self.hub.cache.clone(), &mut digests);
        open(&mut || inputs.open_models(orders.iter().map(|(order, _)| order)));
        drop(orders);
        let summary = runner.run(&mut inputs, watch, stops).await?;
        store.refresh().await?;
        store.remember(&digests).await?;
        Ok(summary)
    }

    /// Gives queued jobs of an earlier release their orders, by planning their sweeps again. Returns the sweeps whose jobs have none
    /// still, each with why; those jobs stay queued with the reason. Errors: the database's.
    pub async fn adopt(&self, store: &Store) -> Result<Vec<(String, String)>, WorkspaceError> {
        let mut left = Vec::new();
        for sweep in store.sweeps_without_orders().await? {
            let reason = match self.adopt_sweep(store, &sweep).await {
                Ok(()) => OTHERWISE.to_owned(),
                // One sweep that cannot be planned here ends nothing else.
                Err(error) => error.to_string(),
            };
            let queued: Vec<JobId> = store.jobs_in(Some(&sweep), &[JobState::Queued]).await?;
            let waiting = store.without_orders(&sweep, &queued).await?;
            if !waiting.is_empty() {
                store.note_waiting(&waiting, &reason).await?;
                left.push((sweep, reason));
            }
        }
        Ok(left)
    }

    async fn adopt_sweep(&self, store: &Store, sweep: &str) -> Result<(), WorkspaceError> {
        let plan = self.plan_stored(store, sweep).await?;
        if !plan.blockers.is_empty() {
            return Err(WorkspaceError::Blocked(plan.blockers));
        }
        write_inputs(store, &plan).await?;
        Ok(store.adopt(sweep, &plan).await?)
    }
}

/// Removes a sweep, whose jobs that no other sweep has are cancelled before. Errors: no such sweep, jobs of it are running.
pub async fn remove_sweep(store: &Store, removal: &SweepRemoval) -> Result<(), WorkspaceError> {
    if removal.running > 0 {
        let (sweep, running) = (removal.sweep.clone(), removal.running);
        return Err(WorkspaceError::SweepRuns { sweep, running });
    }
    store.move_jobs(&removal.active, Transition::Cancel, Some("its sweep was removed")).await?;
    store.remove_sweep(&removal.sweep).await?;
    let actor = Actor::here(Origin::Command);
    Ok(store.note_operation(&actor, OperationKind::Remove, &removal.sweep, &Before::default()).await?)
}

/// How the jobs of a sweep ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EndedSweep {
    /// Jobs by state.
    pub states: BTreeMap<JobState, u64>,
    /// Whether time limit before the last job ended.
    pub timed_out: bool,
}

/// Waits until no job of a sweep is queued, running or paused, or a time is up. Error: no such sweep.
pub async fn wait_for_sweep(
    store: &Store,
    sweep: &str,
    until: Option<std::time::Instant>,
) -> Result<EndedSweep, WorkspaceError> {
    const LOOK: std::time::Duration = std::time::Duration::from_millis(500);
    let active = [JobState::Queued, JobState::Running, JobState::Paused];
    loop {
        store.refresh().await?;
        let is_late = until.is_some_and(|until| std::time::Instant::now() >= until);
        if is_late || store.jobs_in(Some(sweep), &active).await?.is_empty() {
            let all = store.jobs_in(Some(sweep), &JobState::ALL).await?;
            let mut states = BTreeMap::new();
            for state in store.states(&all).await? {
                *states.entry(state).or_default() += 1;
            }
            let timed_out = states.keys().any(|state| active.contains(state));
            return Ok(EndedSweep { states, timed_out });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes what the jobs of a plan read, before anything is queued: where workers share no folder, into the store as well.
async fn write_inputs(store: &Store, plan: &Plan) -> Result<(), WorkspaceError> {
    let cache = store.results().join("cache");
    let names =
        plan.write_inputs(&cache).map_err(|source| RunError::Folder { path: cache.clone(), source })?;
    if let Some(artifacts) = store.artifacts().store() {
        artifacts.put_inputs(&cache, names.iter().map(String::as_str)).await.map_err(StoreError::from)?;
    }
    Ok(())
}
