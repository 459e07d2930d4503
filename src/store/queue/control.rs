//! Queue commands: pause, resume, cancel, retry; and queries about jobs.

use std::sync::atomic::Ordering;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use crate::job::{JobId, JobState, Transition};
use crate::queue::{Observer, Owner, Queue};
use crate::store::boards::job_details::read_state;
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::store::queue::leases::store_error;

/// A job's state, explained.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobExplanation {
    /// It is queued.
    Queued {
        /// Why it waits, if a worker has noted a reason.
        reason: Option<String>,
        /// Jobs ahead of it.
        before: u64,
        /// Attempts so far.
        attempts: u64,
        /// Jobs that live processes run now.
        running: u64,
    },
    /// A process runs it.
    Running {
        /// Host, process and start of the process.
        owner: String,
        /// The device.
        device: String,
    },
    /// The process that ran it is gone.
    Orphaned {
        /// Host, process and start of the process.
        owner: String,
    },
    /// The user paused it.
    Paused {
        /// Why.
        reason: Option<String>,
    },
    /// The user cancelled it.
    Cancelled {
        /// Why.
        reason: Option<String>,
    },
    /// It failed.
    Failed {
        /// Why.
        reason: Option<String>,
    },
    /// It diverged.
    Diverged {
        /// Why.
        reason: Option<String>,
    },
    /// It is done.
    Done {
        /// Number of scores.
        scores: u64,
    },
}

/// How long a process may send no heartbeat while a command waits for it.
const LEASE: std::time::Duration = std::time::Duration::from_secs(30);

/// An attempt as shown to users.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct AttemptRecord {
    /// Its number.
    pub attempt: i64,
    /// Host, process and start of the process.
    pub owner: String,
    /// The device.
    pub device: String,
    /// Threads per operation.
    pub threads: i64,
    /// Most tokens per pass.
    pub token_budget: i64,
    /// Its log, relative to the folder of results.
    pub log: String,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    /// Milliseconds since 1970; none while it runs.
    pub ended_ms: Option<i64>,
    /// Its duration by a monotonic clock; none if its process did not end it.
    pub seconds: Option<f64>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// A process's open attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct WorkerRecord {
    /// Host and process id.
    pub process: String,
    /// Whether the process exists; none if this machine cannot know.
    pub is_alive: Option<bool>,
    /// The device.
    pub device: String,
    /// The job.
    pub job: JobId,
    /// The attempt's number.
    pub attempt: i64,
    /// Milliseconds since 1970 when it started.
    pub started_ms: i64,
    /// Heartbeats so far, one every two seconds.
    pub heartbeats: i64,
    /// `SWEEP/LABEL` of the job.
    pub label: String,
}

/// Moves jobs within a transaction. Returns those that moved, each with the state before.
pub(super) async fn move_in(
    tx: &mut Transaction<'_, Sqlite>,
    jobs: &[JobId],
    transition: Transition,
    reason: Option<&str>,
) -> Result<Vec<(JobId, JobState)>, StoreError> {
    let mut moved: Vec<(JobId, JobState)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for from in transition.sources() {
        // The transition function decides.
        let Ok(to) = from.after(transition) else { continue };
        for job in jobs {
            let update = "UPDATE jobs SET state = $1, reason = $2 WHERE id = $3 AND state = $4";
            let update = sqlx::query(update).bind(to.as_str()).bind(reason).bind(job.as_str());
            let updated = update.bind(from.as_str()).execute(&mut **tx).await?;
            if updated.rows_affected() > 0 && seen.insert(job) {
                moved.push((job.clone(), from));
            }
        }
    }
    Ok(moved)
}

