//! Errors of the database.

use std::path::PathBuf;

use thiserror::Error;

use crate::artifacts::ArtifactError;
use crate::job::{AttemptNumber, Bytes, JobId};
use crate::store::maintenance::write_lock::is_full;
use crate::store::server::ServerAddress;

/// An error of the database.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("the database {} cannot be opened: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// The server cannot be reached, or lets nobody in.
    #[error("the database {address} cannot be reached: {source}")]
    Server {
        /// Its address.
        address: ServerAddress,
        /// Why.
        source: sqlx::Error,
    },
    /// The object store of its artifacts.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    /// The tables on the server cannot be made or upgraded.
    #[error("the tables of the database {address} cannot be made: {source}")]
    ServerSchema {
        /// Its address.
        address: ServerAddress,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// The tables on the server were made by a newer release.
    #[error("the tables of the database {address} were made by a newer loragrid")]
    NewerServer {
        /// Its address.
        address: ServerAddress,
    },
    /// The copy on this machine is of another server.
    #[error("{} is a copy of another server's results", path.display())]
    ForeignCopy {
        /// The file.
        path: PathBuf,
    },
    /// Results of another program are kept in files only.
    #[error("results of other programs cannot be imported into a server's database")]
    ImportToServer,
    /// It is on a network file system.
    #[error("the database {} is on a network file system ({kind}), where locks are unreliable", path.display())]
    Network {
        /// The file.
        path: PathBuf,
        /// Such as NFS.
        kind: &'static str,
    },
    /// `LORAGRID_JOURNAL` is not what it can be.
    #[error("LORAGRID_JOURNAL must be wal or rollback, not '{value}'")]
    Journal {
        /// What it says.
        value: String,
    },
    /// Another file has replaced it.
    #[error("another file has replaced the database {}", path.display())]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer release.
    #[error("the database {} was written by a newer loragrid", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
    },
    /// It was written by an earlier release.
    #[error("the database {} was written by an earlier loragrid", path.display())]
    OldSchema {
        /// The file.
        path: PathBuf,
    },
    /// A file without tables.
    #[error("the database {} has no tables; a copy needs the file {}-wal too", path.display(), path.display())]
    NoTables {
        /// The file.
        path: PathBuf,
    },
    /// A process uses a database that has to be upgraded.
    #[error("the database {} cannot be upgraded while {owner} uses it", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// The process.
        owner: String,
    },
    /// The results beside it belong to another database.
    #[error(
        "the results in {} belong to another database ({})",
        folder.display(),
        other.display()
    )]
    ForeignFolder {
        /// The file.
        path: PathBuf,
        /// The folder of results.
        folder: PathBuf,
        /// The other database's file name.
        other: PathBuf,
        /// The file that records the owner.
        marker: PathBuf,
    },
    /// The schema cannot be upgraded.
    #[error("the database {} cannot be upgraded: {source}", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// There is no room to start.
    #[error("disk full at {}: {needed} needed, {free} free", path.display())]
    NoRoom {
        /// The file or folder.
        path: PathBuf,
        /// Free space.
        free: Bytes,
        /// Space needed at least.
        needed: Bytes,
    },
    /// Nothing more can be written: the disk is full.
    #[error("disk full: the database cannot be written")]
    Full,
    /// A statement failed.
    #[error("the database failed: {0}")]
    Sql(sqlx::Error),
    /// A stored value that cannot be read.
    #[error("the database holds {what} that cannot be read: {value}")]
    Value {
        /// The kind of value.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// A job that another attempt has taken over, or that is in another state.
    #[error("attempt {attempt} at job {job} was taken over")]
    Fenced {
        /// The job.
        job: JobId,
        /// The attempt that was taken over.
        attempt: AttemptNumber,
    },
    /// No such sweep.
    #[error("sweep '{name}' not found")]
    NoSweep {
        /// The name as written.
        name: String,
        /// The sweeps that exist.
        known: Vec<String>,
    },
    /// No such job, or an ambiguous prefix.
    #[error("{}", if *found == 0 { format!("job '{prefix}' not found") } else { format!("several jobs have an id that starts with '{prefix}'") })]
    NoJob {
        /// The start of an id, as written.
        prefix: String,
        /// Number of matches.
        found: usize,
    },
    /// No such operation.
    #[error("{}", id.map_or_else(|| "nothing can be undone".to_owned(), |id| format!("operation {id} not found")))]
    NoOperation {
        /// Its number, where one was named.
        id: Option<i64>,
    },
    /// An operation that lasts.
    #[error("operation {id} cannot be undone: {why}")]
    NotUndoable {
        /// Its number.
        id: i64,
        /// Why.
        why: &'static str,
    },
    /// No sweep at all.
    #[error("the database has no sweeps")]
    Empty,
    /// No database.
    #[error("database {} not found", path.display())]
    NoDatabase {
        /// The file.
        path: PathBuf,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Sql(error) }
    }
}
