//! The results database: all SQL of the program. SQLite in WAL mode; every read-then-write is one immediate
//! transaction, every change of a job's state obeys [`crate::job::JobState::after`].

mod attempt_results;
mod board;
mod control;
mod curves;
mod digests;
mod document_values;
mod error;
mod exports;
mod frame;
mod heartbeat;
mod imports;
mod job_details;
mod keep;
mod marker;
mod open;
mod query;
mod queue;
mod ranking;
mod samples;
mod scan;
mod schema;
mod scores;
mod sweeps;
#[cfg(test)]
mod tests;
mod write_lock;

pub use board::{BoardJob, BoardScore, Leaderboard, TrainingWork};
pub use control::{AttemptRecord, JobExplanation};
pub use curves::CurvePoint;
pub use digests::RememberedDigests;
pub use document_values::{ByDocument, DocumentValues, Documents};
pub use error::StoreError;
pub use frame::{Datum, Frame};
pub use heartbeat::Heartbeat;
pub use imports::{ImportedDocument, ImportedResults, ImportedScore};
pub use job_details::{LabeledJob, StatusCounts, StoredJob, SweepStatus};
pub use keep::StoredAdapter;
pub use open::{Store, require_room};
pub use query::{QueryError, query};
pub use ranking::FirstRows;
pub use scores::{ScoresOf, Wanted};
pub use sweeps::{StoredSpecError, StoredSweep, SweepOrigin, SweepVersion};
pub use write_lock::Patience;

/// Milliseconds since 1970, for columns that people read; nothing is decided by it.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}
