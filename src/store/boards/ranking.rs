//! The first rows of a large leaderboard, without reading the rest of it.

use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::Row;

use crate::job::{CellKey, CellRank, JobId};
use crate::store::boards::board::Leaderboard;
use crate::store::boards::scan::Bound;
use crate::store::boards::scores::{BOUND, ScoreColumn, ScoresOf};
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::task::Metric;

/// The first rows of a leaderboard.
#[derive(Debug)]
pub struct FirstRows {
    /// The board with only their jobs.
    pub board: Leaderboard,
    /// Number of rows in total.
    pub all: usize,
    /// Number of rows that compete for the best: grid cells in which every seed has a ranked score.
    pub competing: usize,
}

impl Store {
    /// A sweep's leaderboard with only the jobs of its first `rows` rows by the objective, their scores of these metrics, and the numbers
    /// of all and of competing rows, in the order of [`CellRank`]. None if the scores of one task do not determine it (no objective, a
    /// group as the objective, or imported results), or if there are more jobs than one statement can name.
    pub async fn first_rows(
        &self,
        name: Option<&str>,
        rows: usize,
        metrics: impl FnOnce(&Leaderboard) -> Vec<(String, Metric)>,
    ) -> Result<Option<FirstRows>, StoreError> {
        let (sweep, version, name) = self.find_sweep(name).await?;
        let Some(objective) = self.objective_column(sweep, version).await? else {
            return Ok(None);
        };
        let cells = self.ranked_cells((sweep, version), objective).await?;
        let all = cells.len();
        let competing = cells.iter().filter(|(rank, _)| rank.competes()).count();
        let ids: Vec<JobId> = cells.into_iter().take(rows).flat_map(|(_, cell)| cell.jobs).collect();
        if ids.len() > BOUND {
            return Ok(None);
        }
        let mut board = self.board_of(Some(&name), Some(&ids)).await?;
        let (places, metrics): (Vec<usize>, _) = ((0..board.jobs.len()).collect(), metrics(&board));
        let of = ScoresOf { metrics: Some(&metrics), jobs: Some(&places) };
        self.read_scores(&mut board, of).await?;
        Ok(Some(FirstRows { board, all, competing }))
    }

    /// The rows of a version, best first.
    async fn ranked_cells(
        &self,
        version: (i64, i64),
        objective: ScoreColumn,
    ) -> Result<Vec<(CellRank, RankedCell)>, StoreError> {
        // In the order of the cells, so that the jobs of a cell are adjacent.
        let jobs = "SELECT cell, job_id, position FROM sweep_jobs WHERE sweep_id = ?1 AND version = ?2 ORDER BY cell";
        let (mut cells, mut last): (Vec<RankedCell>, String) = (Vec::new(), String::new());
        let mut places: FxHashMap<String, usize> = FxHashMap::default();
        // The cell of each job and its position in the plan.
        let mut owners: Vec<(usize, i64)> = Vec::new();
        self.scan(jobs, &[version.0, version.1].map(Bound::Integer), |line| {
            let (cell, job, position) = (line.text(0)?, line.text(1)?, line.integer(2)?);
            if cells.is_empty() || cell != last {
                cell.clone_into(&mut last);
                cells.push(RankedCell {
                    is_base: !CellKey::is_of_grid(cell),
                    position,
                    ..RankedCell::default()
                });
            }
            let at = cells.len() - 1;
            places.insert(job.to_owned(), owners.len());
            owners.push((at, position));
            cells[at].position = cells[at].position.min(position);
            cells[at].jobs.push(JobId::from_store(job.to_owned()));
            Ok(())
        })
        .await?;
        let higher_is_better = objective.metric.higher_is_better();
        // Same rule as `BoardJob::ranked_score`.
        let diverged = "SELECT s.job_id, s.position FROM sweep_jobs s JOIN jobs j ON j.id = s.job_id
             WHERE s.sweep_id = ?1 AND s.version = ?2 AND j.state = 'diverged'";
        let mut unranked = FxHashSet::default();
        self.scan(diverged, &[version.0, version.1].map(Bound::Integer), |line| {
            unranked.extend(places.get(line.text(0)?).copied());
            Ok(())
        })
        .await?;
        let place = |job: &str| places.get(job).copied();
        self.scan_columns(version, &[objective], place, |job, score| {
            let (cell, position) = owners[job];
            if score.value.is_finite() && !unranked.contains(&job) {
                cells[cell].values.push((position, score.value));
            }
        })
        .await?;
        // Summed in the plan's order, as the leaderboard does: another order changes the last digits.
        cells.iter_mut().for_each(|cell| cell.values.sort_by_key(|(position, _)| *position));
        let mut ranked: Vec<(CellRank, RankedCell)> =
            cells.into_iter().map(|cell| (cell.rank(higher_is_better), cell)).collect();
        ranked.sort_by(|(a, left), (b, right)| a.compare(b).then(left.position.cmp(&right.position)));
        Ok(ranked)
    }

    /// The position of the objective's task among a version's tasks, if there is exactly one.
    async fn objective_column(&self, sweep: i64, version: i64) -> Result<Option<ScoreColumn>, StoreError> {
        let query = sqlx::query(
            "SELECT t.position, t.task, v.objective_metric, COUNT(*) OVER () FROM sweep_versions v
             JOIN sweep_tasks t ON t.sweep_id = v.sweep_id AND t.version = v.version AND t.task = v.objective_task
             WHERE v.sweep_id = $1 AND v.version = $2 AND v.objective_metric IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM imports i WHERE i.sweep_id = v.sweep_id)",
        );
        let Some(row) = query.bind(sweep).bind(version).fetch_optional(&self.pool).await? else {
            return Ok(None);
        };
        let metric = crate::store::boards::job_details::read_metric(row.try_get(2)?)?;
        let column = ScoreColumn { position: row.try_get(0)?, task: row.try_get(1)?, metric };
        Ok((row.try_get::<i64, _>(3)? == 1).then_some(column))
    }
}

/// The jobs of a row.
#[derive(Debug, Default)]
struct RankedCell {
    jobs: Vec<JobId>,
    /// An untrained model, which has its own row.
    is_base: bool,
    /// The finite scores of its jobs, with the jobs' positions in the plan.
    values: Vec<(i64, f64)>,
    /// Position of its first job in the plan.
    position: i64,
}

impl RankedCell {
    fn rank(&self, higher_is_better: bool) -> CellRank {
        let values: Vec<f64> = self.values.iter().map(|(_, value)| *value).collect();
        CellRank::new(self.is_base, self.jobs.len(), &values, higher_is_better)
    }
}
