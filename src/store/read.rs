//! What the read commands need.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::StoreError;
use super::open::Store;
use crate::job::{JobId, JobState, Value};
use crate::plan::PlannedGroup;
use crate::task::{Aggregate, GroupValue, Metric, combine};

/// The newest version of a sweep with every job and score that it wants.
#[derive(Debug, Clone)]
pub struct Leaderboard {
    /// The sweep.
    pub sweep: String,
    /// The version.
    pub version: i64,
    /// Paths of its axes.
    pub axes: Vec<String>,
    /// Its tasks and groups of tasks, in the file's order.
    pub tasks: Vec<String>,
    /// The task and metric that rank it.
    pub objective: Option<(String, Metric)>,
    /// Its jobs, in the plan's order.
    pub jobs: Vec<BoardJob>,
}

/// A job of a leaderboard.
#[derive(Debug, Clone)]
pub struct BoardJob {
    /// Its identity.
    pub id: JobId,
    /// Whether it is the untrained model.
    pub is_base: bool,
    /// Whether another program scored it.
    pub imported: bool,
    /// `r=8 lr=1e-3`, or `base`.
    pub label: String,
    /// Where it stands.
    pub state: JobState,
    /// Why it failed or diverged.
    pub reason: Option<String>,
    /// Value of each axis and of the seed, by key path.
    pub settings: BTreeMap<String, Value>,
    /// Parameters of its adapter.
    pub trainable: u64,
    /// Seconds of training.
    pub seconds: Option<f64>,
    /// Loss of the first and of the last window.
    pub losses: Option<(f64, f64)>,
    /// Whether its loss fell by more than a tenth; none where it was not trained.
    pub converged: Option<bool>,
    /// The scores that are there.
    pub scores: Vec<BoardScore>,
}

impl BoardJob {
    /// Whether it is of the grid.
    pub fn is_cell(&self) -> bool {
        !self.is_base && !self.imported
    }
}

/// Everything that is stored of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredJob {
    /// Its identity.
    pub id: JobId,
    /// Whether it is an untrained model.
    pub is_base: bool,
    /// Where it stands.
    pub state: JobState,
    /// Why it failed or diverged.
    pub reason: Option<String>,
    /// Each resolved key with its value and where that came from.
    pub settings: BTreeMap<String, (Value, String)>,
    /// Parameters of its adapter.
    pub trainable: u64,
    /// Tries so far.
    pub attempts: u64,
    /// Compute dtype.
    pub dtype: String,
    /// Folder of its adapter.
    pub adapter: Option<String>,
    /// Why that is no longer on disk, if the program has removed it.
    pub adapter_removed: Option<String>,
    /// Optimizer steps.
    pub steps: Option<i64>,
    /// Tokens that went through the model.
    pub tokens: Option<i64>,
    /// Seconds of training.
    pub seconds: Option<f64>,
    /// Largest resident memory of the engine in bytes.
    pub peak_memory: Option<i64>,
    /// Loss of the first window.
    pub first_loss: Option<f64>,
    /// Loss of the last window.
    pub last_loss: Option<f64>,
    /// Whether its loss fell by more than a tenth; none where it was not trained.
    pub converged: Option<bool>,
    /// Loss on the rows that are kept for validation, after the last step.
    pub validation_loss: Option<f64>,
    /// Its scores.
    pub scores: Vec<BoardScore>,
}

/// A score of a leaderboard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoardScore {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// Its value.
    pub value: f64,
    /// Its standard error over documents.
    pub stderr: Option<f64>,
    /// Number of documents.
    pub documents: u64,
}

/// How many jobs are in each state.
pub type StatusCounts = BTreeMap<JobState, u64>;

/// Where a sweep stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepStatus {
    /// The sweep.
    pub name: String,
    /// Its newest version.
    pub version: i64,
    /// Jobs of that version by state.
    pub counts: StatusCounts,
}

