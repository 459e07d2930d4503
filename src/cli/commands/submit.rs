//! `loragrid submit`

use serde_json::json;

use super::plan::{rules, summary};
use crate::cli::ExitCode;
use crate::cli::arguments::SweepArguments;
use crate::cli::data_sets::bring;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::models::pull;
use crate::cli::output::{write_error, write_json, write_line};
use crate::cli::queue_arguments::SubmitArguments;
use crate::job::{Bytes, Value};
use crate::plan::{Plan, hub_models};
use crate::queue::Observer;
use crate::report::plan_disk;
use crate::runner::RunError;
use crate::scheduler::PACK_MOST;
use crate::store::{RememberedDigests, Store, StoreError, SweepOrigin, require_room};
use crate::sweep_file::SweepSpec;

pub(in crate::cli) fn run(
    arguments: &SubmitArguments,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    block_on(async {
        let (store, plan) = prepare(&arguments.sweep, environment).await?.queue(environment).await?;
        let queued = plan.to_run().count();
        store.close().await;
        if arguments.json {
            write_json(&json!({ "sweep": plan.name, "jobs": plan.jobs.len(), "queued": queued }))?;
        } else {
            write_line(&summary(&plan, rules(PACK_MOST as u64, environment)))?;
            write_line("queued; `loragrid work` runs it")?;
        }
        Ok(ExitCode::Success)
    })
}

/// A plan that can be carried out, and nothing of it in the database yet.
pub(in crate::cli) struct Prepared {
    pub(in crate::cli) plan: Plan,
    pub(super) origin: SweepOrigin,
    pub(super) store: Option<Store>,
    pub(super) digests: RememberedDigests,
}

/// Plans a sweep file. Everything that can be wrong with the request is found here, before the database is touched. Errors:
/// the plan's, what keeps it from running.
pub(in crate::cli) async fn prepare(
    sweep: &SweepArguments,
    environment: &Environment,
) -> Result<Prepared, Failure> {
    let spec = environment.spec(sweep)?;
    require_utf8(&environment.results())?;
    require_utf8(&std::path::absolute(&sweep.file).unwrap_or_else(|_| sweep.file.clone()))?;
    for id in hub_models(&spec)?.iter().filter(|id| environment.hub.cache.find(id).is_none()) {
        pull(id, environment)?;
    }
    let tasks = environment.tasks(sweep)?;
    let (store, known, mut digests) = environment.known().await?;
    if let Some(store) = &store {
        store.recover(&mut Observer::default(), std::time::Duration::MAX).await?;
    }
    if let Some(store) = &store {
        warn_of_other_file(store, &spec, &sweep.file).await?;
    }
    let mut plan = environment.plan(&spec, &tasks, &known, &mut digests)?;
    if bring(plan.tasks.iter().map(|planned| &planned.task), environment)? {
        plan = environment.plan(&spec, &tasks, &known, &mut digests)?;
    }
    plan.warnings.iter().for_each(|warning| write_error(&format!("warning: {warning}")));
    if let Some(failure) = Failure::of_blockers(&plan.blockers) {
        return Err(failure);
    }
    let absolute = |path: &std::path::Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let origin = SweepOrigin {
        file: absolute(&sweep.file),
        include_path: sweep.include_path.as_deref().map(absolute),
        overrides: sweep.set.clone(),
        pinned: pinned(&spec, &plan).into_iter().collect(),
    };
    Ok(Prepared { plan, origin, store, digests })
}

/// Warns where a sweep of this name was submitted from another file: what that one has and this one lacks is dropped from it.
async fn warn_of_other_file(store: &Store, spec: &SweepSpec, file: &std::path::Path) -> Result<(), Failure> {
    let known = match store.sweep(spec.name.as_str()).await {
        Ok(known) => known.origin.file,
        Err(StoreError::NoSweep { .. } | StoreError::Empty) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let here = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let same = here == known
        || here.canonicalize().is_ok_and(|own| known.canonicalize().is_ok_and(|other| own == other));
    if !same {
        write_error(&format!(
            "warning: sweep '{}' was submitted from {} before; this file makes its next version",
            spec.name,
            known.display()
        ));
    }
    Ok(())
}

/// Engines are told paths as text. Error: a path that is none.
fn require_utf8(path: &std::path::Path) -> Result<(), Failure> {
    let help = || "rename the folder, or name a database in another one with --db".to_owned();
    let failure =
        || Failure::new(ExitCode::Usage, format!("the path {} is not UTF-8", path.display()), help());
    path.to_str().map(drop).ok_or_else(failure)
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

impl Prepared {
    /// Puts what is missing into the queue. Error: the database's.
    pub(in crate::cli) async fn queue(self, environment: &Environment) -> Result<(Store, Plan), Failure> {
        let store = match self.store {
            Some(store) => store,
            None => Store::open(&environment.db).await?,
        };
        let (adapters, checkpoints) = plan_disk(&self.plan);
        require_room(store.path(), checkpoints)?;
        let all = Bytes(adapters.0.saturating_add(checkpoints.0));
        if require_room(store.path(), all).is_err() {
            let place = store.results().display().to_string();
            write_error(&format!(
                "warning: adapters and checkpoints need {all}, more than is free in {place}"
            ));
        }
        let cache = store.results().join("cache");
        self.plan.write_inputs(&cache).map_err(|source| RunError::Folder { path: cache, source })?;
        store.remember(&self.digests).await?;
        store.submit(&self.plan, &self.origin).await?;
        Ok((store, self.plan))
    }
}
