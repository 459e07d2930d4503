//! Completions that come from the database and the table of keys. A shell that asks gets no error: what cannot be read completes to nothing.

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use crate::job::KEYS;
use crate::store::Store;
use crate::workspace::{Config, ConfigFlags};

/// Names of sweeps.
pub(super) fn sweeps() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &std::ffi::OsStr| starting_with(typed, names().0))
}

/// Ids of jobs with their labels.
pub(super) fn jobs() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &std::ffi::OsStr| starting_with(typed, names().1))
}

/// Both.
pub(super) fn sweeps_and_jobs() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &std::ffi::OsStr| {
        let (mut sweeps, jobs) = names();
        sweeps.extend(jobs);
        starting_with(typed, sweeps)
    })
}

/// Keys of a sweep file, as `KEY=`.
pub(super) fn keys() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &std::ffi::OsStr| {
        let candidate = |key: &crate::job::Key| (format!("{}=", key.path), key.help.to_owned());
        starting_with(typed, KEYS.iter().map(candidate).collect())
    })
}

fn starting_with(typed: &std::ffi::OsStr, candidates: Vec<(String, String)>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let fitting = candidates.into_iter().filter(|(value, _)| value.starts_with(typed.as_ref()));
    fitting.map(|(value, help)| CompletionCandidate::new(value).help(Some(help.into()))).collect()
}

/// Candidates with what they are.
type Candidates = Vec<(String, String)>;

/// The sweeps, and the jobs by the start of their ids.
fn names() -> (Candidates, Candidates) {
    let read = || {
        let folder = std::env::current_dir().ok()?;
        let variable = |name: &str| std::env::var(name).ok();
        let config = Config::read(&ConfigFlags::default(), &folder, &variable).ok()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async {
            let store = Store::open_to_read(&config.db.value).await.ok()?;
            let sweeps = store.status().await.ok()?;
            let jobs = store.labeled_jobs().await.ok()?;
            store.close().await;
            let sweeps = sweeps.into_iter().map(|sweep| (sweep.name, "sweep".to_owned())).collect();
            let jobs = jobs.into_iter().map(|job| {
                (job.id.as_str().chars().take(12).collect(), format!("{}/{}", job.sweep, job.label))
            });
            Some((sweeps, jobs.collect()))
        })
    };
    read().unwrap_or_default()
}
