//! Adapters on disk, and removed ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteRow;
use sqlx::{Postgres, Row, Transaction};

use crate::job::{Digest, JobId};
use crate::store::error::StoreError;
use crate::store::open::Store;

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

/// Adapters used only by this sweep's newest version: no other sweep's newest version has them, and no job is to run with them.
const OWN: &str = "NOT EXISTS (
         SELECT 1 FROM sweep_jobs o
         WHERE o.job_id = j.id AND o.sweep_id <> $1 AND o.version =
             (SELECT MAX(version) FROM sweep_versions WHERE sweep_id = o.sweep_id))
     AND j.state NOT IN ('queued', 'running', 'paused')";

/// The right to remove adapters, which of several workers on a server one has at a time.
pub struct KeepTurn(Option<Transaction<'static, Postgres>>);

impl KeepTurn {
    /// Lets the next worker.
    pub async fn end(self) {
        if let Some(lock) = self.0 {
            // A server that is away has let it go already.
            let _ = lock.rollback().await;
        }
    }
}

impl Store {
    /// Waits for the right to remove adapters; without a server every process has it, and each removal is a transaction.
    pub async fn turn(&self) -> Result<KeepTurn, StoreError> {
        match &self.server {
            Some(server) => Ok(KeepTurn(Some(server.keep_lock().await?))),
            None => Ok(KeepTurn(None)),
        }
    }

    /// The adapters that only this sweep uses: jobs in the newest version of another sweep, and jobs that are to run, are left out.
    pub async fn own_adapters(&self, sweep: &str) -> Result<Vec<StoredAdapter>, StoreError> {
        let (sweep, version, _) = self.find_sweep(Some(sweep)).await?;
        let query = format!(
            "SELECT j.id, t.subject FROM sweep_jobs s
             JOIN jobs j ON j.id = s.job_id JOIN trainings t ON t.subject = j.subject
             WHERE s.sweep_id = $1 AND s.version = $2 AND t.adapter_removed IS NULL AND {OWN}
             ORDER BY s.position"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(query));
        let rows = query.bind(sweep).bind(version).fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            let (job, subject): (_, String) = (JobId::from_store(row.try_get(0)?), row.try_get(1)?);
            let folder = self.adapter_folder(&subject);
            Ok(StoredAdapter { job, subject, folder })
        };
        rows.iter().map(read).collect()
    }

    /// Brings a job's adapter into its folder, where adapters are in an object store. Errors: the store's, the database's.
    pub async fn bring_adapter(&self, job: &JobId) -> Result<(), StoreError> {
        let Some(artifacts) = self.artifacts().store() else { return Ok(()) };
        let recorded = sqlx::query(
            "SELECT t.subject, t.adapter_digest FROM trainings t JOIN jobs j ON j.subject = t.subject
             WHERE j.id = $1 AND t.adapter_removed IS NULL AND t.adapter_digest IS NOT NULL",
        );
        let Some(row) = recorded.bind(job.as_str()).fetch_optional(&self.pool).await? else { return Ok(()) };
        let (subject, weights): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let what = "a digest";
        let weights = Digest::parse(&weights).ok_or(StoreError::Value { what, value: weights })?;
        let folder = self.adapter_folder(&subject);
        Ok(artifacts.bring_adapter(&subject, weights, &folder).await?)
    }

    /// The SHA-256 of the weights of every recorded adapter, by subject.
    pub async fn adapter_weights(&self) -> Result<HashMap<String, String>, StoreError> {
        let query = "SELECT subject, adapter_digest FROM trainings WHERE adapter_digest IS NOT NULL";
        Ok(sqlx::query_as(query).fetch_all(&self.pool).await?.into_iter().collect())
    }

    /// Where a job's adapter is, for people; `folder`: where it is or will be on this machine.
    pub fn adapter_place(&self, folder: &str) -> String {
        let subject = Path::new(folder).file_name().unwrap_or_default().to_string_lossy();
        match self.artifacts().store() {
            Some(artifacts) if !Path::new(folder).is_dir() => {
                format!("{}/adapters/{subject}", artifacts.address())
            }
            _ => folder.to_owned(),
        }
    }

    /// The subjects of the trainings of a sweep's newest version.
    pub async fn trained_subjects(&self, sweep: &str) -> Result<Vec<String>, StoreError> {
        let (sweep, version, _) = self.find_sweep(Some(sweep)).await?;
        let query = sqlx::query_scalar(
            "SELECT j.subject FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id
             WHERE s.sweep_id = $1 AND s.version = $2 AND j.kind = 'train'",
        );
        Ok(query.bind(sweep).bind(version).fetch_all(&self.pool).await?)
    }

    /// Records why adapters of a sweep are no longer on disk, and returns those that may be removed now: another process may have
    /// requested one of them in the meantime. A crash between this and the removal leaves folders that `loragrid gc` finds.
    pub async fn note_removed(
        &self,
        sweep: &str,
        adapters: &[StoredAdapter],
        why: &str,
    ) -> Result<Vec<StoredAdapter>, StoreError> {
        if let Some(server) = &self.server {
            let subjects: Vec<String> = adapters.iter().map(|adapter| adapter.subject.clone()).collect();
            let removed = server.note_removed(&subjects, why).await?;
            self.refresh().await?;
            return Ok(adapters
                .iter()
                .filter(|adapter| removed.contains(&adapter.subject))
                .cloned()
                .collect());
        }
        let (sweep, _, _) = self.find_sweep(Some(sweep)).await?;
        let update = format!(
            "UPDATE trainings SET adapter_removed = $2 WHERE subject = $3 AND adapter_removed IS NULL
             AND EXISTS (SELECT 1 FROM jobs j WHERE j.subject = $3 AND {OWN})"
        );
        let mut tx = self.begin().await?;
        let mut removed = Vec::new();
        for adapter in adapters {
            let update = sqlx::query(sqlx::AssertSqlSafe(update.as_str()));
            let update = update.bind(sweep).bind(why).bind(&adapter.subject);
            if update.execute(&mut *tx).await?.rows_affected() > 0 {
                removed.push(adapter.clone());
            }
        }
        tx.commit().await?;
        Ok(removed)
    }

    /// Removes unneeded files of a subject: `remove` is called while no other process can request it. `false`: it is needed, or this
    /// database does not know it.
    pub async fn remove_unneeded(
        &self,
        subject: &str,
        adapter: bool,
        remove: impl AsyncFnOnce() -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        if let Some(server) = &self.server {
            return server.remove_unneeded(subject, adapter, remove).await;
        }
        let mut tx = self.begin().await?;
        let needed = if adapter {
            "SELECT COUNT(*) FROM jobs j LEFT JOIN trainings t ON t.subject = j.subject WHERE j.subject = $1
             AND j.state NOT IN ('queued', 'running', 'paused')
             AND (t.subject IS NULL OR t.adapter_removed IS NOT NULL
                  OR NOT EXISTS (SELECT 1 FROM sweep_jobs s WHERE s.job_id = j.id))"
        } else {
            "SELECT COUNT(*) FROM jobs WHERE subject = $1 AND state NOT IN ('queued', 'running', 'paused')"
        };
        let row = sqlx::query(needed).bind(subject).fetch_one(&mut *tx).await?;
        let unneeded = row.try_get::<i64, _>(0)? > 0;
        if unneeded {
            if adapter {
                let why = "no sweep has its job";
                let note = sqlx::query(
                    "UPDATE trainings SET adapter_removed = COALESCE(adapter_removed, $1) WHERE subject = $2",
                );
                note.bind(why).bind(subject).execute(&mut *tx).await?;
            }
            remove().await?;
        }
        tx.commit().await?;
        Ok(unneeded)
    }
}
