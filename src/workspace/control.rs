//! What a user does to jobs: pause, resume, cancel, retry, priority.

use super::error::WorkspaceError;
use super::job_names::job_named;
use crate::job::{JobId, JobState, Transition};
use crate::queue::Observer;
use crate::store::{Actor, Before, OperationKind, Store, StoreError};

/// How often an attempt that is on its way out is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);

/// Jobs that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedJobs {
    /// The jobs.
    pub jobs: Vec<JobId>,
    /// Other sweeps that have some of them, with how many.
    pub shared: Vec<(String, usize)>,
    /// Cancelled jobs of the sweep that stay so.
    pub left: usize,
}

/// Moves the jobs of a sweep, or a job, by a transition. Engines that work at them go on until [`wait_for_engines`]. Errors: no such
/// sweep or job, the database's.
pub async fn move_named(
    store: &Store,
    name: &str,
    transition: Transition,
    reason: Option<&str>,
    actor: &Actor,
) -> Result<MovedJobs, WorkspaceError> {
    let sources = transition.sources();
    let jobs = named_jobs(store, Some(name), (&sources, &sources)).await?;
    let moved = store.operate(actor, name, &jobs, transition, reason).await?;
    let shared = store.shared_with(&moved).await?.into_iter().filter(|(sweep, _)| sweep != name).collect();
    Ok(MovedJobs { jobs: moved, shared, left: 0 })
}

/// Changes the priority of a sweep's waiting jobs; returns how many move. Errors: no such sweep, the database's.
pub async fn set_priority(
    store: &Store,
    sweep: &str,
    priority: i64,
    actor: &Actor,
) -> Result<u64, WorkspaceError> {
    let before = Before { priority: Some(store.priority(sweep).await?), jobs: Vec::new() };
    let changed = store.set_priority(sweep, priority).await?;
    if changed > 0 {
        store.note_operation(actor, OperationKind::Priority, sweep, &before).await?;
    }
    Ok(changed)
}

/// Waits until engines that work at jobs have written down where they are.
pub async fn wait_for_engines(store: &Store, jobs: &[JobId]) -> Result<(), WorkspaceError> {
    let mut observer = Observer::default();
    while store.any_open(jobs).await? {
        store.close_dead(jobs, &mut observer).await?;
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Queues jobs in some states again; where none is named, those that failed or diverged, and a job that is named whatever became of it.
/// Errors: as [`move_named`].
pub async fn retry(
    store: &Store,
    name: Option<&str>,
    states: &[JobState],
    actor: &Actor,
) -> Result<MovedJobs, WorkspaceError> {
    let (of_sweep, of_job): (&[JobState], &[JobState]) = match states {
        [] => (
            &[JobState::Failed, JobState::Diverged],
            &[JobState::Failed, JobState::Diverged, JobState::Cancelled],
        ),
        states => (states, states),
    };
    let jobs = named_jobs(store, name, (of_sweep, of_job)).await?;
    let moved =
        store.operate(actor, name.unwrap_or("the last sweep"), &jobs, Transition::Reopen, None).await?;
    let left = match states.contains(&JobState::Cancelled) {
        true => 0,
        // A job by its name has no others.
        false => store.jobs_in(name, &[JobState::Cancelled]).await.map_or(0, |jobs| jobs.len()),
    };
    Ok(MovedJobs { jobs: moved, shared: Vec::new(), left })
}

/// The jobs that a name means: those of a sweep that are in one of the first states, or one job by its name that is in one of the second.
/// Without a name, those of the last sweep that was submitted.
async fn named_jobs(
    store: &Store,
    name: Option<&str>,
    (of_sweep, of_job): (&[JobState], &[JobState]),
) -> Result<Vec<JobId>, WorkspaceError> {
    match (store.jobs_in(name, of_sweep).await, name) {
        (Ok(jobs), _) => Ok(jobs),
        (Err(StoreError::NoSweep { .. } | StoreError::Empty), Some(name)) => {
            let job = job_named(store, name).await?;
            Ok(if of_job.contains(&job.state) { vec![job.id] } else { Vec::new() })
        }
        (Err(error), _) => Err(error.into()),
    }
}
