//! The first rows of a large leaderboard, without reading the rest of it.

use sqlx::Row;

use super::board::Leaderboard;
use super::error::StoreError;
use super::open::Store;
use super::scores::ScoresOf;
use crate::job::JobId;
use crate::task::Metric;

impl Store {
    /// A sweep's leaderboard with only the jobs of its first `rows` rows by the objective, every score of theirs, and how many rows
    /// there are: in the order of [`crate::report::rank_cells`], with what counts as a number first. None where that order is not
    /// for the database: without an objective, or with one of a group, or with imported results beside it.
    pub async fn first_rows(
        &self,
        name: Option<&str>,
        rows: usize,
    ) -> Result<Option<(Leaderboard, usize)>, StoreError> {
        let (sweep, version, name) = self.find_sweep(name).await?;
        let Some((position, task, metric)) = self.objective_place(sweep, version).await? else {
            return Ok(None);
        };
        let order = if metric.higher_is_better() { "DESC" } else { "ASC" };
        // A cell is a JSON object, or the id of an untrained model.
        let query = format!(
            "SELECT group_concat(s.job_id, ' ') FROM sweep_jobs s
             LEFT JOIN wanted_scores w ON w.sweep_id = s.sweep_id AND w.version = s.version
                 AND w.task_position = $3 AND w.job_id = s.job_id
             LEFT JOIN task_scores c ON c.task = $4 AND c.metric = $5 AND c.score_key = w.score_key
                 AND abs(c.value) <= 1.7976931348623157e308
             WHERE s.sweep_id = $1 AND s.version = $2 GROUP BY s.cell
             ORDER BY substr(s.cell, 1, 1) = '{{', COUNT(c.value) = 0, COUNT(c.value) < COUNT(*),
                      AVG(c.value) {order}, MIN(s.position) LIMIT $6"
        );
        let query =
            sqlx::query(&query).bind(sweep).bind(version).bind(position).bind(&task).bind(metric.as_str());
        let mut ids = Vec::new();
        for row in query.bind(rows as i64).fetch_all(&self.pool).await? {
            let jobs: &str = row.try_get(0)?;
            ids.extend(jobs.split(' ').map(|id| JobId::from_store(id.to_owned())));
        }
        let count =
            sqlx::query("SELECT COUNT(DISTINCT cell) FROM sweep_jobs WHERE sweep_id = $1 AND version = $2");
        let all: i64 = count.bind(sweep).bind(version).fetch_one(&self.pool).await?.try_get(0)?;
        let mut board = self.board_of(Some(&name), Some(&ids)).await?;
        let places: Vec<usize> = (0..board.jobs.len()).collect();
        self.read_scores(&mut board, ScoresOf::Jobs(&places)).await?;
        Ok(Some((board, all as usize)))
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