impl Store {
    /// The sweep of this name, or the last one that was submitted. Errors: [`StoreError::NoSweep`],
    /// [`StoreError::Empty`].
    pub(super) async fn find_sweep(&self, name: Option<&str>) -> Result<(i64, i64, String), StoreError> {
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

    /// The job whose id starts with this text. Error: [`StoreError::NoJob`].
    pub async fn job(&self, prefix: &str) -> Result<StoredJob, StoreError> {
        let query = sqlx::query(
            "SELECT j.id, j.kind, j.state, j.reason, j.settings, j.trainable, j.attempt, j.dtype,
                    t.adapter, t.steps, t.tokens, t.seconds, t.peak_memory, t.first_loss, t.last_loss,
                    t.last_losses, t.validation_loss, t.adapter_removed
             FROM jobs j LEFT JOIN trainings t ON t.subject = j.subject WHERE substr(j.id, 1, length($1)) = $1",
        );
        let rows = query.bind(prefix).fetch_all(&self.pool).await?;
        let [row] = rows.as_slice() else {
            return Err(StoreError::NoJob { prefix: prefix.to_owned(), found: rows.len() });
        };
        let settings: BTreeMap<String, (Value, String)> = read_json(row, 4)?;
        let scores = sqlx::query(
            "SELECT c.task, c.metric, c.value, c.stderr, c.documents FROM scores c
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
            adapter: row.try_get(8)?,
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

    /// Where every sweep stands, the last submitted first.
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

    /// The leaderboard's content for a sweep, or for the last submitted one. Errors: no such sweep.
    pub async fn leaderboard(&self, name: Option<&str>) -> Result<Leaderboard, StoreError> {
        let (sweep, version, name) = self.find_sweep(name).await?;
        let select = sqlx::query(
            "SELECT axes, tasks, objective_task, objective_metric, task_groups FROM sweep_versions
             WHERE sweep_id = $1 AND version = $2",
        );
        let row = select.bind(sweep).bind(version).fetch_one(&self.pool).await?;
        let objective = match (row.try_get(2)?, row.try_get::<Option<String>, _>(3)?) {
            (Some(task), Some(metric)) => Some((task, read_metric(&metric)?)),
            _ => None,
        };
        Ok(Leaderboard {
            sweep: name,
            version,
            axes: read_json(&row, 0)?,
            tasks: read_json(&row, 1)?,
            objective,
            jobs: self.board_jobs(sweep, version, &read_json::<Vec<PlannedGroup>>(&row, 4)?).await?,
        })
    }

    async fn board_jobs(
        &self,
        sweep: i64,
        version: i64,
        groups: &[PlannedGroup],
    ) -> Result<Vec<BoardJob>, StoreError> {
        let query = sqlx::query(
            "SELECT j.id, j.kind, s.label, j.state, j.reason, j.settings, j.trainable, t.seconds,
                    t.first_loss, t.last_loss, t.last_losses
             FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id LEFT JOIN trainings t ON t.subject = j.subject
             WHERE s.sweep_id = $1 AND s.version = $2 ORDER BY s.position",
        );
        let rows = query.bind(sweep).bind(version).fetch_all(&self.pool).await?;
        let mut scores = self.board_scores(sweep, version).await?;
        scores.values_mut().for_each(|own| group_scores(groups, own));
        let mut jobs = rows
            .iter()
            .map(|row| read_board_job(row, &mut scores))
            .collect::<Result<Vec<_>, StoreError>>()?;
        jobs.extend(self.imported_jobs(sweep).await?);
        Ok(jobs)
    }

    async fn board_scores(
        &self,
        sweep: i64,
        version: i64,
    ) -> Result<BTreeMap<JobId, Vec<BoardScore>>, StoreError> {
        let query = sqlx::query(
            "SELECT w.job_id, c.task, c.metric, c.value, c.stderr, c.documents
             FROM wanted_scores w JOIN scores c ON c.score_key = w.score_key
             WHERE w.sweep_id = $1 AND w.version = $2 ORDER BY w.task_position, c.metric",
        );
        let mut scores: BTreeMap<JobId, Vec<BoardScore>> = BTreeMap::new();
        for row in query.bind(sweep).bind(version).fetch_all(&self.pool).await? {
            scores.entry(JobId::from_store(row.try_get(0)?)).or_default().push(read_score(&row, 1)?);
        }
        Ok(scores)
    }
}

/// Adds what groups of tasks come to, where every task of a group has a score.
fn group_scores(groups: &[PlannedGroup], scores: &mut Vec<BoardScore>) {
    for group in groups {
        for (metric, weighted) in &group.metrics {
            let of = |task: &String| {
                let found = scores.iter().find(|score| score.task == *task && score.metric == *metric)?;
                let BoardScore { value, stderr, documents, .. } = *found;
                Some(Aggregate { metric: *metric, value, stderr, documents })
            };
            let own: Vec<Aggregate> = group.tasks.iter().filter_map(of).collect();
            if own.len() < group.tasks.len() {
                continue;
            }
            if let Some(value) = combine(*metric, "none".to_owned(), &own, *weighted) {
                let GroupValue { metric, value, stderr, documents, .. } = value;
                scores.push(BoardScore { task: group.name.clone(), metric, value, stderr, documents });
            }
        }
    }
}

/// Whether the mean loss of the last tenth of a training is at most 0.9 × that of its first window.
fn has_converged(first: Option<f64>, last_losses: Option<f64>) -> Option<bool> {
    Some(last_losses? <= 0.9 * first?)
}

fn read_board_job(
    row: &SqliteRow,
    scores: &mut BTreeMap<JobId, Vec<BoardScore>>,
) -> Result<BoardJob, StoreError> {
    let id = JobId::from_store(row.try_get(0)?);
    let settings: BTreeMap<String, (Value, String)> = read_json(row, 5)?;
    let trainable: i64 = row.try_get(6)?;
    let losses: (Option<f64>, Option<f64>) = (row.try_get(8)?, row.try_get(9)?);
    let converged = has_converged(losses.0, row.try_get(10)?);
    Ok(BoardJob {
        is_base: row.try_get::<String, _>(1)? == "base",
        imported: false,
        label: row.try_get(2)?,
        state: read_state(row, 3)?,
        reason: row.try_get(4)?,
        settings: settings.into_iter().map(|(path, (value, _))| (path, value)).collect(),
        trainable: trainable as u64,
        seconds: row.try_get(7)?,
        converged,
        losses: losses.0.zip(losses.1),
        scores: scores.remove(&id).unwrap_or_default(),
        id,
    })
}

/// A score whose columns start at `first`: task, metric, value, standard error, documents.
pub(super) fn read_score(row: &SqliteRow, first: usize) -> Result<BoardScore, StoreError> {
    Ok(BoardScore {
        task: row.try_get(first)?,
        metric: read_metric(&row.try_get::<String, _>(first + 1)?)?,
        value: row.try_get(first + 2)?,
        stderr: row.try_get(first + 3)?,
        documents: row.try_get::<i64, _>(first + 4)? as u64,
    })
}

pub(super) fn read_state(row: &SqliteRow, column: usize) -> Result<JobState, StoreError> {
    let word: String = row.try_get(column)?;
    JobState::parse(&word).ok_or(StoreError::Value { what: "a state", value: word })
}

pub(super) fn read_metric(name: &str) -> Result<Metric, StoreError> {
    Metric::named(name).ok_or_else(|| StoreError::Value { what: "a metric", value: name.to_owned() })
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(
    row: &SqliteRow,
    column: usize,
) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|_| StoreError::Value { what: "JSON", value: text })
}
