//! What a user can do, callable without a shell: typed arguments in, data or an error out, progress as events.

mod boards;
mod error;
mod evaluate;
mod fetch;
mod open;
mod plan;
mod queue;

pub use boards::{Compared, board, compare, report_input};
pub use error::WorkspaceError;
pub use evaluate::{Evaluated, EvaluationQueue, EvaluationSubject, evaluate};
pub use open::Workspace;
pub use plan::{Prepared, SweepRequest};
pub use queue::WorkRequest;

use crate::job::Bytes;

/// What is reported while a call goes on; runs report [`crate::runner::Progress`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkspaceEvent {
    /// Something that is right to run and may not be what was meant.
    Warning(String),
    /// A model is downloaded.
    ModelDownload {
        /// The model.
        name: String,
        /// The hub.
        endpoint: String,
    },
    /// The rows of a data set are downloaded.
    RowsDownload {
        /// The data set.
        name: String,
        /// The hub.
        endpoint: String,
    },
    /// How far a file of a download is.
    Transfer {
        /// The file.
        file: String,
        /// Its bytes.
        size: Bytes,
        /// Those that are there.
        done: Bytes,
    },
    /// A download ended.
    DownloadEnded,
}
