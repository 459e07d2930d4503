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
    /// The oldest transaction that was open; none before the first read.
    since: Option<String>,
    /// The transaction of the last change that was seen.
    last: Option<String>,
}

/// The columns that are read.
const COLUMNS: &str = "SELECT j.id, j.state, j.revision, j.place, j.wanted,
        (SELECT a.reason FROM job_attempts a WHERE a.job_id = j.id AND a.attempt = j.attempt),
        pg_snapshot_xmin(pg_current_snapshot())::text
    FROM jobs j WHERE";

impl Server {
    /// The queued and running jobs that a sweep wants, in the order of their submission.
    pub(super) async fn active_jobs(&self) -> Result<Vec<ActiveJob>, StoreError> {
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
        });
        let rows = rows?;
        let mut known = self.known_active();
        for row in &rows {
            known.take(row)?;
        }
        let mut jobs: Vec<&(i64, ActiveJob)> = known.jobs.values().collect();
        jobs.sort_unstable_by_key(|(place, _)| *place);
        Ok(jobs.into_iter().map(|(_, job)| job.clone()).collect())
    }

    fn known_active(&self) -> std::sync::MutexGuard<'_, KnownActive> {
        // Every change leaves it consistent.
        self.shared.active.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl KnownActive {
    fn take(&mut self, row: &PgRow) -> Result<(), StoreError> {
        let (id, state) = (JobId::from_store(row.try_get(0)?), state_of(row.try_get(1)?)?);
        let (wanted, reason): (i64, Option<String>) = (row.try_get(4)?, row.try_get(5)?);
        // Rows of one statement are of one snapshot.
        self.since = Some(row.try_get(6)?);
        if !matches!(state, JobState::Queued | JobState::Running) || wanted == 0 {
            self.jobs.remove(&id);
            return Ok(());
        }
        let suspect = state == JobState::Queued && reason.as_deref().is_some_and(is_suspect);
        let job = ActiveJob { id: id.clone(), state, revision: row.try_get(2)?, suspect };
        self.jobs.insert(id, (row.try_get(3)?, job));
        Ok(())
    }
}

impl Server {
    /// Whether a job changed since this was asked last.
    pub(super) async fn is_changed(&self) -> Result<bool, StoreError> {
        let last = reading!(self, |pool| {
            let last = "SELECT changed::text FROM jobs ORDER BY changed DESC LIMIT 1";
            Ok(sqlx::query_scalar::<_, String>(last).fetch_optional(pool).await?)
        });
        let last = last?;
        let mut known = self.known_active();
        let is_new = known.last != last;
        known.last = last;
        Ok(is_new)
    }
}
