//! What a leaderboard is made of. Jobs and scores are read apart, so that a large sweep reads only what is shown.

use std::collections::{BTreeMap, HashMap};

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row};

use super::error::StoreError;
use super::open::Store;
use super::read::{has_converged, read_json, read_metric, read_state};
use crate::job::{JobId, JobState, Value};
use crate::plan::PlannedGroup;
use crate::task::Metric;

/// The newest version of a sweep with its jobs.
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
    /// What can be asked of it: tasks and groups with their metrics, the first metric first.
    pub metrics: Vec<(String, Vec<Metric>)>,
    /// The task and metric that rank it.
    pub objective: Option<(String, Metric)>,
    /// Those of the tasks that are groups.
    pub groups: Vec<PlannedGroup>,
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
    /// Identity of its model.
    pub model: String,
    /// Where it stands.
    pub state: JobState,
    /// Why it failed or diverged.
    pub reason: Option<String>,
    /// Values by key path: those of the axes, or every one where they were asked for.
    pub settings: BTreeMap<String, Value>,
    /// Parameters of its adapter.
    pub trainable: u64,
    /// Seconds of training.
    pub seconds: Option<f64>,
    /// What else is known of it.
    pub work: TrainingWork,
    /// Largest resident memory of the engine in bytes.
    pub peak_memory: Option<i64>,
    /// Loss of the first and of the last window.
    pub losses: Option<(f64, f64)>,
    /// Whether its loss fell by more than a tenth; none where it was not trained.
    pub converged: Option<bool>,
    /// The scores that were read.
    pub scores: Vec<BoardScore>,
}

/// What a training took and left.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TrainingWork {
    /// Optimizer steps.
    pub steps: Option<i64>,
    /// Tokens that went through the model.
    pub tokens: Option<i64>,
    /// Loss on the rows that are kept for validation, after the last step.
    pub validation_loss: Option<f64>,
}

impl BoardJob {
    /// Whether it is of the grid.
    pub fn is_cell(&self) -> bool {
        !self.is_base && !self.imported
    }

    /// Its score of a metric.
    pub fn score(&self, task: &str, metric: Metric) -> Option<&BoardScore> {
        self.scores.iter().find(|score| score.metric == metric && score.task == task)
    }
}

/// A score of a leaderboard.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct BoardScore {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// Its value; NaN where it is none.
    pub value: f64,
    /// Its standard error over documents.
    pub stderr: Option<f64>,
    /// Number of documents.
    pub documents: u64,
}

impl Store {
    /// A sweep, or the last submitted one, with its jobs: their settings are the values of its axes, and their scores are still to
    /// be read. Errors: no such sweep.
    pub async fn board(&self, name: Option<&str>) -> Result<Leaderboard, StoreError> {
        self.board_of(name, None).await
    }

    /// The same with only these jobs.
    pub(super) async fn board_of(
        &self,
        name: Option<&str>,
        jobs: Option<&[JobId]>,
    ) -> Result<Leaderboard, StoreError> {
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
        let groups: Vec<PlannedGroup> = read_json(&row, 4)?;
        let mut jobs = self.board_jobs(sweep, version, jobs).await?;
        jobs.extend(self.imported_jobs(sweep).await?);
        let tasks: Vec<String> = read_json(&row, 1)?;
        let metrics = self.board_metrics((sweep, version), &tasks, &groups, &jobs).await?;
        Ok(Leaderboard {
            sweep: name,
            version,
            axes: read_json(&row, 0)?,
            tasks,
            metrics,
            objective,
            groups,
            jobs,
        })
    }

    async fn board_jobs(
        &self,
        sweep: i64,
        version: i64,
        jobs: Option<&[JobId]>,
    ) -> Result<Vec<BoardJob>, StoreError> {
        let mut query = QueryBuilder::new(
            "SELECT j.id, j.kind, s.label, j.state, j.reason, s.axes, j.trainable, t.seconds,
                    t.first_loss, t.last_loss, t.last_losses, j.model_identity, t.peak_memory, t.steps, t.tokens,
                    t.validation_loss
             FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id LEFT JOIN trainings t ON t.subject = j.subject
             WHERE s.sweep_id = ",
        );
        query.push_bind(sweep).push(" AND s.version = ").push_bind(version);
        if let Some(jobs) = jobs {
            let mut list = query.push(" AND s.job_id IN (").separated(", ");
            for job in jobs {
                list.push_bind(job.as_str());
            }
            query.push(")");
        }
        query.push(" ORDER BY s.position");
        query.build().fetch_all(&self.pool).await?.iter().map(read_board_job).collect()
    }

