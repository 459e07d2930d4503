//! The schema's version: reading never changes it; planning and running upgrade it after a backup.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Row, SqlitePool};

use crate::queue::Owner;
use crate::store::error::StoreError;

/// How often a migration is retried while other processes migrate.
const MIGRATION_TRIES: u64 = 5;

/// A database's schema compared with this program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Age {
    /// The file is new.
    Empty,
    /// It was written by an earlier release.
    Old,
    /// It matches this program.
    Current,
}

/// The age of the schema, read without the lock that a migration would take. Errors: it is from a newer release, or the file is not a
/// database.
pub(in crate::store) async fn age(pool: &SqlitePool, path: &Path) -> Result<Age, StoreError> {
    let named = "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
    let found = sqlx::query(named).fetch_one(pool).await;
    let found: i64 = found
        .and_then(|row| row.try_get(0))
        .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    if found == 0 {
        return Ok(Age::Empty);
    }
    let rows = sqlx::query("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version");
    let rows = rows.fetch_all(pool).await?;
    let migrator = sqlx::migrate!();
    let newest = migrator.iter().map(|migration| migration.version).max().unwrap_or_default();
    if rows.iter().any(|row| row.try_get(0).is_ok_and(|version: i64| version > newest)) {
        return Err(StoreError::NewerSchema { path: path.to_owned() });
    }
    let is_applied = |(row, migration): (&SqliteRow, &Migration)| {
        row.try_get(0).is_ok_and(|version: i64| version == migration.version)
            && row.try_get(1).is_ok_and(|checksum: &[u8]| checksum == migration.checksum.as_ref())
            && row.try_get(2).unwrap_or(false)
    };
    let current = rows.len() == migrator.iter().count() && rows.iter().zip(migrator.iter()).all(is_applied);
    Ok(if current { Age::Current } else { Age::Old })
}

/// Error: the schema is from another release.
pub(in crate::store) async fn require_current(pool: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    match age(pool, path).await? {
        Age::Current => Ok(()),
        Age::Old => Err(StoreError::OldSchema { path: path.to_owned() }),
        Age::Empty => Err(StoreError::NoTables { path: path.to_owned() }),
    }
}

/// Upgrades the schema. Returns the backup of an earlier release's file. Errors: a process uses the database; the backup or the migration
/// fails.
pub(in crate::store) async fn upgrade(
    path: &Path,
    options: &SqliteConnectOptions,
) -> Result<Option<PathBuf>, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    // A table with references to it can be replaced only while foreign keys are not enforced.
    let pool_options = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
    let pool = pool_options.connect_with(options.clone().foreign_keys(false)).await.map_err(failed)?;
    let upgraded = async {
        let copy = match age(&pool, path).await? {
            Age::Current => return Ok(None),
            Age::Empty => None,
            Age::Old => {
                refuse_beside_others(&pool, path).await?;
                Some(copy(&pool, path).await?)
            }
        };
        migrate(&pool).await.map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?;
        Ok(copy)
    }
    .await;
    pool.close().await;
    upgraded
}

/// Error: a live process has an open attempt.
async fn refuse_beside_others(pool: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    for table in ["job_attempts", "attempts"] {
        let open = format!("SELECT owner FROM {table} WHERE ended_ms IS NULL");
        // Only one of the two exists.
        let Ok(rows) = sqlx::query(AssertSqlSafe(open)).fetch_all(pool).await else { continue };
        let owners = rows.iter().filter_map(|row| row.try_get(0).ok()).map(Owner::from_store);
        let here = Owner::this_process();
        if let Some(owner) = owners.into_iter().find(|owner| *owner != here && !owner.is_dead()) {
            return Err(StoreError::Busy { path: path.to_owned(), owner: owner.as_str().to_owned() });
        }
    }
    Ok(())
}

/// Copies the whole database beside itself. An existing copy is kept.
async fn copy(pool: &SqlitePool, path: &Path) -> Result<PathBuf, StoreError> {
    let row = sqlx::query("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(pool).await?;
    let version: i64 = row.try_get(0)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".v{version}.backup"));
    let copy = PathBuf::from(name);
    if !copy.exists() {
        let to = copy.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO $1").bind(to).execute(pool).await?;
    }
    Ok(copy)
}

/// Upgrades the schema. If another process does the same concurrently, the next try sees its result.
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
