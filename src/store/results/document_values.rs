//! Scores of single documents as numbers.

use std::collections::{BTreeMap, HashMap};

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row};

use crate::job::{JobId, ScoreKey};
use crate::plan::PlannedGroup;
use crate::store::boards::board::Leaderboard;
use crate::store::boards::job_details::{read_json, read_metric};
use crate::store::boards::scores::BOUND;
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::store::queue::read_digest;
use crate::task::{Aggregation, DocumentValue, Metric, column_of};

/// A metric's value of each document, by the document's number.
pub type ByDocument = BTreeMap<usize, f64>;

/// A job's values of a metric by document.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentValues {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// The task's value of the metric.
    pub value: f64,
    /// The key of these scores; none for a group.
    pub key: Option<ScoreKey>,
    /// The values it is computed from; none if the documents are missing or do not yield the value.
    pub documents: Option<Documents>,
}

/// The document values behind a metric.
#[derive(Debug, Clone, PartialEq)]
pub enum Documents {
    /// It is their mean.
    Mean(ByDocument),
    /// It is aggregated in another way.
    Other(Aggregation, BTreeMap<usize, DocumentValue>),
}

impl Store {
    /// The document scores of two jobs by task and metric, as the newest sweep with both defines them, so that both were scored alike.
    /// For tasks that it does not score, and if no sweep has both, each job's scores with the most documents.
    pub async fn values_of_both(
        &self,
        first: &JobId,
        second: &JobId,
    ) -> Result<[Vec<DocumentValues>; 2], StoreError> {
        let common = sqlx::query(
            "SELECT v.sweep_id, v.version FROM sweep_versions v
             JOIN sweep_jobs a ON a.sweep_id = v.sweep_id AND a.version = v.version AND a.job_id = $1
             JOIN sweep_jobs b ON b.sweep_id = v.sweep_id AND b.version = v.version AND b.job_id = $2
             ORDER BY v.created_ms DESC, v.sweep_id DESC, v.version DESC LIMIT 1",
        );
        let common = common.bind(first.as_str()).bind(second.as_str()).fetch_optional(&self.pool).await?;
        let version = match common {
            Some(row) => Some((row.try_get(0)?, row.try_get(1)?)),
            None => None,
        };
        Ok([self.values_in(first, version).await?, self.values_in(second, version).await?])
    }

    /// The document scores of a job of a board, as the board's sweep defines them.
    pub async fn document_values(
        &self,
        board: &Leaderboard,
        job: &JobId,
    ) -> Result<Vec<DocumentValues>, StoreError> {
        let (sweep, ..) = self.find_sweep(Some(&board.sweep)).await?;
        self.values_in(job, Some((sweep, board.version))).await
    }

    async fn values_in(
        &self,
        job: &JobId,
        version: Option<(i64, i64)>,
    ) -> Result<Vec<DocumentValues>, StoreError> {
        let query = sqlx::query(
            "SELECT c.score_key, c.task, c.metric, c.value, d.pairs FROM jobs j
             JOIN task_scores c ON c.subject = j.subject
             LEFT JOIN document_values d ON d.score_key = c.score_key AND d.metric = c.metric
             LEFT JOIN sweep_tasks t ON t.sweep_id = $2 AND t.version = $3 AND t.task = c.task
             LEFT JOIN wanted_scores w ON w.sweep_id = t.sweep_id AND w.version = t.version
                 AND w.task_position = t.position AND w.job_id = j.id AND w.score_key = c.score_key
             WHERE j.id = $1 AND c.value IS NOT NULL AND (t.task IS NULL OR w.score_key IS NOT NULL)
             ORDER BY c.task, c.metric, c.documents DESC, c.score_key",
        );
        let (sweep, version) = version.unzip();
        let mut found: Vec<DocumentValues> = Vec::new();
        for row in query.bind(job.as_str()).bind(sweep).bind(version).fetch_all(&self.pool).await? {
            let (task, metric): (String, Metric) = (row.try_get(1)?, read_metric(row.try_get(2)?)?);
            if found.last().is_some_and(|last| last.task == task && last.metric == metric) {
                continue;
            }
            let (key, value) = (ScoreKey(read_digest(&row, 0)?), row.try_get(3)?);
            let documents = self.by_document(&row, metric, value).await?;
            found.push(DocumentValues { task, metric, value, key: Some(key), documents });
        }
        if let (Some(sweep), Some(version)) = (sweep, version) {
            let groups = self.groups_of(sweep, version).await?;
            let of = groups.iter().flat_map(|group| group_values(group, &found)).collect::<Vec<_>>();
            found.extend(of);
        }
        Ok(found)
    }

