//! `loragrid work`

use std::sync::Arc;

use crate::cli::ExitCode;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::write_error;
use crate::cli::queue_arguments::WorkArguments;
use crate::cli::work::{carry_out, exit_code, stops};
use crate::device::Inventory;
use crate::job::JobState;
use crate::plan::Plan;
use crate::runner::RunSummary;
use crate::spec::{SourceText, SweepSpec};
use crate::store::{AttemptEnd, Observer, Store, StoredSweep};
use crate::task::TaskIndex;

/// How often a queue that is empty is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(500);

pub(in crate::cli) fn run(arguments: &WorkArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    arguments.working.slots(&Inventory::find())?;
    let limits = arguments.working.limits()?;
    block_on(async {
        let (mut stops, patience) = stops();
        let store = Store::open(&environment.db).await?.with(patience);
        let mut all = RunSummary::default();
        let mut observer = Observer::default();
        loop {
            // Jobs of processes that died wait for nobody.
            store.recover(&mut observer, limits.lease).await?;
            let sweeps = store.sweeps_with_work().await?;
            let Some(name) = sweeps.first() else {
                if !arguments.forever || limits.until.is_some_and(|until| std::time::Instant::now() >= until)
                {
                    break;
                }
                tokio::select! {
                    _ = stops.recv() => break,
                    () = tokio::time::sleep(LOOK) => continue,
                }
            };
            let plan = plan_again(&store, name, environment).await?;
            let Some((plan, spec)) = plan else { continue };
            write_error(&format!(
                "sweep {name}: {} of {} jobs to run",
                plan.to_run().count(),
                plan.jobs.len()
            ));
            let engine = arguments.working.engine(&plan)?;
            let runner = arguments.working.runner(&store, engine, environment, &limits)?;
            let outcome = carry_out(&runner, &plan, spec.notify.as_ref(), &mut stops).await?;
            let stopped = outcome.stopped.is_some();
            all.finished += outcome.finished;
            all.failed.extend(outcome.failed);
            all.diverged.extend(outcome.diverged);
            all.stopped = outcome.stopped;
            if stopped {
                break;
            }
        }
        store.close().await;
        Ok(exit_code(&all))
    })
}

/// The plan of a sweep as the database has it. Queued jobs that it does not have any more, because the model, the rows or a
/// task are others now, end as failed: what runs is what was submitted. None: nothing is left of it.
async fn plan_again(
    store: &Store,
    name: &str,
    environment: &Environment,
) -> Result<Option<(Plan, SweepSpec)>, Failure> {
    let StoredSweep { text, origin } = store.sweep(name).await?;
    let mut spec = SweepSpec::parse(SourceText::new(&origin.file, &text))?;
    for (key, value) in &origin.overrides {
        spec.set(key, value).map_err(|problem| Failure::of_override(&problem))?;
    }
    let tasks = Arc::new(TaskIndex::with_folder(origin.include_path.as_deref())?);
    let (known, mut digests) = (store.known().await?, store.digests().await?);
    let plan = environment.plan(&spec, &tasks, &known, &mut digests)?;
    store.remember(&digests).await?;
    store.note_tasks(name, &plan).await?;
    let queued = store.jobs_in(Some(name), &[JobState::Queued]).await?;
    let mut left = queued.len();
    for job in queued.iter().filter(|job| !plan.to_run().any(|planned| planned.id == **job)) {
        let done = plan.jobs.iter().any(|planned| planned.id == *job);
        let reason = "the model, the rows or a task are no longer what they were when it was submitted";
        let end = if done { AttemptEnd::Finished } else { AttemptEnd::Failed(reason.to_owned()) };
        store.settle(job, &end).await?;
        left -= 1;
    }
    if let (0.., Some(failure)) = (left, Failure::of_blockers(&plan.blockers)) {
        return Err(failure);
    }
    Ok((left > 0).then_some((plan, spec)))
}
