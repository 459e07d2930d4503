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
    /// A sweep, or the last submitted one, with every setting and score. Errors: no such sweep.
    pub async fn leaderboard(&self, name: Option<&str>) -> Result<Leaderboard, StoreError> {
        let mut board = self.board(name).await?;
        self.read_settings(&mut board).await?;
        self.read_scores(&mut board, ScoresOf::All).await?;
        Ok(board)
    }

    /// Reads scores into the jobs; what was read before stays as it is.
    pub async fn read_scores(&self, board: &mut Leaderboard, of: ScoresOf<'_>) -> Result<(), StoreError> {
        let (sweep, ..) = self.find_sweep(Some(&board.sweep)).await?;
        let version = (sweep, board.version);
        let before: Vec<usize> = board.jobs.iter().map(|job| job.scores.len()).collect();
        let places = places(&board.jobs);
        let take = |lines: String, board: &mut Leaderboard| {
            for (id, score) in lines.split(LINE).filter_map(read_line) {
                let Some(&at) = places.get(id) else { continue };
                let known = &board.jobs[at].scores[..before[at]];
                if !known.iter().any(|own| own.metric == score.metric && own.task == score.task) {
                    board.jobs[at].scores.push(score);
                }
            }
        };
        if let ScoresOf::Jobs(jobs) = of {
            let ids: Vec<JobId> = jobs.iter().map(|&at| board.jobs[at].id.clone()).collect();
            for ids in ids.chunks(BOUND) {
                let lines = self.scores_of(version, ids).await?;
                take(lines, board);
            }
        } else {
            // While one task's scores are taken in, SQLite's thread reads the next one's.
            let mut last = String::new();
            for (position, task, metric) in self.score_columns(version, board, of).await? {
                let next = self.scores_at((version.0, version.1, position), (&task, metric));
                let (next, ()) = tokio::join!(biased; next, async { take(std::mem::take(&mut last), board) });
                last = next?;
            }
            take(last, board);
        }
        let groups = std::mem::take(&mut board.groups);
        board.jobs.iter_mut().for_each(|job| group_scores(&groups, &mut job.scores));
        board.groups = groups;
        Ok(())
    }

    /// The places of a version's tasks, with each metric that is asked for.
    async fn score_columns(
        &self,
        (sweep, version): (i64, i64),
        board: &Leaderboard,
        of: ScoresOf<'_>,
    ) -> Result<Vec<(i64, String, Metric)>, StoreError> {
        let query = sqlx::query(
            "SELECT position, task, metrics FROM sweep_tasks WHERE sweep_id = $1 AND version = $2 ORDER BY position",
        );
        let is_wanted = |task: &str, metric: Metric| match of {
            ScoresOf::Metric(wanted, own) => {
                let group = board.groups.iter().find(|group| group.name == wanted);
                let is_of =
                    wanted == task || group.is_some_and(|group| group.tasks.iter().any(|own| own == task));
                own == metric && is_of
            }
            ScoresOf::All | ScoresOf::Jobs(_) => true,
        };
        let mut found = Vec::new();
        for row in query.bind(sweep).bind(version).fetch_all(&self.pool).await? {
            let (position, task, metrics): (i64, String, Vec<Metric>) =
                (row.try_get(0)?, row.try_get(1)?, read_json(&row, 2)?);
            let wanted = metrics.into_iter().filter(|metric| is_wanted(&task, *metric));
            found.extend(wanted.map(|metric| (position, task.clone(), metric)));
        }
        Ok(found)
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

    /// The scores of the task at a place of a version, a line for each. One text crosses from SQLite's thread much faster than a
    /// hundred thousand rows of five values; 17 digits are enough for every double.
    async fn scores_at(
        &self,
        (sweep, version, position): (i64, i64, i64),
        (task, metric): (&str, Metric),
    ) -> Result<String, StoreError> {
        let query = format!(
            "SELECT {LINES} FROM wanted_scores w
             CROSS JOIN task_scores c ON c.score_key = w.score_key AND c.task = $4 AND c.metric = $5
             WHERE w.sweep_id = $1 AND w.version = $2 AND w.task_position = $3"
        );
        let query =
            sqlx::query(&query).bind(sweep).bind(version).bind(position).bind(task).bind(metric.as_str());
        let row = query.fetch_one(&self.pool).await?;
        Ok(row.try_get::<Option<String>, _>(0)?.unwrap_or_default())
    }

    /// Every score that a version wants of some jobs, a line for each, in the order of its tasks.
    async fn scores_of(&self, (sweep, version): (i64, i64), jobs: &[JobId]) -> Result<String, StoreError> {
        // The sign keeps SQLite from reading all scores of a task to find the few with these keys.
        let mut query = QueryBuilder::new(format!(
            "SELECT {LINES} FROM sweep_tasks t CROSS JOIN wanted_scores w
                 ON w.sweep_id = t.sweep_id AND w.version = t.version AND w.task_position = t.position
             CROSS JOIN task_scores c ON c.score_key = w.score_key AND +c.task = t.task
             WHERE t.sweep_id = "
        ));
        query.push_bind(sweep).push(" AND t.version = ").push_bind(version).push(" AND w.job_id IN (");
        let mut list = query.separated(", ");
        for job in jobs {
            list.push_bind(job.as_str());
        }
        query.push(")");
        let row = query.build().fetch_one(&self.pool).await?;
        Ok(row.try_get::<Option<String>, _>(0)?.unwrap_or_default())
    }
}

/// Jobs that one statement names: SQLite takes 32,766 values.
pub(super) const BOUND: usize = 10_000;

/// Between lines, and between the words of a line: signs that no name of a task has.
pub(super) const LINE: char = '\u{1e}';
pub(super) const WORD: char = '\u{1f}';

/// The scores of `wanted_scores w` and `task_scores c` as lines: job, task, metric, value, standard error, documents.
const LINES: &str = "group_concat(w.job_id || char(31) || c.task || char(31) || c.metric || char(31) ||
    iif(c.value IS NULL, 'NaN', printf('%!.17g', c.value)) || char(31) ||
    iif(c.stderr IS NULL, '-', printf('%!.17g', c.stderr)) || char(31) || c.documents, char(30))";

fn read_line(line: &str) -> Option<(&str, BoardScore)> {
    let mut words = line.split(WORD);
    let (job, task, metric) = (words.next()?, words.next()?.to_owned(), Metric::named(words.next()?)?);
    let (value, stderr, documents) =
        (words.next()?.parse().ok()?, words.next()?.parse().ok(), words.next()?.parse().ok()?);
    Some((job, BoardScore { task, metric, value, stderr, documents }))
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
        let line = |words: &[&str]| words.join("\u{1f}");
        let own = line(&["ab12", "a task", "acc", "0.5", "0.25", "7"]);
        let (job, score) = read_line(&own).unwrap();
        assert_eq!((job, score.task.as_str(), score.metric), ("ab12", "a task", Metric::Acc));
        assert_eq!((score.value, score.stderr, score.documents), (0.5, Some(0.25), 7));
        let own = line(&["ab12", "t", "acc", "NaN", "-", "7"]);
        let (_, score) = read_line(&own).unwrap();
        assert!(score.value.is_nan() && score.stderr.is_none());
        assert!(read_line("").is_none() && read_line(&line(&["ab12", "t", "acc"])).is_none());
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
