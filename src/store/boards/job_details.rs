//! Data for the read commands.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::job::{JobId, JobState, StoredOrigin, Value};
use crate::store::boards::board::BoardScore;
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::task::Metric;

/// All stored data of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredJob {
    /// Its identity.
    pub id: JobId,
    /// Whether it is an untrained model.
    pub is_base: bool,
    /// Its state.
    pub state: JobState,
    /// Why it failed or diverged.
    pub reason: Option<String>,
    /// Each resolved key with its value and the origin of that value.
    pub settings: BTreeMap<String, (Value, StoredOrigin)>,
    /// Parameters of its adapter.
    pub trainable: u64,
    /// Attempts so far.
    pub attempts: u64,
    /// Compute dtype.
    pub dtype: String,
    /// Folder of its adapter.
    pub adapter: Option<String>,
    /// Why the adapter is no longer on disk, if loragrid removed it.
    pub adapter_removed: Option<String>,
    /// Optimizer steps.
    pub steps: Option<i64>,
    /// Tokens processed by the model.
    pub tokens: Option<i64>,
    /// Seconds of training.
    pub seconds: Option<f64>,
    /// Largest resident memory of the engine in bytes.
    pub peak_memory: Option<i64>,
    /// Loss of the first window.
    pub first_loss: Option<f64>,
    /// Loss of the last window.
    pub last_loss: Option<f64>,
    /// Whether its loss fell by more than a tenth; none if it was not trained.
    pub converged: Option<bool>,
    /// Validation loss after the last step.
    pub validation_loss: Option<f64>,
    /// Its scores.
    pub scores: Vec<BoardScore>,
}

/// Number of jobs in each state.
pub type StatusCounts = BTreeMap<JobState, u64>;

/// The status of a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepStatus {
    /// The sweep.
    pub name: String,
    /// Its newest version.
    pub version: i64,
    /// Jobs of that version by state.
    pub counts: StatusCounts,
}

/// A job of a sweep, as `top` labels it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabeledJob {
    /// The sweep.
    pub sweep: String,
    /// `base`, or the values of the axes.
    pub label: String,
    /// The job.
    pub id: JobId,
}

impl Store {
    /// The sweep of this name, or the last submitted one. Errors: [`StoreError::NoSweep`], [`StoreError::Empty`].
    pub(in crate::store) async fn find_sweep(
        &self,
        name: Option<&str>,
    ) -> Result<(i64, i64, String), StoreError> {
        let newest = "SELECT s.id, MAX(v.version), s.name, MAX(v.created_ms) FROM sweeps s
                      JOIN sweep_versions v ON v.sweep_id = s.id GROUP BY s.id, s.name ORDER BY 4 DESC, 1 DESC";
        let rows = sqlx::query(newest).fetch_all(&self.pool).await?;
        let sweeps = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
            .collect::<Result<Vec<(i64, i64, String)>, sqlx::Error>>()?;
        let found = match name {
            None => sweeps.first(),
            Some(name) => sweeps.iter().find(|(_, _, known)| known == name),
        };
        found.cloned().ok_or_else(|| match name {
            None => StoreError::Empty,
            Some(name) => StoreError::NoSweep {
                name: name.to_owned(),
                known: sweeps.into_iter().map(|(_, _, name)| name).collect(),
            },
        })
    }

    /// The name of the sweep that was submitted last. Error: [`StoreError::Empty`].
    pub async fn last_sweep(&self) -> Result<String, StoreError> {
        Ok(self.find_sweep(None).await?.2)
    }

    /// All jobs of the newest version of every sweep, by sweep and position.
    pub async fn labeled_jobs(&self) -> Result<Vec<LabeledJob>, StoreError> {
        let mut jobs = Vec::new();
        self.scan("SELECT sweep, label, job_id FROM runs ORDER BY sweep, position", &[], |line| {
            let (sweep, label) = (line.text(0)?.to_owned(), line.text(1)?.to_owned());
            jobs.push(LabeledJob { sweep, label, id: JobId::from_store(line.text(2)?.to_owned()) });
            Ok(())
        })
        .await?;
        Ok(jobs)
    }

