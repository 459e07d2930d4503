//! The scores of a leaderboard: of all jobs or some, of all metrics or one.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::job::{Digest, JobId, ScoreKey};
use crate::plan::PlannedGroup;
use crate::store::boards::board::{BoardScore, Leaderboard, places};
use crate::store::boards::job_details::read_json;
use crate::store::boards::scan::{Bound, Line};
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::store::queue::read_digest;
use crate::task::{Aggregate, GroupValue, Metric, combine};

/// Scores that a sweep wants of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The job.
    pub job: JobId,
    /// The subject it trains.
    pub subject: Digest,
    /// The task.
    pub task: String,
    /// The key of its scores.
    pub key: ScoreKey,
}

/// Which scores are read: all, or those of some tasks or groups and metrics, of all jobs or of those at some positions in the board.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScoresOf<'a> {
    /// The metrics; none: all.
    pub metrics: Option<&'a [(String, Metric)]>,
    /// The jobs; none: all.
    pub jobs: Option<&'a [usize]>,
}

impl Store {
    /// A sweep, or the last submitted one, with every setting and score. Errors: no such sweep.
    pub async fn leaderboard(&self, name: Option<&str>) -> Result<Leaderboard, StoreError> {
        let mut board = self.board(name).await?;
        self.read_settings(&mut board, None).await?;
        self.read_scores(&mut board, ScoresOf::default()).await?;
        Ok(board)
    }

    /// Reads scores into the jobs; scores read before are kept.
    pub async fn read_scores(&self, board: &mut Leaderboard, of: ScoresOf<'_>) -> Result<(), StoreError> {
        let (sweep, ..) = self.find_sweep(Some(&board.sweep)).await?;
        let version = (sweep, board.version);
        let before: Vec<usize> = board.jobs.iter().map(|job| job.scores.len()).collect();
        let columns = self.score_columns(version, board, of).await?;
        let places = places(&board.jobs);
        let ids: Option<Vec<String>> =
            of.jobs.map(|jobs| jobs.iter().map(|&at| board.jobs[at].id.to_string()).collect());
        let mut take = |at: usize, score: BoardScore| {
            let known = &board.jobs[at].scores[..before[at]];
            if !known.iter().any(|other| other.metric == score.metric && other.task == score.task) {
                board.jobs[at].scores.push(score);
            }
        };
        let place = |job: &str| places.get(job).copied();
        match &ids {
            None => self.scan_columns(version, &columns, place, &mut take).await?,
            Some(ids) => {
                for column in &columns {
                    for chunk in ids.chunks(BOUND) {
                        self.look_up(version, column, Some(chunk), place, &mut take).await?;
                    }
                }
            }
        }
        let groups = std::mem::take(&mut board.groups);
        board.jobs.iter_mut().for_each(|job| group_scores(&groups, &mut job.scores));
        board.groups = groups;
        Ok(())
    }

    /// The positions of a version's tasks, with each requested metric.
    async fn score_columns(
        &self,
        (sweep, version): (i64, i64),
        board: &Leaderboard,
        of: ScoresOf<'_>,
    ) -> Result<Vec<ScoreColumn>, StoreError> {
        let query = sqlx::query(
            "SELECT position, task, metrics FROM sweep_tasks WHERE sweep_id = $1 AND version = $2 ORDER BY position",
        );
        // A group's metric is computed from that of its tasks.
        let stands_for = |wanted: &str, task: &str| {
            let group = board.groups.iter().find(|group| group.name == wanted);
            wanted == task || group.is_some_and(|group| group.tasks.iter().any(|member| member == task))
        };
        let is_wanted = |task: &str, metric: Metric| match of.metrics {
            Some(metrics) => metrics
                .iter()
                .any(|(wanted, wanted_metric)| *wanted_metric == metric && stands_for(wanted, task)),
            None => true,
        };
        let mut found = Vec::new();
        for row in query.bind(sweep).bind(version).fetch_all(&self.pool).await? {
            let (position, task, metrics): (i64, String, Vec<Metric>) =
                (row.try_get(0)?, row.try_get(1)?, read_json(&row, 2)?);
            let wanted = metrics.into_iter().filter(|metric| is_wanted(&task, *metric));
            found.extend(wanted.map(|metric| ScoreColumn { position, task: task.clone(), metric }));
        }
        Ok(found)
    }

