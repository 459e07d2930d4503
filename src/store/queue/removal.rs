//! Removing a sweep: its versions, its jobs' positions in them, and its wants.

use sqlx::{Row, Sqlite, Transaction};

use crate::job::{JobId, JobState, Transition};
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::store::queue::drop_wants;

/// The effect of removing a sweep.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SweepRemoval {
    /// The sweep.
    pub sweep: String,
    /// Versions of its file.
    pub versions: u64,
    /// Its jobs.
    pub jobs: u64,
    /// Those that other sweeps also have.
    pub shared: u64,
    /// Those that only this sweep has and that are queued, paused or running.
    pub active: Vec<JobId>,
    /// Those that only this sweep has and that are running.
    pub running: u64,
}

/// The tables with rows of a sweep, referring tables first.
const OF_SWEEP: &[&str] = &[
    "DELETE FROM import_documents WHERE import_id IN (SELECT id FROM imports WHERE sweep_id = $1)",
    "DELETE FROM import_scores WHERE import_id IN (SELECT id FROM imports WHERE sweep_id = $1)",
    "DELETE FROM imports WHERE sweep_id = $1",
    "DELETE FROM wanted_samples WHERE sweep_id = $1",
    "DELETE FROM wanted_scores WHERE sweep_id = $1",
    "DELETE FROM sweep_tasks WHERE sweep_id = $1",
    "DELETE FROM sweep_jobs WHERE sweep_id = $1",
    "DELETE FROM sweep_versions WHERE sweep_id = $1",
    "DELETE FROM sweeps WHERE id = $1",
];

/// Deletes the rows of a sweep.
pub(in crate::store) async fn delete_sweep(
    tx: &mut Transaction<'_, Sqlite>,
    sweep: i64,
) -> Result<(), StoreError> {
    for statement in OF_SWEEP {
        sqlx::query(*statement).bind(sweep).execute(&mut **tx).await?;
    }
    Ok(())
}

impl Store {
    /// The effect of removing a sweep. Error: no such sweep.
    pub async fn sweep_removal(&self, name: &str) -> Result<SweepRemoval, StoreError> {
        let (sweep, ..) = self.find_sweep(Some(name)).await?;
        let versions = sqlx::query("SELECT COUNT(*) FROM sweep_versions WHERE sweep_id = $1");
        let versions: i64 = versions.bind(sweep).fetch_one(&self.pool).await?.try_get(0)?;
        let jobs = sqlx::query(
            "SELECT DISTINCT s.job_id, j.state,
                 EXISTS (SELECT 1 FROM sweep_jobs o WHERE o.job_id = s.job_id AND o.sweep_id <> s.sweep_id)
             FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id WHERE s.sweep_id = $1",
        );
        let mut removal = SweepRemoval {
            sweep: name.to_owned(),
            versions: versions.max(0) as u64,
            jobs: 0,
            shared: 0,
            active: Vec::new(),
            running: 0,
        };
        for row in jobs.bind(sweep).fetch_all(&self.pool).await? {
            let (job, state): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            removal.jobs += 1;
            if row.try_get::<i64, _>(2)? > 0 {
                removal.shared += 1;
                continue;
            }
            let state = JobState::parse(&state).ok_or(StoreError::Value { what: "a state", value: state })?;
            removal.running += u64::from(state == JobState::Running);
            if Transition::Cancel.sources().contains(&state) {
                removal.active.push(JobId::from_store(job));
            }
        }
        Ok(removal)
    }

    /// Removes a sweep. Jobs and results are kept, so that a later sweep can reuse them. Error: no such sweep.
    pub async fn remove_sweep(&self, name: &str) -> Result<(), StoreError> {
        let (sweep, ..) = self.find_sweep(Some(name)).await?;
        if let Some(server) = &self.server {
            server.remove_sweep(name).await?;
            return self.refresh().await.map(drop);
        }
        let mut tx = self.begin().await?;
        let jobs = sqlx::query("SELECT DISTINCT job_id FROM sweep_jobs WHERE sweep_id = $1");
        let rows = jobs.bind(sweep).fetch_all(&mut *tx).await?;
        let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, sqlx::Error>>()?;
        let jobs: Vec<JobId> = ids.into_iter().map(JobId::from_store).collect();
        drop_wants(&mut tx, name, &jobs).await?;
        delete_sweep(&mut tx, sweep).await?;
        Ok(tx.commit().await?)
    }
}
