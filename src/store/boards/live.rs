//! What is running, in few and small reads.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::job::{JobId, JobState};
use crate::queue::Owner;
use crate::store::boards::job_details::{StatusCounts, read_state};
use crate::store::error::StoreError;
use crate::store::open::Store;

/// An open attempt with its progress.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenAttempt {
    /// The job.
    pub job: JobId,
    /// The attempt's number.
    pub attempt: i64,
    /// The worker's process.
    pub owner: Owner,
    /// The slot's device.
    pub device: String,
    /// Its log, relative to the folder of results.
    pub log: String,
    /// Milliseconds since 1970 when it started.
    pub started_ms: i64,
    /// The state of the job.
    pub state: JobState,
    /// Optimizer steps made, with tokens and seconds, and the last loss.
    pub steps: i64,
    /// Tokens of them.
    pub tokens: i64,
    /// Seconds of them.
    pub seconds: f64,
    /// The last loss.
    pub loss: Option<f64>,
    /// Scored documents.
    pub documents: i64,
    /// Whether its adapter is trained.
    pub is_trained: bool,
}

/// A job that waits or has ended without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoneJob {
    /// The job.
    pub job: JobId,
    /// As its sweep calls it.
    pub label: String,
    /// Its state.
    pub state: JobState,
    /// Why.
    pub reason: Option<String>,
}

/// Finished attempts of the workers that are running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunSoFar {
    /// Milliseconds since 1970 of their first attempt; 0 where there is none.
    pub started_ms: i64,
    /// Finished attempts.
    pub finished: i64,
}

impl Store {
    /// Open attempts at the jobs of a sweep's newest version, in the order of their workers and slots.
    pub async fn open_attempts(&self, sweep: &str) -> Result<Vec<OpenAttempt>, StoreError> {
        let (sweep, version, _) = self.find_sweep(Some(sweep)).await?;
        let query = sqlx::query(
            "SELECT a.job_id, a.attempt, a.owner, a.device, a.log, a.started_ms, j.state,
                    COALESCE(c.step, 0), COALESCE(c.tokens, 0), COALESCE(c.seconds, 0.0), c.loss,
                    (SELECT COUNT(*) FROM wanted_scores w JOIN scored_documents d ON d.score_key = w.score_key
                     WHERE w.sweep_id = s.sweep_id AND w.version = s.version AND w.job_id = s.job_id),
                    EXISTS (SELECT 1 FROM trainings t WHERE t.subject = j.subject)
             FROM job_attempts a JOIN jobs j ON j.id = a.job_id
             JOIN sweep_jobs s ON s.job_id = a.job_id AND s.sweep_id = $1 AND s.version = $2
             LEFT JOIN curve_points c ON c.subject = j.subject
                 AND c.step = (SELECT MAX(step) FROM curve_points WHERE subject = j.subject)
             WHERE a.ended_ms IS NULL ORDER BY a.owner, a.device, s.position",
        );
        let read = |row: &SqliteRow| {
            Ok(OpenAttempt {
                job: JobId::from_store(row.try_get(0)?),
                attempt: row.try_get(1)?,
                owner: Owner::from_store(row.try_get(2)?),
                device: row.try_get(3)?,
                log: row.try_get(4)?,
                started_ms: row.try_get(5)?,
                state: read_state(row, 6)?,
                steps: row.try_get(7)?,
                tokens: row.try_get(8)?,
                seconds: row.try_get(9)?,
                loss: row.try_get(10)?,
                documents: row.try_get(11)?,
                is_trained: row.try_get(12)?,
            })
        };
        query.bind(sweep).bind(version).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// The first jobs of a sweep's newest version that wait, or that failed, diverged or were cancelled; the former first.
    pub async fn undone_jobs(&self, sweep: &str, most: usize) -> Result<Vec<UndoneJob>, StoreError> {
        let (sweep, version, _) = self.find_sweep(Some(sweep)).await?;
        let query = sqlx::query(
            "SELECT j.id, s.label, j.state, j.reason FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id
             WHERE s.sweep_id = $1 AND s.version = $2 AND j.state NOT IN ('done', 'running')
             ORDER BY j.state IN ('queued', 'paused') DESC, s.position LIMIT $3",
        );
        let read = |row: &SqliteRow| {
            Ok(UndoneJob {
                job: JobId::from_store(row.try_get(0)?),
                label: row.try_get(1)?,
                state: read_state(row, 2)?,
                reason: row.try_get(3)?,
            })
        };
        let rows = query.bind(sweep).bind(version).bind(most as i64).fetch_all(&self.pool).await?;
        rows.iter().map(read).collect()
    }

    /// The jobs of a sweep's newest version by state. Error: no such sweep.
    pub async fn sweep_counts(&self, sweep: &str) -> Result<StatusCounts, StoreError> {
        let (sweep, version, _) = self.find_sweep(Some(sweep)).await?;
        let query = sqlx::query(
            "SELECT j.state, COUNT(*) FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id
             WHERE s.sweep_id = $1 AND s.version = $2 GROUP BY j.state",
        );
        let rows = query.bind(sweep).bind(version).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((read_state(row, 0)?, row.try_get::<i64, _>(1)? as u64))).collect()
    }

    /// What the workers that run jobs of a sweep have finished of it.
    pub async fn run_so_far(&self, sweep: &str, owners: &[&Owner]) -> Result<RunSoFar, StoreError> {
        let (sweep, version, _) = self.find_sweep(Some(sweep)).await?;
        let mut run = RunSoFar::default();
        for owner in owners {
            let query = sqlx::query(
                "SELECT MIN(a.started_ms), SUM(a.outcome = 'finished') FROM job_attempts a
                 JOIN sweep_jobs s ON s.job_id = a.job_id AND s.sweep_id = $1 AND s.version = $2
                 WHERE a.owner = $3",
            );
            let row = query.bind(sweep).bind(version).bind(owner.as_str()).fetch_one(&self.pool).await?;
            let Some(started): Option<i64> = row.try_get(0)? else { continue };
            run.started_ms = if run.started_ms == 0 { started } else { run.started_ms.min(started) };
            run.finished += row.try_get::<Option<i64>, _>(1)?.unwrap_or_default();
        }
        Ok(run)
    }
}
