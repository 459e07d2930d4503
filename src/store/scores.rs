//! The scores of a leaderboard: of every job or of some, of every metric or of one.

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row};

use super::board::{BoardScore, Leaderboard, places};
use super::error::StoreError;
use super::open::Store;
use super::read::read_json;
use super::sweeps::read_digest;
use crate::job::{Digest, JobId, ScoreKey};
use crate::plan::PlannedGroup;
use crate::task::{Aggregate, GroupValue, Metric, combine};

/// Scores that a sweep wants of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The job.
    pub job: JobId,
    /// What it trains.
    pub subject: Digest,
    /// The task.
    pub task: String,
    /// The key of its scores.
    pub key: ScoreKey,
}

/// Which scores are read.
#[derive(Debug, Clone, Copy)]
pub enum ScoresOf<'a> {
    /// Every one.
    All,
    /// Those of one task or group and metric.
    Metric(&'a str, Metric),
    /// Every one of some jobs, by their places in the board.
    Jobs(&'a [usize]),
}

impl Store {
    /// Reads scores into the jobs; what was read before stays as it is.
    pub async fn read_scores(&self, board: &mut Leaderboard, of: ScoresOf<'_>) -> Result<(), StoreError> {
        let (sweep, ..) = self.find_sweep(Some(&board.sweep)).await?;
        let query = sqlx::query(
            "SELECT position, task, metrics FROM sweep_tasks WHERE sweep_id = $1 AND version = $2 ORDER BY position",
        );
        let tasks = query.bind(sweep).bind(board.version).fetch_all(&self.pool).await?;
        let members = |task: &str| match of {
            ScoresOf::Metric(wanted, _) => {
                let group = board.groups.iter().find(|group| group.name == wanted);
                wanted == task || group.is_some_and(|group| group.tasks.iter().any(|own| own == task))
            }
            _ => true,
        };
        let mut found = Vec::new();
        for row in &tasks {
            let (position, task, metrics): (i64, String, Vec<Metric>) =
                (row.try_get(0)?, row.try_get(1)?, read_json(row, 2)?);
            for metric in metrics {
                let wanted = !matches!(of, ScoresOf::Metric(_, own) if own != metric);
                if wanted && members(&task) {
                    let ids = match of {
                        ScoresOf::Jobs(jobs) => {
                            Some(jobs.iter().map(|&at| board.jobs[at].id.as_str()).collect())
                        }
                        _ => None,
                    };
                    let lines =
                        self.scores_at((sweep, board.version, position), (&task, metric), ids).await?;
                    found.push((task.clone(), metric, lines));
                }
            }
        }
        let places = places(&board.jobs);
        let before: Vec<usize> = board.jobs.iter().map(|job| job.scores.len()).collect();
        for (task, metric, lines) in found {
            for (id, score) in lines.lines().filter_map(|line| read_line(line, &task, metric)) {
                let Some(&at) = places.get(id) else { continue };
                let known = &board.jobs[at].scores[..before[at]];
                if !known.iter().any(|own| own.metric == metric && own.task == task) {
                    board.jobs[at].scores.push(score);
                }
            }
        }
        let groups = std::mem::take(&mut board.groups);
        board.jobs.iter_mut().for_each(|job| group_scores(&groups, &mut job.scores));
        board.groups = groups;
        Ok(())
    }

    /// The scores that a board wants, there or not.
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

    /// The scores of the task at a place of a version, of some jobs or of all: a line for each with job, value, standard error and
    /// documents. One text crosses from SQLite's thread much faster than a hundred thousand rows of four values; 17 digits are
    /// enough for every double.
    async fn scores_at(
        &self,
        (sweep, version, position): (i64, i64, i64),
        (task, metric): (&str, Metric),
        jobs: Option<Vec<&str>>,
    ) -> Result<String, StoreError> {
        let mut query = QueryBuilder::new(
            "SELECT group_concat(
                 w.job_id || ' ' || iif(c.value IS NULL, 'NaN', printf('%!.17g', c.value)) || ' ' ||
                 iif(c.stderr IS NULL, '-', printf('%!.17g', c.stderr)) || ' ' || c.documents, char(10))
             FROM wanted_scores w CROSS JOIN task_scores c ON c.score_key = w.score_key AND c.task = ",
        );
        query.push_bind(task).push(" AND c.metric = ").push_bind(metric.as_str());
        query.push(" WHERE w.sweep_id = ").push_bind(sweep).push(" AND w.version = ").push_bind(version);
        query.push(" AND w.task_position = ").push_bind(position);
        if let Some(jobs) = jobs {
            let mut list = query.push(" AND w.job_id IN (").separated(", ");
            for job in jobs {
                list.push_bind(job);
            }
            query.push(")");
        }
        let row = query.build().fetch_one(&self.pool).await?;
        Ok(row.try_get::<Option<String>, _>(0)?.unwrap_or_default())
    }
}

/// A line of [`Store::scores_at`].
fn read_line<'a>(line: &'a str, task: &str, metric: Metric) -> Option<(&'a str, BoardScore)> {
    let mut words = line.split(' ');
    let (job, value, stderr) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok());
    let documents = words.next()?.parse().ok()?;
    Some((job, BoardScore { task: task.to_owned(), metric, value, stderr, documents }))
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
            let known = scores.iter().any(|score| score.task == group.name && score.metric == *metric);
            if known || own.len() < group.tasks.len() {
                continue;
            }
            if let Some(value) = combine(*metric, "none".to_owned(), &own, *weighted) {
                let GroupValue { metric, value, stderr, documents, .. } = value;
                scores.push(BoardScore { task: group.name.clone(), metric, value, stderr, documents });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::random::{Purpose, Stream};

    #[test]
    fn a_line_of_scores_reads_back_and_what_is_no_number_is_none() {
        let (job, score) = read_line("ab12 0.5 0.25 7", "t", Metric::Acc).unwrap();
        assert_eq!((job, score.value, score.stderr, score.documents), ("ab12", 0.5, Some(0.25), 7));
        let (_, score) = read_line("ab12 NaN - 7", "t", Metric::Acc).unwrap();
        assert!(score.value.is_nan() && score.stderr.is_none());
        assert!(read_line("ab12 0.5", "t", Metric::Acc).is_none());
    }

    #[tokio::test]
    async fn seventeen_digits_are_enough_for_every_double() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("a.db")).await.unwrap();
        let stream = Stream::new(1, Purpose::Test, 0);
        let bits = (0..20_000).map(|n| f64::from_bits(stream.bits(n))).filter(|value| value.is_finite());
        let parts = (0..20_000).map(|n| stream.uniform(n));
        let values: Vec<f64> = bits.chain(parts).collect();
        for chunk in values.chunks(500) {
            let mut query = QueryBuilder::new("SELECT group_concat(printf('%!.17g', column1), ' ') FROM (");
            query.push_values(chunk, |mut row, value| {
                row.push_bind(*value);
            });
            query.push(")");
            let row = query.build().fetch_one(&store.pool).await.unwrap();
            let read: Vec<f64> = row.get::<&str, _>(0).split(' ').map(|word| word.parse().unwrap()).collect();
            assert_eq!(read, chunk);
        }
    }
}
