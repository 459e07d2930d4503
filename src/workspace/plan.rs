//! The plan of a sweep: from its file, or from the database as it was submitted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::WorkspaceEvent;
use super::error::WorkspaceError;
use super::open::Workspace;
use crate::job::{SweepName, Value};
use crate::plan::{Plan, PlanStage, hub_models};
use crate::queue::Observer;
use crate::store::{RememberedDigests, Store, StoreError, SweepOrigin};
use crate::sweep_file::{Slurm, SweepSpec};
use crate::task::TaskIndex;

/// A sweep file with what is overridden in it.
#[derive(Debug, Clone, Default)]
pub struct SweepRequest {
    /// The file; `-` for standard input.
    pub file: PathBuf,
    /// Keys with their values, for every job.
    pub overrides: Vec<(String, String)>,
    /// A folder of task files, which come before those that are shipped.
    pub include_path: Option<PathBuf>,
}

impl SweepRequest {
    /// A file as it is.
    pub fn of(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), ..Self::default() }
    }

    /// Reads the file. Errors: the file's, of an override.
    pub fn read(&self) -> Result<SweepSpec, WorkspaceError> {
        let mut spec = SweepSpec::read(&self.file)?;
        for (key, value) in &self.overrides {
            spec.set(key, value)?;
        }
        Ok(spec)
    }

    /// The names of tasks. Error: the folder of task files cannot be read.
    pub fn tasks(&self) -> Result<Arc<TaskIndex>, WorkspaceError> {
        Ok(Arc::new(TaskIndex::with_folder(self.include_path.as_deref())?))
    }
}

/// A plan that can be submitted, and nothing of it in the database yet.
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// Where it came from.
    pub origin: SweepOrigin,
    /// The database; none where it does not exist yet.
    pub store: Option<Store>,
    /// Digests of the files that were read.
    pub digests: RememberedDigests,
    /// What the file asks of a Slurm cluster.
    pub slurm: Option<Slurm>,
    /// The priority of the sweep; that which it has where none is named.
    pub priority: Option<i64>,
}

impl Workspace {
    /// Plans a sweep file to submit it; models and rows that it names are downloaded. Everything that can be wrong with the request is
    /// found here, before the database is touched. Errors: the plan's, what keeps it from running.
    pub async fn prepare(
        &self,
        request: &SweepRequest,
        watch: &mut dyn FnMut(WorkspaceEvent),
    ) -> Result<Prepared, WorkspaceError> {
        let spec = request.read()?;
        watch(WorkspaceEvent::Planning(PlanStage::Sweep { name: spec.name.to_string() }));
        require_utf8(&self.results())?;
        require_utf8(&absolute(&request.file))?;
        for id in hub_models(&spec)?.iter().filter(|id| self.hub.cache.find(id).is_none()) {
            self.pull_model(id, watch)?;
        }
        let tasks = request.tasks()?;
        let (store, known, mut digests) = self.known().await?;
        if let Some(store) = &store {
            store.recover(&mut Observer::default(), std::time::Duration::MAX).await?;
            warn_of_other_file(store, &spec, &request.file, watch).await?;
        }
        let mut plan = self.plan(&spec, &tasks, &known, &mut digests, watch)?;
        if self.pull_rows(plan.tasks.iter().map(|planned| &planned.task), watch)? {
            plan = self.plan(&spec, &tasks, &known, &mut digests, watch)?;
        }
        plan.warnings.iter().for_each(|warning| watch(WorkspaceEvent::Warning(warning.clone())));
        if !plan.blockers.is_empty() {
            return Err(WorkspaceError::Blocked(plan.blockers));
        }
        let origin = SweepOrigin {
            file: absolute(&request.file),
            include_path: request.include_path.as_deref().map(absolute),
            overrides: request.overrides.clone(),
            pinned: pinned(&spec, &plan).into_iter().collect(),
        };
        Ok(Prepared { plan, origin, store, digests, slurm: spec.slurm, priority: None })
    }

    /// Plans the newest version of a stored sweep again. Errors: no such sweep, the plan's.
    pub async fn plan_stored(&self, store: &Store, sweep: &str) -> Result<Plan, WorkspaceError> {
        let stored = store.sweep(sweep).await?;
        let (mut spec, origin) = (stored.spec()?, stored.origin);
        // The stored text of a clone may have its parent's name.
        spec.name = SweepName::new(sweep).unwrap_or(spec.name);
        let tasks = Arc::new(TaskIndex::with_folder(origin.include_path.as_deref())?);
        let (known, mut digests) = (store.known().await?, store.digests().await?);
        self.plan(&spec, &tasks, &known, &mut digests, &mut |_| ())
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Warns where a sweep of this name was submitted from another file: what that one has and this one lacks is dropped from it.
async fn warn_of_other_file(
    store: &Store,
    spec: &SweepSpec,
    file: &Path,
    watch: &mut dyn FnMut(WorkspaceEvent),
) -> Result<(), WorkspaceError> {
    let known = match store.sweep(spec.name.as_str()).await {
        Ok(known) => known.origin.file,
        Err(StoreError::NoSweep { .. } | StoreError::Empty) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let here = absolute(file);
    let same = here == known
        || here.canonicalize().is_ok_and(|here| known.canonicalize().is_ok_and(|other| here == other));
    if !same {
        watch(WorkspaceEvent::Warning(format!(
            "sweep '{}' was submitted from {} before; this file makes its next version",
            spec.name,
            known.display()
        )));
    }
    Ok(())
}

/// Engines are given paths as text. Error: a path that is none.
fn require_utf8(path: &Path) -> Result<(), WorkspaceError> {
    path.to_str().map(drop).ok_or_else(|| WorkspaceError::NotUtf8(path.to_owned()))
}

/// What `train.dtype = "auto"` was resolved to, for whoever plans the sweep again on another device. Nothing where a rule or an axis
/// of the file decides it.
fn pinned(spec: &SweepSpec, plan: &Plan) -> Option<(String, String)> {
    const PATH: &str = "train.dtype";
    let value = spec.settings.value(PATH).and_then(Value::as_text).unwrap_or("auto");
    let by_rule = spec.derive.iter().any(|derive| derive.key.path == PATH)
        || spec.when.iter().any(|when| when.set.iter().any(|(key, ..)| key.path == PATH))
        || spec.varied().contains(&PATH);
    (value == "auto" && !by_rule).then(|| (PATH.to_owned(), plan.device.auto_dtype().as_str().to_owned()))
}
