//! `pause`, `resume`, `cancel`, `retry` and `priority`: what users do to jobs. A command returns when its effect has happened.

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::{ControlArguments, PriorityArguments, RetryArguments};
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_error, write_json, write_line, write_note};
use crate::job::{JobId, JobState, Transition, counted};
use crate::store::{Actor, Origin, Store};
use crate::workspace::{Workspace, move_named, retry as retry_jobs, set_priority, wait_for_engines};

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
        let moved =
            move_named(&store, &arguments.name, transition, arguments.reason.as_deref(), &actor()).await?;
        for (sweep, shared) in &moved.shared {
            // Jobs that several sweeps want are one job.
            if moved.jobs.len() > 1 && transition != Transition::Resume {
                write_error(&format!("warning: {shared} of these jobs are {word} for sweep '{sweep}' too"));
            }
        }
        wait_for_engines(&store, &moved.jobs).await?;
        store.close().await;
        tell(&moved.jobs, word)
    })
}

pub(in crate::cli) fn retry(arguments: &RetryArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let mut states = Vec::new();
        states.extend(arguments.failed.then_some(JobState::Failed));
        states.extend(arguments.diverged.then_some(JobState::Diverged));
        states.extend(arguments.cancelled.then_some(JobState::Cancelled));
        let moved = retry_jobs(&store, arguments.name.as_deref(), &states, &actor()).await?;
        store.close().await;
        tell(&moved.jobs, "queued")?;
        if moved.left > 0 {
            let left = counted(moved.left as u64, "job");
            write_note(&format!("{left} cancelled; --cancelled queues them again"));
        }
        Ok(ExitCode::Success)
    })
}

pub(in crate::cli) fn priority(
    arguments: &PriorityArguments,
    workspace: &Workspace,
) -> Result<ExitCode, Failure> {
    let PriorityArguments { sweep, priority } = arguments;
    let changed = block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let changed = set_priority(&store, sweep, *priority, &actor()).await?;
        store.close().await;
        Ok(changed)
    })?;
    if is_json() {
        write_json(&json!({ "sweep": sweep, "priority": priority, "jobs": changed }))?;
    } else {
        write_line(&format!(
            "sweep {sweep} has priority {priority}; it moves {}",
            counted(changed, "waiting job")
        ))?;
    }
    Ok(ExitCode::Success)
}

fn actor() -> Actor {
    Actor::here(Origin::Command)
}

fn tell(moved: &[JobId], word: &str) -> Result<ExitCode, Failure> {
    if is_json() {
        write_json(&json!({ "jobs": moved, "state": word }))?;
    } else {
        write_line(&format!("{} {word}", counted(moved.len() as u64, "job")))?;
    }
    Ok(ExitCode::Success)
}
