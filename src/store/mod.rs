//! The results database: all SQL of the program. SQLite in WAL mode; every read-then-write is one immediate
//! transaction, every change of a job's state obeys [`crate::job::JobState::after`].

mod begin;
mod compare;
mod digests;
mod error;
mod hands;
mod imports;
mod jobs;
mod keep;
mod leases;
mod open;
mod owner;
mod read;
mod results;
mod sweeps;
#[cfg(test)]
mod tests;

pub use begin::Patience;
pub use compare::DocumentValues;
pub use digests::RememberedDigests;
pub use error::StoreError;
pub use hands::{AttemptRecord, Standing};
pub use imports::{ImportedDocument, ImportedResults, ImportedScore};
pub use jobs::{Attempt, AttemptEnd, Writing};
pub use keep::StoredAdapter;
pub use leases::Observer;
pub use open::Store;
pub use owner::Owner;
pub use read::{BoardJob, BoardScore, Leaderboard, StatusCounts, StoredJob, SweepStatus};
pub use results::{Harvest, ScoreRecord, StoredDocument, TrainingRecord};
pub use sweeps::{StoredSweep, SweepOrigin, SweepVersion};

/// Milliseconds since 1970, for columns that people read; nothing is decided by it.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}
