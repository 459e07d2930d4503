//! `loragrid clone`: a job again, with some keys changed.

use std::sync::Arc;

use serde_json::json;

use super::submit::submit;
use crate::cli::ExitCode;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::job_names::job_named;
use crate::cli::output::{write_json, write_line};
use crate::cli::queue_arguments::CloneArguments;
use crate::job::{Origin, Settings, SweepName, find_key};
use crate::plan::Work;
use crate::store::{Store, StoredJob, StoredSweep, SweepOrigin};
use crate::sweep_file::{SourceText, SweepSpec};
use crate::task::TaskIndex;
use crate::workspace::{Prepared, Workspace};

pub(in crate::cli) fn run(arguments: &CloneArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let job = job_named(&store, &arguments.job).await?;
        let of = store.sweep_of(&job.id).await?;
        let StoredSweep { text, origin, .. } = store.sweep(&of).await?;
        let spec = spec_of(&SweepSpec::parse(SourceText::new(&origin.file, &text))?, &job, &arguments.set)?;
        let tasks = Arc::new(TaskIndex::with_folder(origin.include_path.as_deref())?);
        let (known, mut digests) = (store.known().await?, store.digests().await?);
        let mut plan = workspace.plan(&spec, &tasks, &known, &mut digests)?;
        if let Some(failure) = Failure::of_blockers(&plan.blockers) {
            return Err(failure);
        }
        let cell = plan.jobs.iter().find(|job| matches!(job.work, Work::Train { .. }));
        let cell = cell.or(plan.jobs.first()).map(|job| job.id.clone());
        let Some(cell) = cell else {
            return Err(Failure::new(ExitCode::Internal, "a plan without a job".to_owned(), None));
        };
        // The same clone is the same sweep.
        let short: String = cell.to_string().chars().take(8).collect();
        plan.name = arguments
            .name
            .clone()
            .or_else(|| SweepName::new(&format!("{of}-{short}")).ok())
            .unwrap_or_else(|| plan.name.clone());
        let name = plan.name.clone();
        plan.text = SweepSpec { name: name.clone(), ..spec.clone() }.to_toml();
        if arguments.name.is_some() && store.sweep(name.as_str()).await.is_ok() {
            let message = format!("there is a sweep '{name}' already, and its jobs would be dropped from it");
            let help = "give the clone another --name, or leave it out".to_owned();
            return Err(Failure::new(ExitCode::Usage, message, help));
        }
        let queued = plan.to_run().count();
        let origin = SweepOrigin { overrides: Vec::new(), ..origin }.pinned_for(&spec);
        let prepared = Prepared { plan, origin, store: Some(store), digests };
        let (store, _) = submit(prepared, workspace).await?;
        store.close().await;
        if arguments.json {
            write_json(&json!({ "sweep": name, "job": cell, "queued": queued }))?;
        } else if queued == 0 {
            write_line(&format!("job {cell} of sweep {name} is done already"))?;
        } else {
            write_line(&format!("job {cell} is queued in sweep {name}; `loragrid work` runs it"))?;
        }
        Ok(ExitCode::Success)
    })
}

/// A sweep of one cell: what was set for a job, then what `set` changes. Errors: a key or value of `set`.
fn spec_of(sweep: &SweepSpec, job: &StoredJob, set: &[(String, String)]) -> Result<SweepSpec, Failure> {
    let mut settings = Settings::new();
    for (path, (value, origin)) in &job.settings {
        let set = origin != "default" && !origin.starts_with("profile ");
        if let (true, Some(key)) = (set, find_key(path)) {
            settings.set(key, value.clone(), Origin::CommandLine);
        }
    }
    let mut spec = SweepSpec {
        settings,
        trains: !job.is_base,
        axes: Vec::new(),
        zips: Vec::new(),
        when: Vec::new(),
        derive: Vec::new(),
        exclude: Vec::new(),
        ..sweep.clone()
    };
    for (key, value) in set {
        spec.set(key, value).map_err(|problem| Failure::of_override(&problem))?;
    }
    // What is stored is the text, so the plan is made from it.
    let text = spec.to_toml();
    Ok(SweepSpec::parse(SourceText::new(sweep.source.path(), &text))?)
}