    async fn groups_of(&self, sweep: i64, version: i64) -> Result<Vec<PlannedGroup>, StoreError> {
        let query =
            sqlx::query("SELECT task_groups FROM sweep_versions WHERE sweep_id = $1 AND version = $2");
        read_json(&query.bind(sweep).bind(version).fetch_one(&self.pool).await?, 0)
    }

    /// The values by document of some jobs of a board, by their positions, for one task or group and metric. A group's documents are
    /// those of its tasks, for jobs that have all of them.
    pub async fn values_of_jobs(
        &self,
        board: &Leaderboard,
        (task, metric): (&str, Metric),
        jobs: &[usize],
    ) -> Result<HashMap<JobId, ByDocument>, StoreError> {
        let group = board.groups.iter().find(|group| group.name == task);
        let Some(group) = group else { return self.values_of_task(board, (task, metric), jobs).await };
        let mut found: HashMap<JobId, Vec<ByDocument>> = HashMap::new();
        for task in &group.tasks {
            for (job, values) in self.values_of_task(board, (task, metric), jobs).await? {
                found.entry(job).or_default().push(values);
            }
        }
        found.retain(|_, of_tasks| of_tasks.len() == group.tasks.len());
        let weighted = weighs(group, metric);
        Ok(found.into_iter().map(|(job, of_tasks)| (job, together(&of_tasks, weighted))).collect())
    }

    async fn values_of_task(
        &self,
        board: &Leaderboard,
        (task, metric): (&str, Metric),
        jobs: &[usize],
    ) -> Result<HashMap<JobId, ByDocument>, StoreError> {
        let (sweep, ..) = self.find_sweep(Some(&board.sweep)).await?;
        let mut found = HashMap::new();
        for chunk in jobs.chunks(BOUND) {
            let mut query = QueryBuilder::new(
                "SELECT w.score_key, w.job_id, c.value, c.metric, d.pairs
                 FROM sweep_tasks t CROSS JOIN wanted_scores w
                     ON w.sweep_id = t.sweep_id AND w.version = t.version AND w.task_position = t.position
                 CROSS JOIN task_scores c ON c.task = t.task AND c.score_key = w.score_key
                 LEFT JOIN document_values d ON d.score_key = c.score_key AND d.metric = c.metric
                 WHERE c.value IS NOT NULL AND t.sweep_id = ",
            );
            query.push_bind(sweep).push(" AND t.version = ").push_bind(board.version);
            query.push(" AND t.task = ").push_bind(task).push(" AND c.metric = ").push_bind(metric.as_str());
            let mut list = query.push(" AND w.job_id IN (").separated(", ");
            for &at in chunk {
                list.push_bind(board.jobs[at].id.as_str());
            }
            query.push(")");
            for row in query.build().fetch_all(&self.pool).await? {
                let value: f64 = row.try_get(2)?;
                if let Some(Documents::Mean(values)) = self.by_document(&row, metric, value).await? {
                    found.insert(JobId::from_store(row.try_get(1)?), values);
                }
            }
        }
        Ok(found)
    }

    /// The document values behind a row's score: those in its last column, or, if these are not stored (the value is not a mean, or an
    /// earlier release wrote it), those computed from its documents.
    async fn by_document(
        &self,
        row: &SqliteRow,
        metric: Metric,
        value: f64,
    ) -> Result<Option<Documents>, StoreError> {
        let pairs: Option<&[u8]> = row.try_get(row.len() - 1)?;
        if let Some(pairs) = pairs {
            return Ok(Some(Documents::Mean(from_pairs(pairs))));
        }
        let query = sqlx::query(
            "SELECT document, metrics FROM scored_documents WHERE score_key = $1 ORDER BY document",
        );
        let read = |row: &SqliteRow| Ok((row.try_get::<i64, _>(0)? as usize, read_json(row, 1)?));
        let rows = query.bind(row.try_get::<&str, _>(0)?).fetch_all(&self.pool).await?;
        let documents: Vec<(usize, Vec<DocumentValue>)> =
            rows.iter().map(read).collect::<Result<_, StoreError>>()?;
        Ok(column_of(metric, &documents, value)
            .map(|(column, aggregation)| of_column(documents, column, aggregation)))
    }
}