    /// The trained jobs of the newest version of every sweep, each with its settings.
    pub async fn jobs_with_settings(
        &self,
    ) -> Result<Vec<(LabeledJob, BTreeMap<String, (Value, StoredOrigin)>)>, StoreError> {
        let query = sqlx::query(
            "SELECT r.sweep, r.label, r.job_id, j.settings FROM runs r JOIN jobs j ON j.id = r.job_id
             WHERE j.kind <> 'base' ORDER BY r.sweep, r.position",
        );
        let rows = query.fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let id = JobId::from_store(row.try_get(2)?);
                let job = LabeledJob { sweep: row.try_get(0)?, label: row.try_get(1)?, id };
                Ok((job, read_json(row, 3)?))
            })
            .collect()
    }

    /// Warnings from the plans of the newest versions that contain a job.
    pub async fn warnings(&self, job: &JobId) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query(
            "SELECT v.warnings FROM sweep_versions v
             JOIN (SELECT sweep_id, MAX(version) AS version FROM sweep_versions GROUP BY sweep_id) n
                 ON n.sweep_id = v.sweep_id AND n.version = v.version
             JOIN sweep_jobs s ON s.sweep_id = v.sweep_id AND s.version = v.version
             WHERE s.job_id = $1 ORDER BY v.sweep_id",
        );
        let mut warnings: Vec<String> = Vec::new();
        for row in query.bind(job.as_str()).fetch_all(&self.pool).await? {
            let row_warnings: Vec<String> = read_json(&row, 0)?;
            warnings.extend(
                row_warnings.into_iter().filter(|warning| !warnings.contains(warning)).collect::<Vec<_>>(),
            );
        }
        Ok(warnings)
    }

    /// How many of these jobs the newest version of each sweep has; sweeps without any are left out.
    pub async fn shared_with(&self, jobs: &[JobId]) -> Result<Vec<(String, usize)>, StoreError> {
        let wanted: std::collections::HashSet<&JobId> = jobs.iter().collect();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for job in self.labeled_jobs().await? {
            if wanted.contains(&job.id) {
                *counts.entry(job.sweep).or_default() += 1;
            }
        }
        Ok(counts.into_iter().collect())
    }

    /// `SWEEP/LABEL` of a job in the newest version of each sweep that contains it.
    pub async fn labels(&self, job: &JobId) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT sweep || '/' || label FROM runs WHERE job_id = $1 ORDER BY sweep, position",
        );
        Ok(query.bind(job.as_str()).fetch_all(&self.pool).await?)
    }

    /// The job whose id starts with this prefix. Error: [`StoreError::NoJob`].
    pub async fn job(&self, prefix: &str) -> Result<StoredJob, StoreError> {
        let query = sqlx::query(
            "SELECT j.id, j.kind, j.state, j.reason, j.settings, j.trainable, j.attempt, j.dtype,
                    t.adapter, t.steps, t.tokens, t.seconds, t.peak_memory, t.first_loss, t.last_loss,
                    t.last_losses, t.validation_loss, t.adapter_removed, j.subject, j.numerics
             FROM jobs j LEFT JOIN trainings t ON t.subject = j.subject WHERE j.id >= $1 AND j.id < $1 || char(1114111)",
        );
        let rows = query.bind(prefix).fetch_all(&self.pool).await?;
        let [row] = rows.as_slice() else {
            return Err(StoreError::NoJob { prefix: prefix.to_owned(), found: rows.len() });
        };
        let settings: BTreeMap<String, (Value, StoredOrigin)> = read_json(row, 4)?;
        let scores = sqlx::query(
            "SELECT c.task, c.metric, c.value, c.stderr, c.documents FROM task_scores c
             JOIN jobs j ON j.subject = c.subject WHERE j.id = $1 ORDER BY c.task, c.metric",
        );
        let id: String = row.try_get(0)?;
        let scores = scores.bind(&id).fetch_all(&self.pool).await?;
        Ok(StoredJob {
            id: JobId::from_store(id),
            is_base: row.try_get::<String, _>(1)? == "base",
            state: read_state(row, 2)?,
            reason: row.try_get(3)?,
            settings,
            trainable: row.try_get::<i64, _>(5)? as u64,
            attempts: row.try_get::<i64, _>(6)? as u64,
            dtype: row.try_get(7)?,
            adapter: row
                .try_get::<Option<String>, _>(8)?
                .map(|_| Ok::<_, sqlx::Error>(self.adapter_folder(&row.try_get::<String, _>(18)?)))
                .transpose()?
                .map(|folder| folder.display().to_string()),
            adapter_removed: row.try_get(17)?,
            steps: row.try_get(9)?,
            tokens: row.try_get(10)?,
            seconds: row.try_get(11)?,
            peak_memory: row.try_get(12)?,
            first_loss: row.try_get(13)?,
            last_loss: row.try_get(14)?,
            converged: has_converged(row.try_get(13)?, row.try_get(15)?),
            validation_loss: row.try_get(16)?,
            scores: scores.iter().map(|row| read_score(row, 0)).collect::<Result<_, _>>()?,
        })
    }

    /// The status of every sweep, the last submitted first.
    pub async fn status(&self) -> Result<Vec<SweepStatus>, StoreError> {
        let query = sqlx::query(
            "SELECT s.name, v.version, j.state, COUNT(*), v.created_ms FROM sweeps s
             JOIN (SELECT sweep_id, MAX(version) AS version, MAX(created_ms) AS created_ms
                   FROM sweep_versions GROUP BY sweep_id) v ON v.sweep_id = s.id
             JOIN sweep_jobs sj ON sj.sweep_id = s.id AND sj.version = v.version
             JOIN jobs j ON j.id = sj.job_id
             GROUP BY s.id, s.name, v.version, j.state, v.created_ms ORDER BY v.created_ms DESC, s.id DESC",
        );
        let mut sweeps: Vec<SweepStatus> = Vec::new();
        for row in query.fetch_all(&self.pool).await? {
            let (name, version): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            let (state, count): (JobState, i64) = (read_state(&row, 2)?, row.try_get(3)?);
            if sweeps.last().is_none_or(|sweep| sweep.name != name) {
                sweeps.push(SweepStatus { name, version, counts: StatusCounts::new() });
            }
            if let Some(sweep) = sweeps.last_mut() {
                sweep.counts.insert(state, count as u64);
            }
        }
        Ok(sweeps)
    }
}

