//! The contents of a leaderboard. Jobs and scores are read separately, so that a large sweep reads only what is shown.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use sqlx::Row;

use crate::job::{JobId, JobState, Value, canonical_path};
use crate::plan::PlannedGroup;
use crate::store::boards::job_details::{has_converged, read_json, read_metric, state_of};
use crate::store::boards::scan::{Bound, Line};
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::task::Metric;

/// The newest version of a sweep with its jobs.
#[derive(Debug, Clone, Default)]
pub struct Leaderboard {
    /// The sweep.
    pub sweep: String,
    /// The version.
    pub version: i64,
    /// Key paths of its axes.
    pub axes: Vec<String>,
    /// Its tasks and groups of tasks, in the file's order.
    pub tasks: Vec<String>,
    /// Metrics that can be shown: tasks and groups with their metrics, the first metric first.
    pub metrics: Vec<(String, Vec<Metric>)>,
    /// The task and metric that rank it.
    pub objective: Option<(String, Metric)>,
    /// The tasks that are groups.
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
    /// Compute dtype.
    pub dtype: String,
    /// Its state.
    pub state: JobState,
    /// Why it failed or diverged.
    pub reason: Option<String>,
    /// Values by key path: those of the axes, or all if they were read.
    pub settings: BTreeMap<String, Value>,
    /// Parameters of its adapter.
    pub trainable: u64,
    /// Seconds of training.
    pub seconds: Option<f64>,
    /// Further measurements of its training.
    pub work: TrainingWork,
    /// Largest resident memory of the engine in bytes.
    pub peak_memory: Option<i64>,
    /// Loss of the first and of the last window.
    pub losses: Option<(f64, f64)>,
    /// Whether its loss fell by more than a tenth; none if it was not trained.
    pub converged: Option<bool>,
    /// The scores that were read.
    pub scores: Vec<BoardScore>,
}

/// Measurements of a training.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TrainingWork {
    /// Optimizer steps.
    pub steps: Option<i64>,
    /// Tokens processed by the model.
    pub tokens: Option<i64>,
    /// Validation loss after the last step.
    pub validation_loss: Option<f64>,
}

impl BoardJob {
    /// Whether it belongs to the grid.
    pub fn is_cell(&self) -> bool {
        !self.is_base && !self.imported
    }

    /// Its score of a metric, if it may be ranked: a training that diverged may have scored well by luck.
    pub fn ranked_score(&self, task: &str, metric: Metric) -> Option<&BoardScore> {
        self.score(task, metric).filter(|score| score.value.is_finite() && self.state != JobState::Diverged)
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
    /// Its value; NaN if there is none.
    pub value: f64,
    /// Its standard error over documents.
    pub stderr: Option<f64>,
    /// Number of documents.
    pub documents: u64,
}

impl Store {
    /// A sweep, or the last submitted one, with its jobs: settings hold the values of its axes; scores are not read yet. Errors: no such
    /// sweep.
    pub async fn board(&self, name: Option<&str>) -> Result<Leaderboard, StoreError> {
        self.board_of(name, None).await
    }

