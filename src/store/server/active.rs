//! The jobs that are queued or running, as far as this client knows: it asks only for what changed.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::connection::{Server, reading};
use crate::job::{JobId, JobState};
use crate::queue::ActiveJob;
use crate::queue::suspicion::is_suspect;
use crate::store::boards::job_details::state_of;
use crate::store::error::StoreError;

/// Active jobs by id, each with its place, as of a transaction.
#[derive(Debug, Default)]
pub(super) struct KnownActive {
    jobs: HashMap<JobId, (i64, ActiveJob)>,
    /// Jobs that are no longer queued, of which nobody here knows yet.
    taken: Vec<JobId>,
    /// The oldest transaction that was open; none before the first read.
    since: Option<String>,
}

/// The columns that are read.
const COLUMNS: &str = "SELECT j.id, j.state, j.revision, j.place, j.wanted,
        (SELECT a.reason FROM job_attempts a WHERE a.job_id = j.id AND a.attempt = j.attempt),
        pg_snapshot_xmin(pg_current_snapshot())::text, j.priority
    FROM jobs j WHERE";

impl Server {
    /// The queued and running jobs that a sweep wants, by priority, then in the order of their submission.
    pub(super) async fn active_jobs(&self) -> Result<Vec<ActiveJob>, StoreError> {
        self.take_changes().await?;
        let mut known = self.known_active();
        known.taken.clear();
        let mut jobs: Vec<&(i64, ActiveJob)> = known.jobs.values().collect();
        jobs.sort_unstable_by_key(|(place, job)| (std::cmp::Reverse(job.priority), *place));
        Ok(jobs.into_iter().map(|(_, job)| job.clone()).collect())
    }

    /// Jobs that are no longer queued, since the active jobs or this were asked for last.
    pub(super) async fn jobs_taken(&self) -> Result<Vec<JobId>, StoreError> {
        self.take_changes().await?;
        Ok(std::mem::take(&mut self.known_active().taken))
    }

    /// Reads what changed, or everything the first time; returns whether anything is not as it was known. A transaction that began early
    /// may be the last to end: what is read is everything since the oldest one that was open.
    pub(super) async fn take_changes(&self) -> Result<bool, StoreError> {
        let since = self.known_active().since.clone();
        let rows = reading!(self, |pool| {
            let rows = match &since {
                Some(since) => {
                    let changed = format!("{COLUMNS} j.changed >= $1::xid8");
                    let query = sqlx::query(sqlx::AssertSqlSafe(changed)).bind(since.clone());
                    query.fetch_all(pool).await?
                }
                None => {
                    let all = format!("{COLUMNS} j.state IN ('queued', 'running')");
                    sqlx::query(sqlx::AssertSqlSafe(all)).fetch_all(pool).await?
                }
            };
            Ok(rows)
        })?;
        let (mut known, mut is_new) = (self.known_active(), false);
        for row in &rows {
            is_new |= known.take(row)?;
        }
        Ok(is_new)
    }

    fn known_active(&self) -> std::sync::MutexGuard<'_, KnownActive> {
        // Every change leaves it consistent.
        self.shared.active.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl KnownActive {
    /// Takes in a row; returns whether it is not as it was known.
    fn take(&mut self, row: &PgRow) -> Result<bool, StoreError> {
        let (id, state) = (JobId::from_store(row.try_get(0)?), state_of(row.try_get(1)?)?);
        let (wanted, reason): (i64, Option<String>) = (row.try_get(4)?, row.try_get(5)?);
        // Rows of one statement are of one snapshot.
        self.since = Some(row.try_get(6)?);
        if state != JobState::Queued {
            self.taken.push(id.clone());
        }
        if !matches!(state, JobState::Queued | JobState::Running) || wanted == 0 {
            return Ok(self.jobs.remove(&id).is_some());
        }
        let suspect = state == JobState::Queued && reason.as_deref().is_some_and(is_suspect);
        let job = ActiveJob {
            id: id.clone(),
            state,
            revision: row.try_get(2)?,
            suspect,
            priority: row.try_get(7)?,
        };
        let before = self.jobs.insert(id, (row.try_get(3)?, job.clone()));
        Ok(before.is_none_or(|(_, before)| before != job))
    }
}