    /// The scores that a board wants, computed or not.
    pub async fn wanted(&self, board: &Leaderboard) -> Result<Vec<Wanted>, StoreError> {
        let (sweep, ..) = self.find_sweep(Some(&board.sweep)).await?;
        let query = sqlx::query(
            "SELECT w.job_id, j.subject, t.task, w.score_key FROM sweep_jobs s
             JOIN sweep_tasks t ON t.sweep_id = s.sweep_id AND t.version = s.version
             JOIN wanted_scores w ON w.sweep_id = s.sweep_id AND w.version = s.version
                 AND w.task_position = t.position AND w.job_id = s.job_id
             JOIN jobs j ON j.id = s.job_id
             WHERE s.sweep_id = $1 AND s.version = $2 ORDER BY s.position, t.position",
        );
        let rows = query.bind(sweep).bind(board.version).fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            Ok(Wanted {
                job: JobId::from_store(row.try_get(0)?),
                subject: read_digest(row, 1)?,
                task: row.try_get(2)?,
                key: ScoreKey(read_digest(row, 3)?),
            })
        };
        rows.iter().map(read).collect()
    }

    /// Calls `take` with each score that a version wants in some columns, one column after the other, with the number that `place`
    /// returns for its job. A sweep that holds a large fraction of the database reads all scores of a task in their order on disk and
    /// picks its own; a small sweep looks its scores up.
    pub(in crate::store) async fn scan_columns(
        &self,
        version: (i64, i64),
        columns: &[ScoreColumn],
        place: impl Fn(&str) -> Option<usize>,
        mut take: impl FnMut(usize, BoardScore),
    ) -> Result<(), StoreError> {
        let is_large = self.is_large(version).await?;
        let mut last: Option<(i64, Vec<WantedKey>)> = None;
        for column in columns {
            if !is_large {
                self.look_up(version, column, None, &place, &mut take).await?;
                continue;
            }
            let wanted = match last.take() {
                Some((position, wanted)) if position == column.position => wanted,
                _ => self.wanted_keys(version, column.position, &place).await?,
            };
            self.pick(column, &wanted, &mut take).await?;
            last = Some((column.position, wanted));
        }
        Ok(())
    }

    /// Whether a version holds a large fraction of all jobs.
    async fn is_large(&self, (sweep, version): (i64, i64)) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM sweep_jobs WHERE sweep_id = $1 AND version = $2),
                    (SELECT COUNT(*) FROM jobs)",
        );
        let row = query.bind(sweep).bind(version).fetch_one(&self.pool).await?;
        Ok(row.try_get::<i64, _>(0)? * PART >= row.try_get::<i64, _>(1)?)
    }

    /// The keys of the scores that a version wants of the task at a position, sorted, with the numbers of their jobs.
    async fn wanted_keys(
        &self,
        (sweep, version): (i64, i64),
        position: i64,
        place: impl Fn(&str) -> Option<usize>,
    ) -> Result<Vec<WantedKey>, StoreError> {
        let sql = "SELECT job_id, score_key FROM wanted_scores
                   WHERE sweep_id = ?1 AND version = ?2 AND task_position = ?3";
        let mut wanted = Vec::new();
        self.scan(sql, &[sweep, version, position].map(Bound::Integer), |line| {
            if let Some(at) = place(line.text(0)?) {
                wanted.push((line.text(1)?.to_owned(), at));
            }
            Ok(())
        })
        .await?;
        wanted.sort_unstable();
        Ok(wanted)
    }

    /// Scans all scores of a task and metric in key order, merged with the wanted keys.
    async fn pick(
        &self,
        column: &ScoreColumn,
        wanted: &[WantedKey],
        mut take: impl FnMut(usize, BoardScore),
    ) -> Result<(), StoreError> {
        let sql = "SELECT value, stderr, documents, score_key FROM task_scores
                   WHERE task = ?1 AND metric = ?2 ORDER BY score_key";
        let mut rest = wanted;
        self.scan(sql, &[Bound::Text(&column.task), Bound::Text(column.metric.as_str())], |line| {
            let key = line.text(3)?;
            while let Some(((wanted_key, at), others)) =
                rest.split_first().filter(|(first, _)| first.0.as_str() <= key)
            {
                if *wanted_key == key {
                    take(*at, column.score(line)?);
                }
                rest = others;
            }
            Ok(())
        })
        .await
    }

    /// The scores of a column that a version wants, of all its jobs or of some, each looked up by key.
    async fn look_up(
        &self,
        (sweep, version): (i64, i64),
        column: &ScoreColumn,
        jobs: Option<&[String]>,
        place: impl Fn(&str) -> Option<usize>,
        mut take: impl FnMut(usize, BoardScore),
    ) -> Result<(), StoreError> {
        let mut bound = vec![
            Bound::Integer(sweep),
            Bound::Integer(version),
            Bound::Integer(column.position),
            Bound::Text(&column.task),
            Bound::Text(column.metric.as_str()),
        ];
        let named = match jobs {
            None => String::new(),
            Some(jobs) => {
                let places = (0..jobs.len()).map(|at| format!("?{}", bound.len() + at + 1));
                let places: Vec<String> = places.collect();
                bound.extend(jobs.iter().map(|job| Bound::Text(job)));
                format!("AND w.job_id IN ({})", places.join(", "))
            }
        };
        let sql = format!(
            "SELECT c.value, c.stderr, c.documents, w.job_id FROM wanted_scores w
             CROSS JOIN task_scores c ON c.task = ?4 AND c.metric = ?5 AND c.score_key = w.score_key
             WHERE w.sweep_id = ?1 AND w.version = ?2 AND w.task_position = ?3 {named}"
        );
        self.scan(&sql, &bound, |line| {
            if let Some(at) = place(line.text(3)?) {
                take(at, column.score(line)?);
            }
            Ok(())
        })
        .await
    }
}

