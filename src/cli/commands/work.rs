//! `loragrid work`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cli::ExitCode;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::write_error;
use crate::cli::queue_arguments::WorkArguments;
use crate::cli::work::{carry_out, exit_code, plan_interruptibly, stops};
use crate::device::Inventory;
use crate::job::{JobId, JobState};
use crate::plan::Plan;
use crate::runner::RunSummary;
use crate::spec::{SourceText, SweepSpec};
use crate::store::{AttemptEnd, Observer, Store, StoredSweep};
use crate::task::TaskIndex;

/// How often a queue that is empty is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often sweeps that could not run here are tried again.
const RETRY: Duration = Duration::from_secs(30);
/// Why jobs of a sweep wait that the plan made here does not have.
const OTHERWISE: &str = "planned here, the model, the rows or a task are not what they were at submission";

/// A sweep as it can be run here.
enum Replanned {
    /// Nothing of it is left.
    Done,
    /// Nothing of it can run here.
    Blocked(String),
    /// Some of it can.
    Ready(Box<(Plan, SweepSpec)>),
}

/// Sweeps that cannot run here, with why.
#[derive(Default)]
struct BlockedSweeps {
    reasons: BTreeMap<String, String>,
    since: Option<Instant>,
}

impl BlockedSweeps {
    fn note(&mut self, sweep: &str, reason: String) {
        self.since.get_or_insert_with(Instant::now);
        if self.reasons.insert(sweep.to_owned(), reason.clone()).is_none() {
            write_error(&format!("sweep {sweep} stays queued: {reason}"));
        }
    }

    /// Forgets them from time to time: what was missing may be there.
    fn retry(&mut self) {
        if self.since.is_some_and(|since| since.elapsed() > RETRY) {
            *self = Self::default();
        }
    }
}

pub(in crate::cli) fn run(arguments: &WorkArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    environment.slots(&Inventory::find())?;
    let limits = arguments.working.limits()?;
    block_on(async {
        let (mut stops, patience) = stops();
        let store = Store::open(&environment.db).await?.with(patience);
        let mut all = RunSummary::default();
        let (mut observer, mut blocked) = (Observer::default(), BlockedSweeps::default());
        loop {
            // Jobs of processes that exited wait for nobody.
            store.recover(&mut observer, limits.lease).await?;
            let sweeps = store.sweeps_with_work().await?;
            let Some(name) = sweeps.iter().find(|name| !blocked.reasons.contains_key(*name)) else {
                if !arguments.forever || limits.until.is_some_and(|until| Instant::now() >= until) {
                    break;
                }
                blocked.retry();
                tokio::select! {
                    _ = stops.recv() => break,
                    () = tokio::time::sleep(LOOK) => continue,
                }
            };
            let (plan, spec) = match plan_again(&store, name, environment).await {
                Ok(Replanned::Ready(ready)) => *ready,
                Ok(Replanned::Done) => continue,
                Ok(Replanned::Blocked(reason)) => {
                    blocked.note(name, reason);
                    continue;
                }
                // One sweep that cannot be planned here ends nothing else.
                Err(failure) => {
                    let queued = store.jobs_in(Some(name), &[JobState::Queued]).await?;
                    store.note_waiting(&queued, failure.message()).await?;
                    blocked.note(name, failure.message().to_owned());
                    continue;
                }
            };
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
            if !store.jobs_in(Some(name), &[JobState::Queued]).await?.is_empty() {
                blocked.note(name, OTHERWISE.to_owned());
            }
        }
        store.close().await;
        Ok(match exit_code(&all) {
            ExitCode::Success if !blocked.reasons.is_empty() => ExitCode::Blocked,
            code => code,
        })
    })
}

/// The plan of a sweep as the database has it. Queued jobs that cannot run here, because something is missing or is not what it
/// was at submission, stay queued with that as their reason: another worker may have what they need.
async fn plan_again(store: &Store, name: &str, environment: &Environment) -> Result<Replanned, Failure> {
    let StoredSweep { text, origin, submitter } = store.sweep(name).await?;
    let mut spec = SweepSpec::parse(SourceText::new(&origin.file, &text))?;
    for (key, value) in origin.overrides.iter().chain(&origin.pinned) {
        spec.set(key, value).map_err(|problem| Failure::of_override(&problem))?;
    }
    // Whoever can write into the database must not have commands run as somebody else.
    if submitter != Some(nix::unistd::getuid().as_raw()) {
        spec.notify = None;
    }
    let tasks = Arc::new(TaskIndex::with_folder(origin.include_path.as_deref())?);
    let (known, mut digests) = (store.known().await?, store.digests().await?);
    let plan = plan_interruptibly(|| environment.plan(&spec, &tasks, &known, &mut digests))?;
    store.remember(&digests).await?;
    let queued = store.jobs_in(Some(name), &[JobState::Queued]).await?;
    if let Some(failure) = Failure::of_blockers(&plan.blockers) {
        let reason = failure.message().to_owned();
        store.note_waiting(&queued, &reason).await?;
        return Ok(Replanned::Blocked(reason));
    }
    store.note_tasks(name, &plan).await?;
    let (runnable, others): (Vec<JobId>, Vec<JobId>) =
        queued.into_iter().partition(|job| plan.to_run().any(|planned| planned.id == *job));
    let (done, strange): (Vec<JobId>, Vec<JobId>) =
        others.into_iter().partition(|job| plan.jobs.iter().any(|planned| planned.id == *job));
    for job in &done {
        store.settle(job, &AttemptEnd::Finished).await?;
    }
    store.note_waiting(&strange, OTHERWISE).await?;
    Ok(match (runnable.is_empty(), strange.is_empty()) {
        (true, true) => Replanned::Done,
        (true, false) => Replanned::Blocked(OTHERWISE.to_owned()),
        (false, _) => Replanned::Ready(Box::new((plan, spec))),
    })
}
