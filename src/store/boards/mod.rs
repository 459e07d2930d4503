//! Reading results: leaderboards, jobs, queries, exports.

pub(in crate::store) mod board;
pub(in crate::store) mod exports;
pub(in crate::store) mod frame;
pub(in crate::store) mod job_details;
pub(in crate::store) mod live;
pub(in crate::store) mod query;
pub(in crate::store) mod ranking;
pub(in crate::store) mod scan;
pub(in crate::store) mod scores;

pub use board::{BoardJob, BoardScore, Leaderboard, TrainingWork};
pub use frame::{Datum, Frame};
pub use job_details::{LabeledJob, StatusCounts, StoredJob, SweepStatus};
pub use live::{OpenAttempt, RunSoFar, UndoneJob};
pub use query::{QueryError, query};
pub use ranking::FirstRows;
pub use scores::{ScoresOf, Wanted};
