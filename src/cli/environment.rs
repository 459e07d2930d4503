//! What the program takes from its surroundings, read once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arguments::Arguments;
use super::exit_code::ExitCode;
use super::failure::Failure;
use crate::data::DataRoots;
use crate::device::{DeviceError, DeviceKind, Inventory, Slot, slots};
use crate::engine_process::{find_engine, has_cuda};
use crate::hub::Hub;
use crate::plan::{CompletedWork, Plan, PlanContext};
use crate::store::{RememberedDigests, Store, StoreError};
use crate::sweep_file::SweepSpec;
use crate::task::TaskIndex;

/// The surroundings.
pub(super) struct Environment {
    pub(super) db: PathBuf,
    pub(super) roots: DataRoots,
    pub(super) hub: Hub,
    /// The devices that will run what is planned, as the command names them.
    devices: String,
    /// The engine, where the command names one.
    engine: Option<PathBuf>,
}

impl Environment {
    pub(super) fn read(arguments: &Arguments) -> Self {
        let local = std::env::var_os("LORAGRID_DATA").filter(|value| !value.is_empty()).map(PathBuf::from);
        let hub = Hub::from_environment();
        let roots = DataRoots { local, hub: Some(hub.cache.clone()), ..DataRoots::default() };
        let (devices, engine) = arguments.command.devices();
        let engine = engine.or_else(|| {
            std::env::var_os("LORAGRID_ENGINE").filter(|value| !value.is_empty()).map(PathBuf::from)
        });
        Self { db: arguments.db.clone(), roots, hub, devices: devices.to_owned(), engine }
    }

    /// The kind of device that will run what is planned. Errors: devices that cannot be had.
    pub(super) fn device_kind(&self) -> Result<DeviceKind, Failure> {
        let has_cuda = || engine_has_cuda(self.engine.as_deref());
        DeviceKind::named(&self.devices, &Inventory::find(), &has_cuda).map_err(devices_failure)
    }

    /// The slots of the devices that the command names. Errors: devices that cannot be had.
    pub(super) fn slots(&self, inventory: &Inventory) -> Result<Vec<Slot>, Failure> {
        let has_cuda = || engine_has_cuda(self.engine.as_deref());
        slots(&self.devices, inventory, &has_cuda).map_err(devices_failure)
    }

    /// The folder of the database, for adapters and logs.
    pub(super) fn results(&self) -> PathBuf {
        let folder = self.db.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
    }

    /// Reads a sweep file with its overrides.
    pub(super) fn spec(&self, sweep: &super::arguments::SweepArguments) -> Result<SweepSpec, Failure> {
        let mut spec = SweepSpec::read(&sweep.file)?;
        for (key, value) in &sweep.set {
            spec.set(key, value).map_err(|problem| Failure::of_override(&problem))?;
        }
        Ok(spec)
    }

    /// The names of tasks. Error: the sweep's folder of task files cannot be read.
    pub(super) fn tasks(&self, sweep: &super::arguments::SweepArguments) -> Result<Arc<TaskIndex>, Failure> {
        Ok(Arc::new(TaskIndex::with_folder(sweep.include_path.as_deref())?))
    }

    /// Plans a sweep against what is known.
    pub(super) fn plan(
        &self,
        spec: &SweepSpec,
        tasks: &Arc<TaskIndex>,
        known: &CompletedWork,
        digests: &mut RememberedDigests,
    ) -> Result<Plan, Failure> {
        let cache = Some(self.results().join("cache")).filter(|folder| folder.is_dir());
        let models = self.hub.cache.clone();
        let (roots, tasks, device) = (self.roots.clone(), Arc::clone(tasks), self.device_kind()?);
        let mut context = PlanContext { roots, digests, device, models, tasks, cache };
        Ok(Plan::build(spec, &mut context, known)?)
    }

    /// [`Self::known`] for commands that run nothing: the schema stays what it is, and a database that cannot be written is read.
    pub(super) async fn known_to_plan(
        &self,
    ) -> Result<(Option<Store>, CompletedWork, RememberedDigests), Failure> {
        if !self.db.is_file() {
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

    /// The database, what is done in it, and the digests that it remembers; nothing of these where it is not there yet.
    pub(super) async fn known(&self) -> Result<(Option<Store>, CompletedWork, RememberedDigests), Failure> {
        if !self.db.is_file() {
            return Ok((None, CompletedWork::default(), RememberedDigests::default()));
        }
        let store = Store::open(&self.db).await?;
        let (known, digests) = (store.known().await?, store.digests().await?);
        Ok((Some(store), known, digests))
    }
}

/// Whether the engine computes on GPUs; without an engine: no.
fn engine_has_cuda(named: Option<&Path>) -> bool {
    let program = std::env::current_exe().ok();
    let path = std::env::var_os("PATH");
    let found = find_engine(named, program.as_deref(), path.as_deref());
    let has_cuda = found.as_deref().is_ok_and(has_cuda);
    if !has_cuda {
        tracing::warn!(
            "this machine has GPUs, and the engine computes on the CPU only: `LORAGRID_SETUP=cuda make build` builds one that uses them"
        );
    }
    has_cuda
}

fn devices_failure(error: DeviceError) -> Failure {
    let help = match &error {
        DeviceError::Mig { .. } => "name other GPUs with --devices, or --devices cpu",
        DeviceError::Visible { .. } => {
            "name each GPU once, by its number or its whole UUID; `nvidia-smi -L` lists them"
        }
        _ => "write auto, cpu, cpu:N for N slots, or cuda:0,2",
    };
    Failure::new(ExitCode::Usage, error.to_string(), help.to_owned())
}

/// Runs the asynchronous part of a command on this thread. Signals and engines are heard on another, so that they are while
/// this one plans.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(super::ExitCode::Internal, format!("the runtime does not start: {error}"), None)
    })?;
    runtime.block_on(future)
}
