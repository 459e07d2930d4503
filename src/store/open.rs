//! Opening the database.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, SqlitePool};

use super::error::StoreError;
use crate::artifacts::{ArtifactStore, Artifacts};
use crate::job::Bytes;
use crate::pretrained::FileStamp;
use crate::store::database::Database;
use crate::store::maintenance::marker;
use crate::store::maintenance::schema::{self, Age};
use crate::store::maintenance::write_lock::{BUSY, Patience, is_fuse, shared_by_machines};
use crate::store::server::{BroughtHome, Server};

/// The environment variable that names how changes are journaled.
const JOURNAL: &str = "LORAGRID_JOURNAL";
/// Rows that SQLite's thread may buffer ahead of the reader.
const ROWS: usize = 8192;
/// Bytes of the file that a reader maps.
const MAPPED: &str = "4000000000";
/// Space that a new database and its log need.
const ROOM: Bytes = Bytes(1 << 20);
/// Largest log kept after a checkpoint, in bytes.
const LOG_LIMIT: &str = "67108864";

/// An open database. Clones share its connection.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) pool: SqlitePool,
    path: PathBuf,
    /// The folder of results.
    results: PathBuf,
    /// Where adapters, checkpoints and inputs are.
    artifacts: Artifacts,
    /// Where the queue is, if not in the file.
    pub(super) server: Option<Server>,
    /// Counts what was brought home from there.
    pub(super) brought: Arc<AtomicI64>,
    /// What was brought home when it was opened.
    at_open: BroughtHome,
    /// The file as it was opened.
    pub(super) opened: FileStamp,
    pub(super) patience: Patience,
    read_only: bool,
}

impl Store {
    /// Opens the database to plan and run. Creates it and its folder if missing. Upgrades the schema of an earlier release, after a
    /// backup and only if no process uses it. Errors: [`StoreError::Open`], [`StoreError::Migrate`], [`StoreError::NewerSchema`],
    /// [`StoreError::Busy`], [`StoreError::ForeignFolder`], [`StoreError::Server`].
    pub async fn open(database: impl Into<Database>) -> Result<Self, StoreError> {
        let database = database.into();
        match database.server() {
            None => Self::open_file(database.file()).await,
            Some(_) => Self::open_copy(&database).await,
        }
    }

    /// Connects to the server of a database, opens its copy, and brings home what changed.
    async fn open_copy(database: &Database) -> Result<Self, StoreError> {
        let Some(address) = database.server() else { return Self::open_file(database.file()).await };
        let results = database.results();
        let artifacts = match database.artifacts() {
            Some(place) => Artifacts::InStore(ArtifactStore::open(place)?),
            None => Artifacts::InResults,
        };
        let server = Server::connect(address, (results.clone(), artifacts.clone())).await?;
        std::fs::create_dir_all(&results)
            .map_err(|error| StoreError::Open { path: results.clone(), source: error.into() })?;
        marker::claim(&results, Path::new(address.as_str()), server.identity().await?)?;
        let copy = Self::open_file(database.file()).await?;
        let mut store = Self { server: Some(server), results, artifacts, ..copy };
        store.at_open = store.refresh().await?;
        Ok(store)
    }

    /// Opens a database file as [`Store::open`].
    pub(super) async fn open_file(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let folder = folder_of(path);
        std::fs::create_dir_all(&folder).map_err(|error| failed(error.into()))?;
        require_room(path, ROOM)?;
        if !path.exists() {
            marker::require_unclaimed(&folder, path)?;
        }
        let options = writing(path)?.create_if_missing(true);
        let pool = one().connect_with(options.clone().foreign_keys(true)).await.map_err(failed)?;
        if schema::age(&pool, path).await? != Age::Current {
            pool.close().await;
            schema::upgrade(path, &options).await?;
            let pool = one().connect_with(options.foreign_keys(true)).await.map_err(failed)?;
            return Self::opened(pool, path).await?.in_its_folder(&folder).await;
        }
        Self::opened(pool, path).await?.in_its_folder(&folder).await
    }

    /// Opens an existing database to change it. Errors: [`StoreError::NoDatabase`], [`StoreError::OldSchema`], and as [`Store::open`].
    pub async fn open_existing(database: impl Into<Database>) -> Result<Self, StoreError> {
        let database = database.into();
        if database.server().is_some() {
            return Self::open_copy(&database).await;
        }
        let path = database.file();
        there(path)?;
        let options = writing(path)?.create_if_missing(false).foreign_keys(true);
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let pool = one().connect_with(options).await.map_err(failed)?;
        schema::require_current(&pool, path).await?;
        Self::opened(pool, path).await
    }

