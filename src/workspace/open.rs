//! What the program works with: the database and the folder of its results, data, the hub, the devices.

use std::path::PathBuf;
use std::sync::Arc;

use super::WorkspaceEvent;
use super::config::{Config, ConfigError, Launching};
use super::error::WorkspaceError;
use super::rate::remembered_rate;
use crate::data::DataRoots;
use crate::device::{DeviceError, DeviceKind, Inventory, Slot, grouped, launched_slots, slots};
use crate::engine_process::{find_engine, has_cuda};
use crate::hub::Hub;
use crate::plan::{CompletedWork, Plan, PlanContext};
use crate::store::{Database, RememberedDigests, Store, StoreError};
use crate::sweep_file::{Notify, Slurm, SweepSpec};
use crate::task::TaskIndex;

/// What the program works with.
#[derive(Debug)]
pub struct Workspace {
    /// The database.
    pub db: Database,
    /// Where data sets are.
    pub roots: DataRoots,
    /// Where models and data sets are downloaded from.
    pub hub: Hub,
    /// The devices that run jobs, such as `auto`, `cpu:2` or `cuda:0,1`.
    pub devices: String,
    /// The engine, where it is named.
    pub engine: Option<PathBuf>,
    /// Starts engines elsewhere.
    pub launching: Option<Launching>,
    /// GPUs that train a pack of jobs together.
    pub gpus_per_job: usize,
    /// Most jobs of a pack.
    pub pack: usize,
    /// Who is notified of sweeps whose file says nothing of it.
    pub notify: Option<Notify>,
    /// What is asked of a Slurm cluster, under the `[slurm]` of sweep files.
    pub slurm: Option<Slurm>,
}

impl Workspace {
    /// What a configuration names, with the hub of the environment.
    pub fn new(config: &Config) -> Self {
        let hub = Hub::from_environment();
        let local = config.data.value.clone();
        let roots = DataRoots { local, hub: Some(hub.cache.clone()), ..DataRoots::default() };
        Self {
            db: config.db.value.clone(),
            roots,
            hub,
            devices: config.devices.value.clone(),
            engine: config.engine.value.clone(),
            launching: config.launching.value.clone(),
            gpus_per_job: config.gpus_per_job.value as usize,
            pack: config.pack.value as usize,
            notify: config.notify.value.clone(),
            slurm: config.slurm.value.clone(),
        }
    }

    /// The kind of device that runs jobs. Error: devices that cannot be had.
    pub fn device_kind(&self) -> Result<DeviceKind, WorkspaceError> {
        Ok(DeviceKind::named(&self.devices, &Inventory::find(), &|| self.engine_has_cuda())?)
    }

    /// The slots of the devices. Error: devices that cannot be had.
    pub fn slots(&self, inventory: &Inventory) -> Result<Vec<Slot>, WorkspaceError> {
        if let Some(Launching { slots, .. }) = &self.launching {
            if self.devices.contains(':') {
                return Err(DeviceError::Launched { text: self.devices.clone() }.into());
            }
            return Ok(grouped(launched_slots(*slots, self.device_kind()?), self.gpus_per_job)?);
        }
        Ok(grouped(slots(&self.devices, inventory, &|| self.engine_has_cuda())?, self.gpus_per_job)?)
    }

    /// The engine's program: the one that is named, beside this program, or in PATH. Error: there is none.
    pub fn find_engine(&self) -> Result<PathBuf, WorkspaceError> {
        let program = std::env::current_exe().ok();
        let path = std::env::var_os("PATH");
        Ok(find_engine(self.engine.as_deref(), program.as_deref(), path.as_deref())?)
    }

    /// Whether the engine computes on GPUs; without an engine: no.
    fn engine_has_cuda(&self) -> bool {
        let has_cuda = self.find_engine().is_ok_and(|engine| has_cuda(&engine));
        if !has_cuda {
            tracing::warn!(
                "this machine has GPUs, and the engine computes on the CPU only: `LORAGRID_SETUP=cuda make build` builds one that uses them"
            );
        }
        has_cuda
    }

    /// The folder of the database, for adapters and logs.
    pub fn results(&self) -> PathBuf {
        self.db.results()
    }

    /// The folder of encoded rows, documents and prompts.
    pub fn cache(&self) -> PathBuf {
        self.results().join("cache")
    }

    /// Plans a sweep against what is done; `watch` is told of each stage. Error: the plan's.
    pub fn plan(
        &self,
        spec: &SweepSpec,
        tasks: &Arc<TaskIndex>,
        known: &CompletedWork,
        digests: &mut RememberedDigests,
        watch: &mut dyn FnMut(WorkspaceEvent),
    ) -> Result<Plan, WorkspaceError> {
        if let Some(folder) = self.roots.local.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(ConfigError::NoDataFolder(folder.clone()).into());
        }
        let cache = Some(self.cache()).filter(|folder| folder.is_dir());
        let models = self.hub.cache.clone();
        let (roots, tasks, device) = (self.roots.clone(), Arc::clone(tasks), self.device_kind()?);
        let engine = self.find_engine().ok();
        let device_name = match device {
            DeviceKind::Cpu { .. } => "cpu",
            DeviceKind::Cuda { .. } => "cuda:0",
        };
        let product_rate = |dtype| remembered_rate(engine.as_deref(), device_name, dtype);
        let watch = &mut |stage| watch(WorkspaceEvent::Planning(stage));
        let product_rate = &product_rate;
        let mut context = PlanContext { roots, digests, device, models, tasks, cache, product_rate, watch };
        Ok(Plan::build(spec, &mut context, known)?)
    }

    /// The database with what is done in it, for calls that run nothing: the schema stays what it is, and a database that cannot be
    /// written is read. Nothing of these where it does not exist yet. Errors: the database's.
    pub async fn known_to_plan(
        &self,
    ) -> Result<(Option<Store>, CompletedWork, RememberedDigests), WorkspaceError> {
        if !self.db.exists() {
            return Ok((None, CompletedWork::default(), RememberedDigests::default()));
        }
        // A reader says what is wrong with the schema, and touches nothing.
        let reader = Store::open_to_read(&self.db).await?;
        let store = match Store::open_existing(&self.db).await {
            Err(StoreError::Open { .. } | StoreError::Sql(_)) => reader,
            other => {
                reader.close().await;
                other?
            }
        };
        let (known, digests) = (store.known().await?, store.digests().await?);
        Ok((Some(store), known, digests))
    }

    /// The database, what is done in it, and the digests that it remembers; nothing of these where it does not exist yet. Errors: the
    /// database's.
    pub async fn known(&self) -> Result<(Option<Store>, CompletedWork, RememberedDigests), WorkspaceError> {
        if !self.db.exists() {
            return Ok((None, CompletedWork::default(), RememberedDigests::default()));
        }
        let store = Store::open(&self.db).await?;
        let (known, digests) = (store.known().await?, store.digests().await?);
        Ok((Some(store), known, digests))
    }
}