/// Whether the mean loss of the last tenth of a training is at most 0.9 × that of its first window.
pub(in crate::store) fn has_converged(first: Option<f64>, last_losses: Option<f64>) -> Option<bool> {
    Some(last_losses? <= 0.9 * first?)
}

/// A score whose columns start at `first`: task, metric, value, standard error, documents.
pub(in crate::store) fn read_score(row: &SqliteRow, first: usize) -> Result<BoardScore, StoreError> {
    Ok(BoardScore {
        task: row.try_get(first)?,
        metric: read_metric(&row.try_get::<String, _>(first + 1)?)?,
        value: row.try_get::<Option<f64>, _>(first + 2)?.unwrap_or(f64::NAN),
        stderr: row.try_get(first + 3)?,
        documents: row.try_get::<i64, _>(first + 4)? as u64,
    })
}

pub(in crate::store) fn read_state(row: &SqliteRow, column: usize) -> Result<JobState, StoreError> {
    state_of(row.try_get(column)?)
}

pub(in crate::store) fn state_of(word: &str) -> Result<JobState, StoreError> {
    JobState::parse(word).ok_or_else(|| StoreError::Value { what: "a state", value: word.to_owned() })
}

pub(in crate::store) fn read_metric(name: &str) -> Result<Metric, StoreError> {
    Metric::named(name).ok_or_else(|| StoreError::Value { what: "a metric", value: name.to_owned() })
}

pub(in crate::store) fn read_json<T: serde::de::DeserializeOwned>(
    row: &SqliteRow,
    column: usize,
) -> Result<T, StoreError> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|_| StoreError::Value { what: "JSON", value: text.to_owned() })
}
