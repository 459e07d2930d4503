//! The results database: all SQL of the program. SQLite in WAL mode; every read-then-write is one immediate
//! transaction, every change of a job's state obeys [`crate::job::JobState::after`].

mod begin;
mod board;
mod curves;
mod digests;
mod error;
mod exports;
mod frame;
mod hands;
mod imports;
mod jobs;
mod keep;
mod leases;
mod marker;
mod open;
mod owner;
mod query;
mod ranking;
mod read;
mod results;
mod samples;
mod scan;
mod schema;
mod scores;
mod sweeps;
#[cfg(test)]
mod tests;
mod values;

pub use begin::Patience;
pub use board::{BoardJob, BoardScore, Leaderboard, TrainingWork};
pub use curves::CurvePoint;
pub use digests::RememberedDigests;
pub use error::StoreError;
pub use frame::{Datum, Frame};
pub use hands::{AttemptRecord, Standing};
pub use imports::{ImportedDocument, ImportedResults, ImportedScore};
pub use jobs::{Attempt, AttemptEnd, Writing};
pub use keep::StoredAdapter;
pub use leases::MOST_LOST;
pub use leases::Observer;
pub use open::{Store, require_room};
pub use owner::Owner;
pub use query::{QueryError, query};
pub use ranking::FirstRows;
pub use read::{LabeledJob, StatusCounts, StoredJob, SweepStatus};
pub use results::{Harvest, ScoreRecord, StoredDocument, TrainingRecord};
pub use samples::StoredSample;
pub use scores::{ScoresOf, Wanted};
pub use sweeps::{StoredSweep, SweepOrigin, SweepVersion};
pub use values::{ByDocument, DocumentValues, Documents};

/// Milliseconds since 1970, for columns that people read; nothing is decided by it.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}
