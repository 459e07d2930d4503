//! What jobs said of single documents, as numbers.

use std::collections::{BTreeMap, HashMap};

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row};

use super::board::Leaderboard;
use super::error::StoreError;
use super::open::Store;
use super::read::{read_json, read_metric};
use super::scores::BOUND;
use crate::job::JobId;
use crate::task::{DocumentValue, Metric};

/// A metric's value of each document, by the document's number.
pub type ByDocument = BTreeMap<usize, f64>;

/// A job's values of a metric by document.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentValues {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// The task's value of it.
    pub value: f64,
    /// Its value for each document.
    pub documents: ByDocument,
}

impl Store {
    /// A job's values by document, of each task and each metric whose value is a mean over documents. Where a task was scored on
    /// several sets of documents, the largest counts.
    pub async fn document_values(&self, job: &JobId) -> Result<Vec<DocumentValues>, StoreError> {
        let query = sqlx::query(
            "SELECT c.score_key, c.task, c.metric, c.value, d.pairs FROM jobs j
             JOIN task_scores c ON c.subject = j.subject
             LEFT JOIN document_values d ON d.score_key = c.score_key AND d.metric = c.metric
             WHERE j.id = $1 AND c.value IS NOT NULL ORDER BY c.task, c.metric, c.documents DESC",
        );
        let mut found: Vec<DocumentValues> = Vec::new();
        for row in query.bind(job.as_str()).fetch_all(&self.pool).await? {
            let (task, metric): (String, Metric) = (row.try_get(1)?, read_metric(row.try_get(2)?)?);
            if found.last().is_some_and(|own| own.task == task && own.metric == metric) {
                continue;
            }
            let value: f64 = row.try_get(3)?;
            if let Some(documents) = self.by_document(&row, value).await? {
                found.push(DocumentValues { task, metric, value, documents });
            }
        }
        Ok(found)
    }

    /// The values by document of some jobs of a board, by their places in it, of one task and metric.
    pub async fn values_of_jobs(
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
                if let Some(values) = self.by_document(&row, value).await? {
                    found.insert(JobId::from_store(row.try_get(1)?), values);
                }
            }
        }
        Ok(found)
    }

    /// The values of a row's score: those in its last column, or, of scores from before these were kept, what its documents say.
    async fn by_document(&self, row: &SqliteRow, value: f64) -> Result<Option<ByDocument>, StoreError> {
        let pairs: Option<&[u8]> = row.try_get(row.len() - 1)?;
        if let Some(pairs) = pairs {
            return Ok(Some(from_pairs(pairs)));
        }
        let query = sqlx::query(
            "SELECT document, metrics FROM scored_documents WHERE score_key = $1 ORDER BY document",
        );
        let read = |row: &SqliteRow| Ok((row.try_get::<i64, _>(0)? as usize, read_json(row, 1)?));
        let rows = query.bind(row.try_get::<&str, _>(0)?).fetch_all(&self.pool).await?;
        let documents: Vec<(usize, Vec<DocumentValue>)> =
            rows.iter().map(read).collect::<Result<_, StoreError>>()?;
        Ok(column_of(&documents, value))
    }
}

/// Values as they are stored: pairs of the document's number (u32) and its value (f64), little endian.
pub(super) fn to_pairs(values: &ByDocument) -> Vec<u8> {
    let pair = |(document, value): (&usize, &f64)| {
        // A task has fewer documents than that.
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

/// Which of the documents' values have this mean: they are stored in the task's order of metrics, and scores by their names.
fn column_of(documents: &[(usize, Vec<DocumentValue>)], value: f64) -> Option<ByDocument> {
    let columns = documents.first()?.1.len();
    (0..columns).find_map(|column| {
        let number = |(document, own): &(usize, Vec<DocumentValue>)| match own.get(column) {
            Some(DocumentValue::Number(number)) => Some((*document, *number)),
            _ => None,
        };
        let values: ByDocument = documents.iter().map(number).collect::<Option<_>>()?;
        mean_is(&values, value).then_some(values)
    })
}

/// Whether values have this mean, up to rounding.
pub(super) fn mean_is(values: &ByDocument, value: f64) -> bool {
    let mean = values.values().sum::<f64>() / values.len() as f64;
    (mean - value).abs() <= 1e-9 * value.abs().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_column_whose_mean_it_is() {
        let row = |document, first, second| {
            (document, vec![DocumentValue::Number(first), DocumentValue::Number(second)])
        };
        let documents = [row(0, 1.0, 0.0), row(4, 0.0, 0.0), row(5, 1.0, 1.0)];
        assert_eq!(column_of(&documents, 1.0 / 3.0).unwrap(), BTreeMap::from([(0, 0.0), (4, 0.0), (5, 1.0)]));
        assert_eq!(column_of(&documents, 0.9), None);
        assert_eq!(column_of(&[], 0.0), None);
    }

    #[test]
    fn pairs_read_back_to_the_bit_and_a_cut_pair_is_left_out() {
        let values = BTreeMap::from([(0, 0.1), (7, f64::MIN_POSITIVE), (70_000, -3.0)]);
        let pairs = to_pairs(&values);
        assert_eq!(from_pairs(&pairs), values);
        assert_eq!(from_pairs(&pairs[..pairs.len() - 1]).len(), 2);
    }
}
