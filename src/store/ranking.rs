//! The first rows of a large leaderboard, without reading the rest of it.

use std::cmp::Ordering;

use rustc_hash::FxHashMap;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::board::Leaderboard;
use super::error::StoreError;
use super::open::Store;
use super::scores::{BOUND, LINE, ScoresOf, WORD};
use crate::job::JobId;
use crate::task::Metric;

impl Store {
    /// A sweep's leaderboard with only the jobs of its first `rows` rows by the objective, every score of theirs, and how many rows
    /// there are: in the order of [`crate::report::rank_cells`], with what counts as a number first. None where one task's scores do not
    /// say it: without an objective, or with one of a group, or with imported results
    /// beside it; or where these are more jobs than one statement names.
    pub async fn first_rows(
        &self,
        name: Option<&str>,
        rows: usize,
    ) -> Result<Option<(Leaderboard, usize)>, StoreError> {
        let (sweep, version, name) = self.find_sweep(name).await?;
        let Some((position, task, metric)) = self.objective_place(sweep, version).await? else {
            return Ok(None);
        };
        let cells = self.ranked_cells((sweep, version, position), (&task, metric)).await?;
        let all = cells.len();
        let ids: Vec<JobId> = cells.into_iter().take(rows).flat_map(|cell| cell.jobs).collect();
        if ids.len() > BOUND {
            return Ok(None);
        }
        let mut board = self.board_of(Some(&name), Some(&ids)).await?;
        let places: Vec<usize> = (0..board.jobs.len()).collect();
        self.read_scores(&mut board, ScoresOf::Jobs(&places)).await?;
        Ok(Some((board, all)))
    }

    /// The rows of a version, the first one first. Jobs, their score keys and the scores are read one after the other in the order in
    /// which they lie on disk, and brought together here: looked up by each other they would be twenty thousand jumps.
    async fn ranked_cells(
        &self,
        (sweep, version, position): (i64, i64, i64),
        (task, metric): (&str, Metric),
    ) -> Result<Vec<RankedCell>, StoreError> {
        let jobs = sqlx::query(
            "SELECT group_concat(job_id || char(31) || position || char(31) || cell, char(30)) FROM sweep_jobs
             WHERE sweep_id = $1 AND version = $2",
        );
        let jobs = text_of(jobs.bind(sweep).bind(version).fetch_one(&self.pool).await?)?;
        let wanted = sqlx::query(
            "SELECT group_concat(job_id || char(31) || score_key, char(30)) FROM wanted_scores
             WHERE sweep_id = $1 AND version = $2 AND task_position = $3",
        );
        let wanted = text_of(wanted.bind(sweep).bind(version).bind(position).fetch_one(&self.pool).await?)?;
        let scores = sqlx::query(
            "SELECT group_concat(score_key || char(31) || printf('%!.17g', value), char(30)) FROM task_scores
             WHERE task = $1 AND metric = $2 AND value IS NOT NULL",
        );
        let scores = text_of(scores.bind(task).bind(metric.as_str()).fetch_one(&self.pool).await?)?;
        let values: FxHashMap<&str, f64> =
            lines(&scores).filter_map(|(key, value)| Some((key, value.parse().ok()?))).collect();
        let values: FxHashMap<&str, f64> = lines(&wanted)
            .filter_map(|(job, key)| Some((job, *values.get(key).filter(|value| value.is_finite())?)))
            .collect();
        let mut places: FxHashMap<&str, usize> = FxHashMap::default();
        let mut cells: Vec<RankedCell> = Vec::new();
        for (job, rest) in lines(&jobs) {
            let Some((position, cell)) = rest.split_once(WORD) else { continue };
            let at = *places.entry(cell).or_insert(cells.len());
            if at == cells.len() {
                cells.push(RankedCell { is_base: !cell.starts_with('{'), ..RankedCell::default() });
            }
            let own = &mut cells[at];
            own.jobs.push(JobId::from_store(job.to_owned()));
            own.values.extend(values.get(job));
            let position = position.parse().unwrap_or(u64::MAX);
            own.position = if own.jobs.len() == 1 { position } else { own.position.min(position) };
        }
        cells.sort_by(|a, b| a.order(b, metric.higher_is_better()));
        Ok(cells)
    }

    /// The one place of the objective's task among a version's tasks.
    async fn objective_place(
        &self,
        sweep: i64,
        version: i64,
    ) -> Result<Option<(i64, String, Metric)>, StoreError> {
        let query = sqlx::query(
            "SELECT t.position, t.task, v.objective_metric, COUNT(*) OVER () FROM sweep_versions v
             JOIN sweep_tasks t ON t.sweep_id = v.sweep_id AND t.version = v.version AND t.task = v.objective_task
             WHERE v.sweep_id = $1 AND v.version = $2 AND v.objective_metric IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM imports i WHERE i.sweep_id = v.sweep_id)",
        );
        let Some(row) = query.bind(sweep).bind(version).fetch_optional(&self.pool).await? else {
            return Ok(None);
        };
        let metric = super::read::read_metric(row.try_get(2)?)?;
        Ok((row.try_get::<i64, _>(3)? == 1).then_some((row.try_get(0)?, row.try_get(1)?, metric)))
    }
}

/// The jobs of a row.
#[derive(Debug, Default)]
struct RankedCell {
    jobs: Vec<JobId>,
    /// An untrained model, which is a row alone.
    is_base: bool,
    /// The finite scores of its jobs.
    values: Vec<f64>,
    /// Place of its first job in the plan.
    position: u64,
}

impl RankedCell {
    fn order(&self, other: &Self, higher_is_better: bool) -> Ordering {
        let lacks = |own: &Self| (own.values.is_empty(), own.values.len() < own.jobs.len());
        let value = |own: &Self| mean(&own.values).unwrap_or_default();
        let by_value = value(self).total_cmp(&value(other));
        other
            .is_base
            .cmp(&self.is_base)
            .then(lacks(self).cmp(&lacks(other)))
            .then(if higher_is_better { by_value.reverse() } else { by_value })
            .then(self.position.cmp(&other.position))
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn text_of(row: SqliteRow) -> Result<String, StoreError> {
    Ok(row.try_get::<Option<String>, _>(0)?.unwrap_or_default())
}

/// Lines of a first word and what follows it.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(LINE).filter_map(|line| line.split_once(WORD))
}
