//! `pause`, `resume`, `cancel` and `retry`: what users do to jobs. A command returns when its effect has happened.

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::{ControlArguments, RetryArguments};
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_error, write_json, write_line, write_note};
use crate::job::{JobId, JobState, Transition, counted};
use crate::queue::Observer;
use crate::store::{Store, StoreError};
use crate::workspace::Workspace;
use crate::workspace::job_named;

/// How often an attempt that is on its way out is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);

pub(in crate::cli) fn pause(
    arguments: &ControlArguments,
    workspace: &Workspace,
) -> Result<ExitCode, Failure> {
    hand(arguments, Transition::Pause, "paused", workspace)
}

pub(in crate::cli) fn resume(
    arguments: &ControlArguments,
    workspace: &Workspace,
) -> Result<ExitCode, Failure> {
    hand(arguments, Transition::Resume, "queued", workspace)
}

pub(in crate::cli) fn cancel(
    arguments: &ControlArguments,
    workspace: &Workspace,
) -> Result<ExitCode, Failure> {
    hand(arguments, Transition::Cancel, "cancelled", workspace)
}

fn hand(
    arguments: &ControlArguments,
    transition: Transition,
    word: &str,
    workspace: &Workspace,
) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let jobs =
            named(&store, Some(&arguments.name), (&transition.sources(), &transition.sources())).await?;
        let moved = store.move_jobs(&jobs, transition, arguments.reason.as_deref()).await?;
        for (sweep, shared) in store.shared_with(&moved).await? {
            // Jobs that several sweeps want are one job.
            if sweep != arguments.name && moved.len() > 1 && transition != Transition::Resume {
                write_error(&format!("warning: {shared} of these jobs are {word} for sweep '{sweep}' too"));
            }
        }
        // Engines that work at them write down where they are first.
        let mut observer = Observer::default();
        while store.any_open(&moved).await? {
            store.close_dead(&moved, &mut observer).await?;
            tokio::time::sleep(LOOK).await;
        }
        store.close().await;
        tell(&moved, word, is_json())
    })
}

pub(in crate::cli) fn retry(arguments: &RetryArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let mut states = Vec::new();
        states.extend(arguments.failed.then_some(JobState::Failed));
        states.extend(arguments.diverged.then_some(JobState::Diverged));
        states.extend(arguments.cancelled.then_some(JobState::Cancelled));
        let of_sweep: &[JobState] =
            if states.is_empty() { &[JobState::Failed, JobState::Diverged] } else { &states };
        let of_job: &[JobState] = if states.is_empty() {
            // A job that is named is meant, whatever became of it.
            &[JobState::Failed, JobState::Diverged, JobState::Cancelled]
        } else {
            &states
        };
        let jobs = named(&store, arguments.name.as_deref(), (of_sweep, of_job)).await?;
        let moved = store.move_jobs(&jobs, Transition::Reopen, None).await?;
        let cancelled = match states.contains(&JobState::Cancelled) {
            // A job by its name was meant whatever became of it; only a sweep has others.
            false => {
                store.jobs_in(arguments.name.as_deref(), &[JobState::Cancelled]).await.unwrap_or_default()
            }
            true => Vec::new(),
        };
        store.close().await;
        tell(&moved, "queued", is_json())?;
        if !cancelled.is_empty() {
            write_note(&format!(
                "{} cancelled; --cancelled queues them again",
                counted(cancelled.len() as u64, "job")
            ));
        }
        Ok(ExitCode::Success)
    })
}

/// The jobs that a name means: those of a sweep that are in one of the first states, or one job by its id's start that is in one
/// of the second. Without a name, those of the last sweep that was submitted.
async fn named(
    store: &Store,
    name: Option<&str>,
    (of_sweep, of_job): (&[JobState], &[JobState]),
) -> Result<Vec<JobId>, Failure> {
    match (store.jobs_in(name, of_sweep).await, name) {
        (Ok(jobs), _) => Ok(jobs),
        (Err(StoreError::NoSweep { .. } | StoreError::Empty), Some(name)) => {
            let job = job_named(store, name).await?;
            Ok(if of_job.contains(&job.state) { vec![job.id] } else { Vec::new() })
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn tell(moved: &[JobId], word: &str, as_json: bool) -> Result<ExitCode, Failure> {
    if as_json {
        write_json(&json!({ "jobs": moved, "state": word }))?;
    } else {
        write_line(&format!("{} {word}", counted(moved.len() as u64, "job")))?;
    }
    Ok(ExitCode::Success)
}
