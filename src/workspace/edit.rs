//! Sweeps that are made from stored jobs: a job again with some keys changed, or with other tasks.

use std::sync::Arc;

use super::error::WorkspaceError;
use super::open::Workspace;
use super::plan::Prepared;
use crate::job::{JobConfig, JobId, Origin, Settings, SweepName, find_key};
use crate::plan::{Plan, Work};
use crate::store::{Store, StoredJob, StoredSweep, SweepOrigin};
use crate::sweep_file::{SourceText, SweepSpec};
use crate::task::TaskIndex;

/// A job, with what is changed in it.
#[derive(Debug, Clone)]
pub struct CloneRequest {
    /// The job.
    pub job: StoredJob,
    /// Keys with their new values.
    pub changes: Vec<(String, String)>,
    /// The name of the clone's sweep; made from the job's where it is not named.
    pub name: Option<SweepName>,
}

/// A clone that can be submitted.
pub struct PreparedClone {
    /// Its sweep.
    pub prepared: Prepared,
    /// Its job.
    pub job: JobId,
}

impl Workspace {
    /// Plans a job again with some keys changed, as a sweep of its own. Errors: a key, the plan's, a sweep of that name is there.
    pub async fn prepare_clone(
        &self,
        store: Store,
        request: &CloneRequest,
    ) -> Result<PreparedClone, WorkspaceError> {
        let CloneRequest { job, changes, name } = request;
        if job.is_base {
            return Err(WorkspaceError::NothingToChange(job.id.clone()));
        }
        let parent = store.sweep_of(&job.id).await?;
        let StoredSweep { text, origin, .. } = store.sweep(&parent).await?;
        let sweep = SweepSpec::parse(SourceText::new(&origin.file, &text))?;
        let edited = SweepSpec {
            settings: was_set(job, &[]),
            trains: !job.is_base,
            axes: Vec::new(),
            ..sweep.clone()
        };
        let spec = edited_sweep(&sweep, edited, changes)?;
        let tasks = Arc::new(TaskIndex::with_folder(origin.include_path.as_deref())?);
        let (known, mut digests) = (store.known().await?, store.digests().await?);
        let mut plan = self.plan(&spec, &tasks, &known, &mut digests, &mut |_| ())?;
        if !plan.blockers.is_empty() {
            return Err(WorkspaceError::Blocked(plan.blockers));
        }
        let cell = plan.jobs.iter().find(|job| matches!(job.work, Work::Train { .. }));
        let Some(job) = cell.or(plan.jobs.first()).map(|job| job.id.clone()) else {
            return Err(WorkspaceError::NoJobs(parent));
        };
        if job == request.job.id {
            return Err(WorkspaceError::SameJob(job));
        }
        // The same clone is the same sweep, also where its job's newest sweep is that clone.
        let ending = format!("-{:.8}", job.as_str());
        let made =
            || SweepName::new(&format!("{}{ending}", parent.strip_suffix(&ending).unwrap_or(&parent))).ok();
        plan.name = name.clone().or_else(made).unwrap_or_else(|| plan.name.clone());
        label_clone(&mut plan, &sweep, changes);
        plan.text = SweepSpec { name: plan.name.clone(), ..spec.clone() }.to_toml();
        if name.is_some() && store.sweep(plan.name.as_str()).await.is_ok() {
            return Err(WorkspaceError::SweepExists(plan.name));
        }
        let origin = SweepOrigin { overrides: Vec::new(), ..origin }.pinned_for(&spec);
        Ok(PreparedClone {
            prepared: Prepared { plan, origin, store: Some(store), digests, slurm: None, priority: None },
            job,
        })
    }
}

/// Labels the job of a clone by the axes of the sweep that it comes from and by the changed keys.
fn label_clone(plan: &mut Plan, parent: &SweepSpec, changes: &[(String, String)]) {
    let mut axes = parent.varied();
    for key in changes.iter().filter_map(|(key, _)| find_key(key)) {
        if !axes.contains(&key.path) {
            axes.push(key.path);
        }
    }
    for job in plan.jobs.iter_mut().filter(|job| matches!(job.work, Work::Train { .. })) {
        job.label = JobConfig::label(&job.settings, &axes);
    }
}

/// What was set for a job, the keys `without` left out: neither defaults nor what follows from other keys.
pub(super) fn was_set(job: &StoredJob, without: &[&str]) -> Settings {
    let mut settings = Settings::new();
    // Iterations that follow from epochs would be said twice.
    let by_epochs = job.settings.contains_key("train.epochs");
    for (path, (value, origin)) in &job.settings {
        let follows = by_epochs && path == "train.iterations";
        let is_kept = origin.was_set() && !follows && !without.contains(&path.as_str());
        if let (true, Some(key)) = (is_kept, find_key(path)) {
            settings.set(key, value.clone(), Origin::CommandLine);
        }
    }
    settings
}

/// A sweep without the rules of the one that it comes from, and with some keys changed. Errors: a key or a value.
pub(super) fn edited_sweep(
    sweep: &SweepSpec,
    edited: SweepSpec,
    changes: &[(String, String)],
) -> Result<SweepSpec, WorkspaceError> {
    let mut spec =
        SweepSpec { zips: Vec::new(), when: Vec::new(), derive: Vec::new(), exclude: Vec::new(), ..edited };
    for (key, value) in changes {
        spec.set(key, value)?;
    }
    // What is stored is the text, so the plan is made from it.
    let text = spec.to_toml();
    Ok(SweepSpec::parse(SourceText::new(sweep.source.path(), &text))?)
}
