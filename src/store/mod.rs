//! The results database: all SQL of the program. SQLite in WAL mode; every read-then-write is one immediate
//! transaction, every change of a job's state obeys [`crate::job::JobState::after`]. Where the queue is on a PostgreSQL server, the file is
//! a copy of what is there, and every change is made on the server.

mod boards;
mod database;
mod error;
mod maintenance;
mod open;
mod queue;
mod results;
mod server;
#[cfg(test)]
mod tests;

pub use boards::{
    BoardJob, BoardScore, Datum, FirstRows, Frame, LabeledJob, Leaderboard, OpenAttempt, QueryError,
    RunSoFar, ScoresOf, StatusCounts, StoredJob, SweepStatus, TrainingWork, UndoneJob, Wanted, query,
};
pub use database::Database;
pub use error::StoreError;
pub use maintenance::{Patience, RememberedDigests};
pub use open::{Store, require_room};
pub use queue::{
    Actor, AnyHeartbeat, AttemptRecord, Before, Heartbeat, JobExplanation, Operation, OperationKind, Origin,
    StoredSpecError, StoredSweep, StoredUse, SweepOrigin, SweepRemoval, SweepVersion, Undone, WorkerRecord,
};
pub use results::{
    ByDocument, CurvePoint, DocumentValues, Documents, ImportedDocument, ImportedResults, ImportedScore,
    KeepTurn, Sent, StoredAdapter, TrackedJob, TrackedPoint, TrackerPlace,
};

pub use server::{AddressError, BroughtHome, ServerAddress, ServerHeartbeat};

/// Milliseconds since 1970, for columns that people read; no decision depends on it.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}
