//! Adapters that are on disk, and those that are no longer.

use std::collections::HashSet;
use std::path::PathBuf;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::StoreError;
use super::open::Store;
use crate::job::{Digest, JobId};

/// An adapter on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAdapter {
    /// The job that trained it.
    pub job: JobId,
    /// The digest of its training key.
    pub subject: String,
    /// Its folder.
    pub folder: PathBuf,
}

impl Store {
    /// The adapters that a sweep alone has: jobs that are in the newest version of another sweep too are left out.
    pub async fn own_adapters(&self, sweep: &str) -> Result<Vec<StoredAdapter>, StoreError> {
        let (sweep, version, _) = self.find_sweep(Some(sweep)).await?;
        let query = sqlx::query(
            "SELECT j.id, t.subject, t.adapter FROM sweep_jobs s
             JOIN jobs j ON j.id = s.job_id JOIN trainings t ON t.subject = j.subject
             WHERE s.sweep_id = $1 AND s.version = $2 AND t.adapter_removed IS NULL
             AND NOT EXISTS (
                 SELECT 1 FROM sweep_jobs o
                 WHERE o.job_id = j.id AND o.sweep_id <> $1 AND o.version =
                     (SELECT MAX(version) FROM sweep_versions WHERE sweep_id = o.sweep_id))
             ORDER BY s.position",
        );
        let rows = query.bind(sweep).bind(version).fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            let (job, subject) = (JobId::from_store(row.try_get(0)?), row.try_get(1)?);
            Ok(StoredAdapter { job, subject, folder: PathBuf::from(row.try_get::<String, _>(2)?) })
        };
        rows.iter().map(read).collect()
    }

    /// Whether a subject is trained and the program has not removed its adapter.
    pub async fn has_adapter(&self, subject: Digest) -> Result<bool, StoreError> {
        let query =
            sqlx::query("SELECT COUNT(*) FROM trainings WHERE subject = $1 AND adapter_removed IS NULL");
        let row = query.bind(subject.to_string()).fetch_one(&self.pool).await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    }

    /// Notes why adapters are no longer on disk. A program that dies between this and the removal leaves folders that
    /// `loragrid gc` finds.
    pub async fn note_removed(&self, adapters: &[StoredAdapter], why: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let subjects: HashSet<&str> = adapters.iter().map(|adapter| adapter.subject.as_str()).collect();
        for subject in subjects {
            let update = sqlx::query("UPDATE trainings SET adapter_removed = $1 WHERE subject = $2");
            update.bind(why).bind(subject).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }
}
