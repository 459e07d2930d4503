//! Opening the database.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, SqlitePool};

use super::error::StoreError;
use crate::job::Bytes;
use crate::pretrained::FileStamp;
use crate::store::maintenance::marker;
use crate::store::maintenance::schema::{self, Age};
use crate::store::maintenance::write_lock::{BUSY, Patience, is_fuse, shared_by_machines};

/// Rows that SQLite's thread may be ahead of their reader.
const ROWS: usize = 8192;
/// How much of the file a reader maps, in bytes.
const MAPPED: &str = "4000000000";
/// What a database and its log need to begin.
const ROOM: Bytes = Bytes(1 << 20);
/// Largest log that is kept after its content was moved into the file, in bytes.
const LOG_LIMIT: &str = "67108864";

/// An open database. Clones share its connection.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) pool: SqlitePool,
    path: PathBuf,
    /// The file as it was opened.
    pub(super) opened: FileStamp,
    pub(super) patience: Patience,
    read_only: bool,
}

impl Store {
    /// Opens the database to plan and run: makes it and its folder if they are not there, and upgrades the schema of an earlier
    /// release, after a copy of the file and where no process works with it. Errors: [`StoreError::Open`],
    /// [`StoreError::Migrate`], [`StoreError::NewerSchema`], [`StoreError::Busy`], [`StoreError::ForeignFolder`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
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

    /// Opens a database that must be there, to change what is in it. Errors: [`StoreError::NoDatabase`],
    /// [`StoreError::OldSchema`], and as [`Store::open`].
    pub async fn open_existing(path: &Path) -> Result<Self, StoreError> {
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

    /// Opens a database that must be there to read results. Nothing is written: not into the file, and no file beside it where
    /// nobody writes at this moment and the file is another user's. Errors: as [`Store::open_existing`].
    pub async fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        there(path)?;
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let pool = one().connect_with(reading(path)).await.map_err(failed)?;
        schema::require_current(&pool, path).await?;
        Ok(Self { read_only: true, ..Self::opened(pool, path).await? })
    }

    /// Whether it was opened to read.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Upgrades the schema of a database that must be there. Returns the copy that was made of it before; none where there was
    /// nothing to do. Errors: as [`Store::open`].
    pub async fn upgrade(path: &Path) -> Result<Option<PathBuf>, StoreError> {
        there(path)?;
        schema::upgrade(path, &writing(path)?.create_if_missing(false)).await
    }

    async fn opened(pool: SqlitePool, path: &Path) -> Result<Self, StoreError> {
        let opened = FileStamp::of(path)
            .map_err(|error| StoreError::Open { path: path.to_owned(), source: error.into() })?;
        Ok(Self { pool, path: path.to_owned(), opened, patience: Patience::default(), read_only: false })
    }

    /// The same database, if the folder of its results is its own.
    async fn in_its_folder(self, folder: &Path) -> Result<Self, StoreError> {
        let row = sqlx::query("SELECT id FROM database_identity").fetch_one(&self.pool).await?;
        marker::claim(folder, &self.path, row.try_get(0)?)?;
        Ok(self)
    }

    /// The same database, whose changes wait for as long as this patience lasts while it is locked or away.
    pub fn with(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file as it was when it was opened.
    pub fn stamp(&self) -> &FileStamp {
        &self.opened
    }

    /// The folder of results: the database's own.
    pub fn results(&self) -> PathBuf {
        let folder = folder_of(&self.path);
        std::path::absolute(&folder).unwrap_or(folder)
    }

    /// The folder of a subject's adapter, wherever the results are now.
    pub fn adapter_folder(&self, subject: &str) -> PathBuf {
        self.results().join("adapters").join(subject)
    }

    /// SQLite's own version.
    pub async fn sqlite_version(&self) -> Result<String, StoreError> {
        Ok(sqlx::query("SELECT sqlite_version()").fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// Writes everything into the one file and closes.
    pub async fn close(self) {
        self.pool.close().await;
    }
}

/// Checks that the disk of a path has room. Error: [`StoreError::NoRoom`].
pub fn require_room(path: &Path, needed: Bytes) -> Result<(), StoreError> {
    let free = nix::sys::statvfs::statvfs(&folder_of(path));
    // Where nobody can say, the writing itself will.
    let Ok(free) = free.map(|stat| stat.blocks_available().saturating_mul(stat.fragment_size())) else {
        return Ok(());
    };
    let (path, free) = (path.to_owned(), Bytes(free));
    if free.0 < needed.0 { Err(StoreError::NoRoom { path, free, needed }) } else { Ok(()) }
}

/// The folder of a database, in which its results are too.
fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn there(path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        // SQLite would make a database of an empty file.
        Ok(meta) if meta.is_file() && meta.len() > 0 => Ok(()),
        _ => Err(StoreError::NoDatabase { path: path.to_owned() }),
    }
}

/// One connection that is never given up: a new one might find another file in the place of this one.
fn one() -> SqlitePoolOptions {
    let options = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
    options.max_lifetime(None).idle_timeout(None)
}

/// The name of the file for SQLite, which takes a name that begins with `file:` or `:` for something else.
fn named(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// How a database is written. Error: a file system that keeps no locks.
fn writing(path: &Path) -> Result<SqliteConnectOptions, StoreError> {
    // A link is judged by where it leads.
    let place = std::fs::canonicalize(path).ok();
    let folder = folder_of(place.as_deref().unwrap_or(path));
    if let Some(kind) = shared_by_machines(&folder) {
        return Err(StoreError::Network { path: path.to_owned(), kind });
    }
    if is_fuse(&folder) {
        tracing::warn!("{} is on a FUSE file system, where locks may be unreliable", path.display());
    }
    Ok(named(path)
        .journal_mode(SqliteJournalMode::Wal)
        // A claim and an end must survive a power cut.
        .synchronous(SqliteSynchronous::Full)
        // Moving the log into the file takes a while: at 16 MB it is less than one end of a job in a hundred that waits.
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", LOG_LIMIT)
        // Exports read many rows: with a small buffer the threads wait for each other at every few of them.
        .row_buffer_size(ROWS)
        .pragma("cache_size", "-32000")
        .busy_timeout(BUSY))
}

/// How a database is read. The last connection of its owner tidies the log up; anybody else leaves no file behind, which the
/// owner could not write.
pub(super) fn reading(path: &Path) -> SqliteConnectOptions {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let has_log = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
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
    // A file that somebody writes may be cut off: only a file that nobody touches is mapped.
    if has_log { options } else { options.pragma("mmap_size", MAPPED) }
}