impl Store {
    /// Moves those of the jobs by a transition whose state allows it. `reason` is stored with the job. Returns the jobs that moved.
    pub async fn move_jobs(
        &self,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<JobId>, StoreError> {
        if let Some(server) = &self.server {
            let moved = Queue::move_jobs(server, jobs, transition, reason).await.map_err(store_error)?;
            self.refresh().await?;
            return Ok(moved);
        }
        let mut tx = self.begin().await?;
        let moved = move_in(&mut tx, jobs, transition, reason).await?;
        tx.commit().await?;
        Ok(moved.into_iter().map(|(job, _)| job).collect())
    }

    /// Jobs of the newest version of a sweep, or of the last submitted one, that are in one of these states, in the plan's order. Error:
    /// no such sweep.
    pub async fn jobs_in(&self, sweep: Option<&str>, states: &[JobState]) -> Result<Vec<JobId>, StoreError> {
        let (sweep, version, _) = self.find_sweep(sweep).await?;
        let query = sqlx::query(
            "SELECT j.id, j.state FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id
             WHERE s.sweep_id = $1 AND s.version = $2 ORDER BY s.position",
        );
        let rows = query.bind(sweep).bind(version).fetch_all(&self.pool).await?;
        let mut found = Vec::new();
        for row in &rows {
            if states.contains(&read_state(row, 1)?) {
                found.push(JobId::from_store(row.try_get(0)?));
            }
        }
        Ok(found)
    }

    /// Notes why queued jobs wait.
    pub async fn note_waiting(&self, jobs: &[JobId], reason: &str) -> Result<(), StoreError> {
        if jobs.is_empty() {
            return Ok(());
        }
        if let Some(server) = &self.server {
            return Queue::note_waiting(server, jobs, reason).await.map_err(store_error);
        }
        let mut tx = self.begin().await?;
        for job in jobs {
            let update = sqlx::query("UPDATE jobs SET reason = $1 WHERE id = $2 AND state = 'queued'");
            update.bind(reason).bind(job.as_str()).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Closes open attempts at jobs that are no longer running, if their process is gone or sends no heartbeat.
    pub async fn close_dead(&self, jobs: &[JobId], observer: &mut Observer) -> Result<(), StoreError> {
        if let Some(server) = &self.server {
            return server.close_dead(jobs, LEASE).await;
        }
        for job in jobs {
            let query = sqlx::query(
                "SELECT attempt, owner, beat FROM job_attempts WHERE job_id = $1 AND ended_ms IS NULL",
            );
            for row in query.bind(job.as_str()).fetch_all(&self.pool).await? {
                let (number, beat): (i64, i64) = (row.try_get(0)?, row.try_get(2)?);
                let owner = Owner::from_store(row.try_get(1)?);
                if owner.is_dead() || observer.is_still(job.as_str(), number, beat, LEASE) {
                    let attempt = crate::store::queue::read_attempt(job.as_str().to_owned(), number);
                    self.close_lost(&attempt).await?;
                }
            }
        }
        Ok(())
    }

    /// The states of jobs, in one read.
    pub async fn states(&self, jobs: &[JobId]) -> Result<Vec<JobState>, StoreError> {
        let rows = sqlx::query("SELECT id, state FROM jobs").fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| Ok((row.try_get::<String, _>(0)?, read_state(row, 1)?));
        let all: std::collections::HashMap<String, JobState> =
            rows.iter().map(read).collect::<Result<_, StoreError>>()?;
        Ok(jobs.iter().map(|job| all.get(job.as_str()).copied().unwrap_or(JobState::Cancelled)).collect())
    }

    /// Whether any of these jobs has an attempt that is still open.
    pub async fn any_open(&self, jobs: &[JobId]) -> Result<bool, StoreError> {
        self.refresh().await?;
        let jobs: std::collections::HashSet<&str> = jobs.iter().map(JobId::as_str).collect();
        let open = sqlx::query("SELECT job_id FROM job_attempts WHERE ended_ms IS NULL");
        for row in open.fetch_all(&self.pool).await? {
            if jobs.contains(row.try_get::<&str, _>(0)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All attempts at a job, the first one first.
    pub async fn attempts(&self, job: &JobId) -> Result<Vec<AttemptRecord>, StoreError> {
        let query = sqlx::query(
            "SELECT attempt, owner, device, threads, token_budget, log, started_ms, ended_ms, outcome, reason, seconds
             FROM job_attempts WHERE job_id = $1 ORDER BY attempt",
        );
        let read = |row: &SqliteRow| {
            Ok(AttemptRecord {
                attempt: row.try_get(0)?,
                owner: row.try_get(1)?,
                device: row.try_get(2)?,
                threads: row.try_get(3)?,
                token_budget: row.try_get(4)?,
                log: row.try_get(5)?,
                started_ms: row.try_get(6)?,
                ended_ms: row.try_get(7)?,
                outcome: row.try_get(8)?,
                reason: row.try_get(9)?,
                seconds: row.try_get(10)?,
            })
        };
        query.bind(job.as_str()).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Number of jobs ahead of a queued job in claim order, across all sweeps.
    pub async fn queued_before(&self, job: &JobId) -> Result<u64, StoreError> {
        let query = sqlx::query(
            "SELECT COUNT(*) FROM jobs WHERE state = 'queued'
             AND rowid < (SELECT rowid FROM jobs WHERE id = $1)",
        );
        let count: i64 = query.bind(job.as_str()).fetch_one(&self.pool).await?.try_get(0)?;
        Ok(count as u64)
    }

    /// All open attempts, by process and start.
    pub async fn workers(&self) -> Result<Vec<WorkerRecord>, StoreError> {
        let query = sqlx::query(
            "SELECT a.owner, a.device, a.job_id, a.attempt, a.started_ms, a.beat,
                 COALESCE((SELECT r.sweep || '/' || r.label FROM runs r WHERE r.job_id = a.job_id LIMIT 1), '')
             FROM job_attempts a WHERE a.ended_ms IS NULL ORDER BY a.owner, a.started_ms",
        );
        let read = |row: &SqliteRow| {
            let owner = Owner::from_store(row.try_get(0)?);
            Ok(WorkerRecord {
                process: owner.process(),
                is_alive: owner.liveness(),
                device: row.try_get(1)?,
                job: JobId::from_store(row.try_get(2)?),
                attempt: row.try_get(3)?,
                started_ms: row.try_get(4)?,
                heartbeats: row.try_get(5)?,
                label: row.try_get(6)?,
            })
        };
        query.fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Number of jobs that live processes run.
    async fn alive(&self) -> Result<u64, StoreError> {
        let rows = sqlx::query("SELECT owner FROM job_attempts WHERE ended_ms IS NULL")
            .fetch_all(&self.pool)
            .await?;
        let mut alive = 0;
        for row in &rows {
            alive += u64::from(!Owner::from_store(row.try_get(0)?).is_dead());
        }
        Ok(alive)
    }

    /// Explains a job's state.
    pub async fn standing(&self, job: &crate::store::StoredJob) -> Result<JobExplanation, StoreError> {
        let reason = job.reason.clone();
        Ok(match job.state {
            JobState::Queued => {
                let (before, running) = (self.queued_before(&job.id).await?, self.alive().await?);
                JobExplanation::Queued { reason, before, attempts: job.attempts, running }
            }
            JobState::Running => {
                let last = self.attempts(&job.id).await?.pop();
                let (owner, device) = last.map(|last| (last.owner, last.device)).unwrap_or_default();
                if Owner::from_store(owner.clone()).is_dead() {
                    JobExplanation::Orphaned { owner }
                } else {
                    JobExplanation::Running { owner, device }
                }
            }
            JobState::Paused => JobExplanation::Paused { reason },
            JobState::Cancelled => JobExplanation::Cancelled { reason },
            JobState::Failed => JobExplanation::Failed { reason },
            JobState::Diverged => JobExplanation::Diverged { reason },
            JobState::Done => JobExplanation::Done { scores: job.scores.len() as u64 },
        })
    }

    /// Subjects in this database that no job is to run for, each with whether its adapter is to be removed.
    pub async fn unneeded_subjects(&self) -> Result<std::collections::HashMap<String, bool>, StoreError> {
        let query = sqlx::query(
            "SELECT j.subject, t.subject IS NULL OR t.adapter_removed IS NOT NULL
                 OR NOT EXISTS (SELECT 1 FROM sweep_jobs s WHERE s.job_id = j.id) FROM jobs j
             LEFT JOIN trainings t ON t.subject = j.subject WHERE j.state NOT IN ('queued', 'running', 'paused')",
        );
        let rows = query.fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// SQLite's integrity check of the file: `ok`, or the errors.
    pub async fn integrity(&self) -> Result<String, StoreError> {
        Ok(sqlx::query("PRAGMA integrity_check").fetch_one(&self.pool).await?.try_get(0)?)
    }

    /// The number that changes whenever another process writes, or something is brought home from the server, which this does.
    pub async fn data_version(&self) -> Result<i64, StoreError> {
        if self.server.is_some() {
            self.refresh().await?;
            return Ok(self.brought.load(Ordering::Relaxed));
        }
        Ok(sqlx::query("PRAGMA data_version").fetch_one(&self.pool).await?.try_get(0)?)
    }
}
