//! What outside trackers have received, and what they have not yet.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::job::{JobId, JobState};
use crate::queue::Owner;
use crate::store::boards::job_details::read_state;
use crate::store::error::StoreError;
use crate::store::open::Store;

/// A tracker with the place that it writes to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrackerPlace {
    /// `mlflow`, `tensorboard` or `trackio`.
    pub tracker: &'static str,
    /// An address, a folder or a project.
    pub target: String,
}

/// What a tracker has received of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// The tracker's name for the run.
    pub run: String,
    /// The last step.
    pub step: i64,
    /// The number of scores.
    pub scores: i64,
    /// The state in which it ended; empty while it runs.
    pub ended: String,
}

/// A job of a sweep as trackers see it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedJob {
    /// The job.
    pub job: JobId,
    /// As the sweep calls it.
    pub label: String,
    /// Its state.
    pub state: JobState,
    /// Milliseconds since 1970 of its first attempt.
    pub started_ms: i64,
    /// Milliseconds since 1970 of the end of its last attempt; none while it runs.
    pub ended_ms: Option<i64>,
    /// The last step that is recorded.
    pub step: i64,
    /// The number of its scores.
    pub scores: i64,
}

/// A point of a loss curve, with what trackers show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrackedPoint {
    /// Optimizer steps made.
    pub step: i64,
    /// Loss of the step's window; none if it was not finite.
    pub loss: Option<f64>,
    /// Validation loss, if requested.
    pub validation_loss: Option<f64>,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Tokens so far.
    pub tokens: i64,
    /// Seconds since training began.
    pub seconds: f64,
}

impl Store {
    /// The jobs of a sweep's newest version that were ever tried, in the plan's order. Error: no such sweep.
    pub async fn tracked_jobs(&self, sweep: &str) -> Result<Vec<TrackedJob>, StoreError> {
        let (sweep, version, _) = self.find_sweep(Some(sweep)).await?;
        let query = sqlx::query(
            "SELECT j.id, s.label, j.state, MIN(a.started_ms), MAX(a.ended_ms), COUNT(*) - COUNT(a.ended_ms),
                    (SELECT COALESCE(MAX(c.step), 0) FROM curve_points c WHERE c.subject = j.subject),
                    (SELECT COUNT(*) FROM wanted_scores w JOIN task_scores t ON t.score_key = w.score_key
                     WHERE w.sweep_id = s.sweep_id AND w.version = s.version AND w.job_id = s.job_id)
             FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id JOIN job_attempts a ON a.job_id = j.id
             WHERE s.sweep_id = $1 AND s.version = $2 GROUP BY s.position ORDER BY s.position",
        );
        let read = |row: &SqliteRow| {
            let is_open = row.try_get::<i64, _>(5)? > 0;
            Ok(TrackedJob {
                job: JobId::from_store(row.try_get(0)?),
                label: row.try_get(1)?,
                state: read_state(row, 2)?,
                started_ms: row.try_get(3)?,
                ended_ms: row.try_get::<Option<i64>, _>(4)?.filter(|_| !is_open),
                step: row.try_get(6)?,
                scores: row.try_get(7)?,
            })
        };
        query.bind(sweep).bind(version).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// The sweeps that have jobs which a process tried.
    pub async fn sweeps_of(&self, owner: &Owner) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT DISTINCT s.name FROM sweeps s JOIN sweep_jobs sj ON sj.sweep_id = s.id
             WHERE sj.job_id IN (SELECT job_id FROM job_attempts WHERE owner = $1)
               AND sj.version = (SELECT MAX(version) FROM sweep_versions v WHERE v.sweep_id = s.id)",
        );
        Ok(query.bind(owner.as_str()).fetch_all(&self.pool).await?)
    }

    /// The points of a job's curve after a step, at most so many.
    pub async fn points_after(
        &self,
        job: &JobId,
        step: i64,
        most: usize,
    ) -> Result<Vec<TrackedPoint>, StoreError> {
        let query = sqlx::query(
            "SELECT c.step, c.loss, c.validation_loss, c.learning_rate, c.tokens, c.seconds FROM jobs j
             JOIN curve_points c ON c.subject = j.subject WHERE j.id = $1 AND c.step > $2 ORDER BY c.step LIMIT $3",
        );
        let read = |row: &SqliteRow| {
            Ok(TrackedPoint {
                step: row.try_get(0)?,
                loss: row.try_get(1)?,
                validation_loss: row.try_get(2)?,
                learning_rate: row.try_get(3)?,
                tokens: row.try_get(4)?,
                seconds: row.try_get(5)?,
            })
        };
        let rows = query.bind(job.as_str()).bind(step).bind(most as i64).fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// What a tracker has received of the jobs of a sweep.
    pub async fn sent_to(
        &self,
        place: &TrackerPlace,
        sweep: &str,
    ) -> Result<HashMap<JobId, Sent>, StoreError> {
        let query = sqlx::query(
            "SELECT job_id, run, step, scores, ended FROM tracked_jobs
             WHERE tracker = $1 AND target = $2 AND sweep = $3",
        );
        let rows = query.bind(place.tracker).bind(&place.target).bind(sweep).fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            let sent = Sent {
                run: row.try_get(1)?,
                step: row.try_get(2)?,
                scores: row.try_get(3)?,
                ended: row.try_get(4)?,
            };
            Ok((JobId::from_store(row.try_get(0)?), sent))
        };
        rows.iter().map(read).collect()
    }

    /// Notes what a tracker has received of a job.
    pub async fn note_sent(
        &self,
        place: &TrackerPlace,
        sweep: &str,
        (job, sent): (&JobId, &Sent),
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let insert = sqlx::query(
            "INSERT INTO tracked_jobs (tracker, target, sweep, job_id, run, step, scores, ended)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tracker, target, sweep, job_id) DO UPDATE
             SET run = excluded.run, step = excluded.step, scores = excluded.scores, ended = excluded.ended",
        );
        insert
            .bind(place.tracker)
            .bind(&place.target)
            .bind(sweep)
            .bind(job.as_str())
            .bind(&sent.run)
            .bind(sent.step)
            .bind(sent.scores)
            .bind(&sent.ended)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Forgets what a tracker has received of a sweep.
    pub async fn forget_sent(&self, place: &TrackerPlace, sweep: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let delete = "DELETE FROM tracked_jobs WHERE tracker = $1 AND target = $2 AND sweep = $3";
        let delete = sqlx::query(delete).bind(place.tracker).bind(&place.target).bind(sweep);
        delete.execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}
