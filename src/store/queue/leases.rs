//! Leases: a process holds an attempt as long as it lives and sends heartbeats.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::Row;

use crate::job::{AttemptNumber, Digest, JobId};
use crate::queue::suspicion::{PastAttempt, end_of_lost, end_of_silent};
use crate::queue::{Attempt, AttemptResults, Closing, Observer, Owner, Queue, QueueError, Taken};
use crate::store::error::StoreError;
use crate::store::open::Store;

/// Attempts of a job that are examined.
const LOOKED_AT: i64 = 16;

impl Store {
    /// Increments the heartbeat of every open attempt of an owner.
    pub async fn beat(&self, owner: &Owner) -> Result<(), StoreError> {
        let beat =
            sqlx::query("UPDATE job_attempts SET beat = beat + 1 WHERE owner = $1 AND ended_ms IS NULL");
        let mut tx = self.begin().await?;
        beat.bind(owner.as_str()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Requeues running jobs whose process is gone, or has sent no heartbeat for longer than `lease`. Returns how many.
    pub async fn recover(&self, observer: &mut Observer, lease: Duration) -> Result<usize, StoreError> {
        let running = sqlx::query(
            "SELECT a.job_id, a.attempt, a.owner, a.beat FROM job_attempts a
             JOIN jobs j ON j.id = a.job_id AND j.attempt = a.attempt WHERE j.state = 'running'",
        );
        let rows = running.fetch_all(&self.pool).await?;
        let mut owners: HashMap<String, usize> = HashMap::new();
        for row in &rows {
            *owners.entry(row.try_get(2)?).or_default() += 1;
        }
        let mut recovered = 0;
        for row in rows {
            let (job, number, beat): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(3)?);
            let name: String = row.try_get(2)?;
            let alone = owners.get(&name).is_none_or(|jobs| *jobs == 1);
            let owner = Owner::from_store(name);
            let end = if observer.is_dead(&owner) {
                let (reach, earlier) =
                    (self.reach_of(&job).await?, self.earlier_attempts(&job, number).await?);
                end_of_lost(alone, reach, &earlier)
            } else if !observer.is_me(&owner) && observer.is_still(&job, number, beat, lease) {
                end_of_silent()
            } else {
                continue;
            };
            let closing = Closing::End(end, Box::<AttemptResults>::default());
            let closings = [(read_attempt(job, number), Digest::of(b""), closing)];
            let advanced = self.advance(&closings, None).await.map_err(store_error)?;
            // Another process may have been faster.
            recovered += advanced.closed.iter().filter(|closed| **closed).count();
        }
        Ok(recovered)
    }

    /// Closes an attempt whose job was taken over.
    pub(in crate::store) async fn close_lost(&self, attempt: &Attempt) -> Result<(), StoreError> {
        let closings = [(attempt.clone(), Digest::of(b""), Closing::LetGo(Taken::Lost))];
        self.advance(&closings, None).await.map(drop).map_err(store_error)
    }

    /// A job's progress: optimizer steps and scored documents.
    async fn reach_of(&self, job: &str) -> Result<i64, StoreError> {
        let reach = sqlx::query(
            "SELECT (SELECT COALESCE(MAX(c.step), 0) FROM curve_points c JOIN jobs j ON j.subject = c.subject
                     WHERE j.id = $1)
                 + (SELECT COUNT(*) FROM scored_documents d JOIN wanted_scores w ON w.score_key = d.score_key
                    WHERE w.job_id = $1)",
        );
        Ok(reach.bind(job).fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// The attempts at a job before this number, the newest first.
    async fn earlier_attempts(&self, job: &str, number: i64) -> Result<Vec<PastAttempt>, StoreError> {
        let query = sqlx::query(
            "SELECT reason, COALESCE(reach, 0) FROM job_attempts WHERE job_id = $1 AND attempt < $2
             ORDER BY attempt DESC LIMIT $3",
        );
        let rows = query.bind(job).bind(number).bind(LOOKED_AT).fetch_all(&self.pool).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            Ok(PastAttempt { reason: row.try_get(0)?, reach: row.try_get(1)? })
        };
        rows.iter().map(read).collect()
    }
}

/// Extracts the store's own error.
pub(super) fn store_error(error: QueueError) -> StoreError {
    match error.0.downcast::<StoreError>() {
        Ok(error) => *error,
        Err(other) => StoreError::Value { what: "an error", value: other.to_string() },
    }
}

pub(in crate::store) fn read_attempt(job: String, number: i64) -> Attempt {
    let number = AttemptNumber(u32::try_from(number).unwrap_or(u32::MAX));
    Attempt { job: JobId::from_store(job), number, revision: 0, began: None }
}