    /// Another connection to this database. Errors: [`StoreError::Replaced`], and as [`Store::open_existing`].
    pub async fn again(path: &Path, opened: &FileStamp) -> Result<Self, StoreError> {
        match FileStamp::of(path) {
            Ok(stamp) if !stamp.is_same_file(opened) => Err(StoreError::Replaced { path: path.to_owned() }),
            _ => Self::open_existing(path).await,
        }
    }

    /// Opens an existing database to read results. Nothing is written to the file. No file is created beside it if nobody writes at the
    /// moment and the file belongs to another user. Errors: as [`Store::open_existing`].
    pub async fn open_to_read(database: impl Into<Database>) -> Result<Self, StoreError> {
        let database = database.into();
        // The copy is this program's own.
        if database.server().is_some() {
            return Self::open_copy(&database).await;
        }
        let path = database.file();
        there(path)?;
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let pool = one().connect_with(reading(path)).await.map_err(failed)?;
        schema::require_current(&pool, path).await?;
        Ok(Self { read_only: true, ..Self::opened(pool, path).await? })
    }

    /// What was brought home from the server when it was opened.
    pub fn brought_home(&self) -> BroughtHome {
        self.at_open
    }

    /// Whether it was opened read-only.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Upgrades the schema of an existing database. Returns the backup made before; none if there was nothing to do. Errors: as
    /// [`Store::open`].
    pub async fn upgrade(database: &Database) -> Result<Option<PathBuf>, StoreError> {
        // Connecting makes or upgrades the tables of a server.
        if database.server().is_some() {
            Self::open_copy(database).await?.close().await;
            return Ok(None);
        }
        let path = database.file();
        there(path)?;
        schema::upgrade(path, &writing(path)?.create_if_missing(false)).await
    }

    async fn opened(pool: SqlitePool, path: &Path) -> Result<Self, StoreError> {
        let opened = FileStamp::of(path)
            .map_err(|error| StoreError::Open { path: path.to_owned(), source: error.into() })?;
        let (results, patience) = (Database::from(path).results(), Patience::default());
        let (server, brought, at_open) = (None, Arc::default(), BroughtHome::default());
        Ok(Self {
            pool,
            path: path.to_owned(),
            results,
            artifacts: Artifacts::InResults,
            server,
            brought,
            at_open,
            opened,
            patience,
            read_only: false,
        })
    }

    /// The same database, if it owns the folder of its results.
    async fn in_its_folder(self, folder: &Path) -> Result<Self, StoreError> {
        let row = sqlx::query("SELECT id FROM database_identity").fetch_one(&self.pool).await?;
        marker::claim(folder, &self.path, row.try_get(0)?)?;
        Ok(self)
    }