    /// Tasks with their metrics: the shown ones first, then those within groups, then what only imported results have.
    async fn board_metrics(
        &self,
        (sweep, version): (i64, i64),
        shown: &[String],
        groups: &[PlannedGroup],
        jobs: &[BoardJob],
    ) -> Result<Vec<(String, Vec<Metric>)>, StoreError> {
        let query = sqlx::query(
            "SELECT task, metrics FROM sweep_tasks WHERE sweep_id = $1 AND version = $2 ORDER BY position",
        );
        let mut found: Vec<(String, Vec<Metric>)> = Vec::new();
        for row in query.bind(sweep).bind(version).fetch_all(&self.pool).await? {
            found.push((row.try_get(0)?, read_json(&row, 1)?));
        }
        found.extend(
            groups
                .iter()
                .map(|group| (group.name.clone(), group.metrics.iter().map(|(metric, _)| *metric).collect())),
        );
        for score in jobs.iter().filter(|job| job.imported).flat_map(|job| &job.scores) {
            match found.iter_mut().find(|(task, _)| *task == score.task) {
                Some((_, metrics)) if metrics.contains(&score.metric) => {}
                Some((_, metrics)) => metrics.push(score.metric),
                None => found.push((score.task.clone(), vec![score.metric])),
            }
        }
        let mut seen = std::collections::HashSet::new();
        found.retain(|(task, _)| seen.insert(task.clone()));
        let place = |task: &String| shown.iter().position(|own| own == task).unwrap_or(shown.len());
        found.sort_by_key(|(task, _)| place(task));
        Ok(found)
    }

    /// Reads every setting of the jobs.
    pub async fn read_settings(&self, board: &mut Leaderboard) -> Result<(), StoreError> {
        let (sweep, ..) = self.find_sweep(Some(&board.sweep)).await?;
        let query = sqlx::query(
            "SELECT s.job_id, j.settings FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id
             WHERE s.sweep_id = $1 AND s.version = $2",
        );
        let rows = query.bind(sweep).bind(board.version).fetch_all(&self.pool).await?;
        let places = places(&board.jobs);
        for row in &rows {
            // Where a value came from is passed over.
            let settings: BTreeMap<String, (Value, serde::de::IgnoredAny)> = read_json(row, 1)?;
            if let Some(&at) = places.get(row.try_get::<&str, _>(0)?) {
                board.jobs[at].settings =
                    settings.into_iter().map(|(path, (value, _))| (path, value)).collect();
            }
        }
        Ok(())
    }
}

/// Where each job is in a board.
pub(super) fn places(jobs: &[BoardJob]) -> HashMap<String, usize> {
    jobs.iter().enumerate().map(|(at, job)| (job.id.to_string(), at)).collect()
}

fn read_board_job(row: &SqliteRow) -> Result<BoardJob, StoreError> {
    let losses: (Option<f64>, Option<f64>) = (row.try_get(8)?, row.try_get(9)?);
    Ok(BoardJob {
        id: JobId::from_store(row.try_get(0)?),
        is_base: row.try_get::<&str, _>(1)? == "base",
        imported: false,
        label: row.try_get(2)?,
        model: row.try_get(11)?,
        state: read_state(row, 3)?,
        reason: row.try_get(4)?,
        settings: read_json(row, 5)?,
        trainable: row.try_get::<i64, _>(6)? as u64,
        seconds: row.try_get(7)?,
        work: TrainingWork {
            steps: row.try_get(13)?,
            tokens: row.try_get(14)?,
            validation_loss: row.try_get(15)?,
        },
        peak_memory: row.try_get(12)?,
        losses: losses.0.zip(losses.1),
        converged: has_converged(losses.0, row.try_get(10)?),
        scores: Vec::new(),
    })
}