/// Most jobs that one statement names: SQLite takes 32,766 parameters.
pub(in crate::store) const BOUND: usize = 10_000;
/// A sweep with at least 1/`PART` of all jobs is read sequentially: that costs about a tenth of a lookup per score.
const PART: i64 = 8;

/// A score's key as a string, and the number of the job that wants it.
type WantedKey = (String, usize);

/// A metric of the task at a position of a version.
#[derive(Debug)]
pub(in crate::store) struct ScoreColumn {
    pub(in crate::store) position: i64,
    pub(in crate::store) task: String,
    pub(in crate::store) metric: Metric,
}

impl ScoreColumn {
    /// The score whose value, standard error and documents are the first columns of a row.
    fn score(&self, line: &Line<'_>) -> Result<BoardScore, StoreError> {
        Ok(BoardScore {
            task: self.task.clone(),
            metric: self.metric,
            value: line.maybe_real(0)?.unwrap_or(f64::NAN),
            stderr: line.maybe_real(1)?,
            documents: line.integer(2)? as u64,
        })
    }
}

/// Adds the scores of groups in which every task has a score.
fn group_scores(groups: &[PlannedGroup], scores: &mut Vec<BoardScore>) {
    for group in groups {
        for (metric, weighted) in &group.metrics {
            let of = |task: &String| {
                let found = scores.iter().find(|score| score.task == *task && score.metric == *metric)?;
                let BoardScore { value, stderr, documents, .. } = *found;
                Some(Aggregate { metric: *metric, value, stderr, documents })
            };
            let aggregates: Vec<Aggregate> = group.tasks.iter().filter_map(of).collect();
            let known = scores.iter().any(|score| score.task == group.name && score.metric == *metric);
            if known || aggregates.len() < group.tasks.len() {
                continue;
            }
            if let Some(value) = combine(*metric, "none".to_owned(), &aggregates, *weighted) {
                let GroupValue { metric, value, stderr, documents, .. } = value;
                scores.push(BoardScore { task: group.name.clone(), metric, value, stderr, documents });
            }
        }
    }
}