    /// The same database with this patience for writes while it is locked or missing.
    pub fn with(self, patience: Patience) -> Self {
        let server = self.server.map(|server| server.with(patience.clone()));
        Self { patience, server, ..self }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file as it was when it was opened.
    pub fn stamp(&self) -> &FileStamp {
        &self.opened
    }

    /// The folder of results.
    pub fn results(&self) -> PathBuf {
        self.results.clone()
    }

    /// Where adapters, checkpoints and inputs are.
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// Whether the adapter of a recorded training is where adapters are.
    pub(super) fn has_adapter(&self, subject: &str) -> bool {
        self.artifacts.store().is_some() || self.adapter_folder(subject).is_dir()
    }

    /// The folder of a subject's adapter, relative to the current results folder.
    pub fn adapter_folder(&self, subject: &str) -> PathBuf {
        self.results().join("adapters").join(subject)
    }

    /// SQLite's own version.
    pub async fn sqlite_version(&self) -> Result<String, StoreError> {
        Ok(sqlx::query("SELECT sqlite_version()").fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// The PostgreSQL server's version; none without a server.
    pub async fn server_version(&self) -> Result<Option<String>, StoreError> {
        match &self.server {
            Some(server) => server.version().await.map(Some),
            None => Ok(None),
        }
    }

    /// Checkpoints the log into the file and closes.
    pub async fn close(self) {
        if let Some(server) = &self.server {
            server.close().await;
        }
        self.pool.close().await;
    }
}

/// Checks that the disk of a path has enough space. Error: [`StoreError::NoRoom`].
pub fn require_room(path: &Path, needed: Bytes) -> Result<(), StoreError> {
    let free = nix::sys::statvfs::statvfs(&folder_of(path));
    // If the free space is unknown, the write itself will fail.
    let Ok(free) = free.map(|stat| stat.blocks_available().saturating_mul(stat.fragment_size())) else {
        return Ok(());
    };
    let (path, free) = (path.to_owned(), Bytes(free));
    if free.0 < needed.0 { Err(StoreError::NoRoom { path, free, needed }) } else { Ok(()) }
}

/// The folder of a database, which also holds its results.
fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn there(path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        // SQLite would turn an empty file into a database.
        Ok(meta) if meta.is_file() && meta.len() > 0 => Ok(()),
        _ => Err(StoreError::NoDatabase { path: path.to_owned() }),
    }
}

/// One connection that is never dropped: a new one might find another file at this path.
fn one() -> SqlitePoolOptions {
    let options = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
    options.max_lifetime(None).idle_timeout(None)
}

/// The file name for SQLite, which interprets names that begin with `file:` or `:`.
fn named(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// Connection options for writing. Error: a file system with unreliable locks.
fn writing(path: &Path) -> Result<SqliteConnectOptions, StoreError> {
    // A link is judged by its target.
    let place = std::fs::canonicalize(path).ok();
    let folder = folder_of(place.as_deref().unwrap_or(path));
    let journal = match (rollback_is_wanted()?, shared_by_machines(&folder)) {
        (true, _) => SqliteJournalMode::Delete,
        (false, None) => SqliteJournalMode::Wal,
        (false, Some(kind)) => return Err(StoreError::Network { path: path.to_owned(), kind }),
    };
    if is_fuse(&folder) {
        tracing::warn!("{} is on a FUSE file system, where locks may be unreliable", path.display());
    }
    Ok(named(path)
        .journal_mode(journal)
        // Claims and ends must survive a power cut.
        .synchronous(SqliteSynchronous::Full)
        // A checkpoint takes a while: at 16 MB it delays fewer than one job end in a hundred.
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", LOG_LIMIT)
        // Exports read many rows: with a small buffer the threads wait for each other every few rows.
        .row_buffer_size(ROWS)
        .pragma("cache_size", "-32000")
        .busy_timeout(BUSY))
}

/// Whether changes go through a rollback journal, as `LORAGRID_JOURNAL=rollback` has it: the write-ahead log needs memory that all
/// processes share, and so one machine; a rollback journal needs the locks of a network file system to work.
/// Error: another value.
fn rollback_is_wanted() -> Result<bool, StoreError> {
    match std::env::var(JOURNAL).unwrap_or_default().as_str() {
        "" | "wal" => Ok(false),
        "rollback" => Ok(true),
        other => Err(StoreError::Journal { value: other.to_owned() }),
    }
}

/// Whether a database is in rollback mode: byte 18 of its header, the write version, is 1.
fn is_in_rollback_mode(path: &Path) -> bool {
    let mut header = [0; 19];
    let read = File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut header));
    read.is_ok() && header[18] == 1
}

/// Connection options for reading. The last connection of the owner cleans the log up; other users leave no file behind, since the owner
/// could not write it.
pub(super) fn reading(path: &Path) -> SqliteConnectOptions {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    // In rollback mode nothing tells whether somebody writes.
    let has_log = std::fs::metadata(log).is_ok_and(|log| log.len() > 0) || is_in_rollback_mode(path);
    let is_owner = std::fs::metadata(path).is_ok_and(|file| file.uid() == nix::unistd::geteuid().as_raw());
    let can_write = |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok();
    let tidies = is_owner && can_write(path) && can_write(&folder_of(path));
    let options = named(path)
        .create_if_missing(false)
        .read_only(!tidies)
        .immutable(!tidies && !has_log)
        .pragma("query_only", "on")
        .row_buffer_size(ROWS)
        .pragma("cache_size", "-32000")
        .busy_timeout(BUSY);
    // A file that is being written may be truncated: only a file without a log is mapped.
    if has_log { options } else { options.pragma("mmap_size", MAPPED) }
}