    /// The same with only these jobs.
    pub(in crate::store) async fn board_of(
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
            // Databases of earlier releases use earlier spellings.
            axes: read_json::<Vec<String>>(&row, 0)?
                .iter()
                .map(|path| canonical_path(path).to_owned())
                .collect(),
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
        let (mut named, mut bound) = (String::new(), vec![Bound::Integer(sweep), Bound::Integer(version)]);
        if let Some(jobs) = jobs {
            let places: Vec<String> = (0..jobs.len()).map(|at| format!("?{}", at + 3)).collect();
            named = format!("AND s.job_id IN ({})", places.join(", "));
            bound.extend(jobs.iter().map(|job| Bound::Text(job.as_str())));
        }
        let sql = format!(
            "SELECT j.id, j.kind, s.label, j.state, j.reason, s.axes, j.trainable, t.seconds,
                    t.first_loss, t.last_loss, t.last_losses, j.model_identity, t.peak_memory, t.steps, t.tokens,
                    t.validation_loss, j.dtype
             FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id LEFT JOIN trainings t ON t.subject = j.subject
             WHERE s.sweep_id = ?1 AND s.version = ?2 {named} ORDER BY s.position"
        );
        let mut found = Vec::new();
        self.scan(&sql, &bound, |line| {
            found.push(read_board_job(line)?);
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Tasks with their metrics: the shown ones first, then those within groups, then those that only imported results have.
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
        let place = |task: &String| shown.iter().position(|name| name == task).unwrap_or(shown.len());
        found.sort_by_key(|(task, _)| place(task));
        Ok(found)
    }

    /// Reads all settings of the jobs, or those of some keys in addition to the axes.
    pub async fn read_settings(
        &self,
        board: &mut Leaderboard,
        keys: Option<&[&str]>,
    ) -> Result<(), StoreError> {
        let (sweep, ..) = self.find_sweep(Some(&board.sweep)).await?;
        let sql = "SELECT s.job_id, j.settings FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id
                   WHERE s.sweep_id = ?1 AND s.version = ?2";
        let places = places(&board.jobs);
        self.scan(sql, &[sweep, board.version].map(Bound::Integer), |line| {
            let Some(&at) = places.get(line.text(0)?) else { return Ok(()) };
            let text = line.text(1)?;
            let settings = settings_of(text, keys);
            let settings =
                settings.map_err(|_| StoreError::Value { what: "settings", value: text.to_owned() })?;
            match keys {
                None => board.jobs[at].settings = settings,
                Some(_) => board.jobs[at].settings.extend(settings),
            }
            Ok(())
        })
        .await
    }
}

/// The values of stored settings, without their origin; of all keys or of some. Keys that are not requested are skipped without being
/// deserialized.
fn settings_of(text: &str, keys: Option<&[&str]>) -> Result<BTreeMap<String, Value>, serde_json::Error> {
    struct Wanted<'a>(Option<&'a [&'a str]>);
    impl<'de> Visitor<'de> for Wanted<'_> {
        type Value = BTreeMap<String, Value>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("settings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = BTreeMap::new();
            while let Some(path) = map.next_key::<Cow<'de, str>>()? {
                let path = canonical_path(&path);
                if self.0.is_none_or(|keys| keys.contains(&path)) {
                    let (value, _) = map.next_value::<(Value, IgnoredAny)>()?;
                    found.insert(path.to_owned(), value);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Wanted(keys))
}

/// The position of each job in a board.
pub(in crate::store) fn places(jobs: &[BoardJob]) -> HashMap<String, usize> {
    jobs.iter().enumerate().map(|(at, job)| (job.id.to_string(), at)).collect()
}

fn read_board_job(line: &Line<'_>) -> Result<BoardJob, StoreError> {
    let (first, last) = (line.maybe_real(8)?, line.maybe_real(9)?);
    Ok(BoardJob {
        id: JobId::from_store(line.text(0)?.to_owned()),
        is_base: line.text(1)? == "base",
        imported: false,
        label: line.text(2)?.to_owned(),
        model: line.text(11)?.to_owned(),
        dtype: line.text(16)?.to_owned(),
        state: state_of(line.text(3)?)?,
        reason: line.maybe_text(4)?.map(str::to_owned),
        settings: line
            .json::<BTreeMap<String, Value>>(5)?
            .into_iter()
            .map(|(path, value)| (canonical_path(&path).to_owned(), value))
            .collect(),
        trainable: line.integer(6)? as u64,
        seconds: line.maybe_real(7)?,
        work: TrainingWork {
            steps: line.maybe_integer(13)?,
            tokens: line.maybe_integer(14)?,
            validation_loss: line.maybe_real(15)?,
        },
        peak_memory: line.maybe_integer(12)?,
        losses: first.zip(last),
        converged: has_converged(first, line.maybe_real(10)?),
        scores: Vec::new(),
    })
}