fn of_column(
    documents: Vec<(usize, Vec<DocumentValue>)>,
    column: usize,
    aggregation: Aggregation,
) -> Documents {
    let values = documents.into_iter().map(|(document, mut values)| (document, values.swap_remove(column)));
    match aggregation {
        Aggregation::Mean => {
            Documents::Mean(values.map(|(document, value)| (document, value.part(0))).collect())
        }
        other => Documents::Other(other, values.collect()),
    }
}

/// Whether a group's tasks are weighted by their number of documents.
fn weighs(group: &PlannedGroup, metric: Metric) -> bool {
    group.metrics.iter().any(|(known, weighted)| *known == metric && *weighted)
}

/// A group's metrics for which each of its tasks has values by document.
fn group_values(group: &PlannedGroup, found: &[DocumentValues]) -> Vec<DocumentValues> {
    let of_task = |task: &String, metric: Metric| {
        let task_values = found.iter().find(|values| values.task == *task && values.metric == metric)?;
        match &task_values.documents {
            Some(Documents::Mean(values)) => Some(values.clone()),
            _ => None,
        }
    };
    let of_metric = |(metric, weighted): &(Metric, bool)| {
        let tasks: Vec<ByDocument> =
            group.tasks.iter().map(|task| of_task(task, *metric)).collect::<Option<_>>()?;
        let values = together(&tasks, *weighted);
        let value = values.values().sum::<f64>() / values.len() as f64;
        let documents = Some(Documents::Mean(values));
        Some(DocumentValues { task: group.name.clone(), metric: *metric, value, key: None, documents })
    };
    group.metrics.iter().filter_map(of_metric).collect()
}

/// The documents of several tasks, numbered by task and document, with values whose mean is the group's value: unchanged if every
/// document counts alike, else with larger weights for those of a small task.
fn together(tasks: &[ByDocument], weighted: bool) -> ByDocument {
    let all: usize = tasks.iter().map(BTreeMap::len).sum();
    let of_task = |(number, documents): (usize, &ByDocument)| {
        let weight = if weighted { 1.0 } else { all as f64 / (tasks.len() * documents.len()) as f64 };
        let document = |(document, value): (&usize, &f64)| (number << 32 | document, weight * value);
        documents.iter().map(document).collect::<Vec<_>>()
    };
    tasks.iter().enumerate().flat_map(of_task).collect()
}

/// Stored form of values: pairs of the document's number (u32) and its value (f64), little endian.
pub(in crate::store) fn to_pairs(values: &ByDocument) -> Vec<u8> {
    let pair = |(document, value): (&usize, &f64)| {
        // No task has more documents than u32 holds.
        let mut bytes = u32::try_from(*document).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        bytes.extend(value.to_le_bytes());
        bytes
    };
    values.iter().flat_map(pair).collect()
}

fn from_pairs(bytes: &[u8]) -> ByDocument {
    let pair = |pair: &[u8]| {
        let (document, value) = pair.split_first_chunk::<4>()?;
        Some((u32::from_le_bytes(*document) as usize, f64::from_le_bytes(*value.first_chunk::<8>()?)))
    };
    bytes.chunks_exact(12).filter_map(pair).collect()
}

/// Whether values have this mean, up to rounding.
pub(in crate::store) fn mean_is(values: &ByDocument, value: f64) -> bool {
    let mean = values.values().sum::<f64>() / values.len() as f64;
    (mean - value).abs() <= 1e-9 * value.abs().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_read_back_to_the_bit_and_a_cut_pair_is_left_out() {
        let values = BTreeMap::from([(0, 0.1), (7, f64::MIN_POSITIVE), (70_000, -3.0)]);
        let pairs = to_pairs(&values);
        assert_eq!(from_pairs(&pairs), values);
        assert_eq!(from_pairs(&pairs[..pairs.len() - 1]).len(), 2);
    }

    #[test]
    fn a_groups_documents_have_the_groups_value_as_their_mean() {
        let tasks =
            [ByDocument::from([(0, 1.0), (1, 0.0), (2, 0.0), (3, 0.0)]), ByDocument::from([(0, 1.0)])];
        let mean = |documents: &ByDocument| documents.values().sum::<f64>() / documents.len() as f64;
        let (weighted, plain) = (together(&tasks, true), together(&tasks, false));
        assert_eq!((weighted.len(), mean(&weighted)), (5, 0.4));
        assert!((mean(&plain) - (0.25 + 1.0) / 2.0).abs() < 1e-15);
        assert!(weighted.values().all(|value| *value == 0.0 || *value == 1.0), "right and wrong stay so");
    }
}
