//! Opening the database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row, SqlitePool};

use super::begin::{BUSY, Patience, shared_by_machines};
use super::error::StoreError;
use crate::checkpoint::FileStamp;

/// Rows that SQLite's thread may be ahead of their reader.
const ROWS: usize = 8192;
/// How much of the file a reader maps, in bytes.
const MAPPED: &str = "4000000000";
/// How often a migration is tried again, beside other processes that migrate.
const MIGRATION_TRIES: u64 = 5;

/// An open database. Clones share its connection.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) pool: SqlitePool,
    path: PathBuf,
    /// The file as it was opened.
    pub(super) opened: FileStamp,
    pub(super) patience: Patience,
}

impl Store {
    /// Opens the database and brings its schema up to date; makes it and its folder if they are not there. Errors:
    /// [`StoreError::Open`], [`StoreError::Migrate`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_for(path, false).await
    }

    async fn open_for(path: &Path, reads: bool) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| failed(error.into()))?;
            if let Some(kind) = shared_by_machines(folder) {
                return Err(StoreError::Network { path: path.to_owned(), kind });
            }
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A claim and an end must survive a power cut.
            .synchronous(SqliteSynchronous::Full)
            // Moving the log into the file takes a while: at 16 MB it is less than one end of a job in a hundred that waits.
            .pragma("wal_autocheckpoint", "4000")
            // Exports read many rows: with a small buffer the threads wait for each other at every few of them.
            .row_buffer_size(ROWS)
            .pragma("cache_size", "-32000")
            .pragma("mmap_size", if reads { MAPPED } else { "0" })
            .busy_timeout(BUSY);
        // A connection to a file does not go stale.
        let one = || SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
        let pool = one().connect_with(options.clone().foreign_keys(true)).await.map_err(failed)?;
        if !is_current(&pool).await {
            // A table that others refer to is replaced only while nobody looks at the references.
            let migrating = one().connect_with(options.foreign_keys(false)).await.map_err(failed)?;
            let migrated = migrate(&migrating).await;
            migrating.close().await;
            migrated.map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?;
        }
        let opened = FileStamp::of(path).map_err(|error| failed(error.into()))?;
        Ok(Self { pool, path: path.to_owned(), opened, patience: Patience::default() })
    }

    /// Opens a database that must be there. Errors: [`StoreError::NoDatabase`], and as [`Store::open`].
    pub async fn open_existing(path: &Path) -> Result<Self, StoreError> {
        if path.is_file() {
            Self::open(path).await
        } else {
            Err(StoreError::NoDatabase { path: path.to_owned() })
        }
    }

    /// Opens a database that must be there to read results: its file is mapped, so that no page is copied. Errors: as
    /// [`Store::open_existing`].
    pub async fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        if path.is_file() {
            Self::open_for(path, true).await
        } else {
            Err(StoreError::NoDatabase { path: path.to_owned() })
        }
    }

    /// The same database, whose changes wait for as long as this patience lasts while it is locked or away.
    pub fn with(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes everything into the one file and closes.
    pub async fn close(self) {
        self.pool.close().await;
    }
}

/// Whether the schema is known to be that of this program: a look, where a migration would lock the file.
async fn is_current(pool: &SqlitePool) -> bool {
    let applied = sqlx::query("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version");
    // A database without the table is new.
    let Ok(rows) = applied.fetch_all(pool).await else { return false };
    let own = sqlx::migrate!();
    let is_own = |(row, own): (&SqliteRow, &Migration)| {
        row.try_get(0).is_ok_and(|version: i64| version == own.version)
            && row.try_get(1).is_ok_and(|checksum: &[u8]| checksum == own.checksum.as_ref())
            && row.try_get(2).unwrap_or(false)
    };
    rows.len() == own.iter().count() && rows.iter().zip(own.iter()).all(is_own)
}

/// Brings the schema up to date. Another process may do the same at this moment: what it has done is seen at the next try.
async fn migrate(pool: &SqlitePool) -> Result<(), MigrateError> {
    let mut tries = 0;
    loop {
        match sqlx::migrate!().run(pool).await {
            Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..)) if tries < MIGRATION_TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50 * tries)).await;
            }
            ended => return ended,
        }
    }
}
