//! What two jobs said of the same documents.

use std::collections::BTreeMap;

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::StoreError;
use super::open::Store;
use super::read::{read_json, read_metric};
use crate::job::JobId;
use crate::task::{DocumentValue, Metric};

/// A job's values of a metric by document.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentValues {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// The task's value of it.
    pub value: f64,
    /// Its value for each document, by the document's number.
    pub documents: BTreeMap<usize, f64>,
}

impl Store {
    /// A job's values by document, of each task and each metric whose value is a mean over documents. Where a task was scored on
    /// several sets of documents, the largest counts.
    pub async fn document_values(&self, job: &JobId) -> Result<Vec<DocumentValues>, StoreError> {
        let query = sqlx::query(
            "SELECT c.score_key, c.task, c.metric, c.value, c.documents FROM scores c
             JOIN jobs j ON j.subject = c.subject WHERE j.id = $1 ORDER BY c.task, c.metric, c.documents DESC",
        );
        let mut found: Vec<DocumentValues> = Vec::new();
        for row in query.bind(job.as_str()).fetch_all(&self.pool).await? {
            let (key, task): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let (metric, value) = (read_metric(&row.try_get::<String, _>(2)?)?, row.try_get::<f64, _>(3)?);
            if found.iter().any(|own| own.task == task && own.metric == metric) {
                continue;
            }
            let documents = self.values_of(&key).await?;
            if let Some(documents) = column_of(&documents, value) {
                found.push(DocumentValues { task, metric, value, documents });
            }
        }
        Ok(found)
    }

    async fn values_of(&self, key: &str) -> Result<Vec<(usize, Vec<DocumentValue>)>, StoreError> {
        let query =
            sqlx::query("SELECT document, metrics FROM documents WHERE score_key = $1 ORDER BY document");
        let read = |row: &SqliteRow| Ok((row.try_get::<i64, _>(0)? as usize, read_json(row, 1)?));
        query.bind(key).fetch_all(&self.pool).await?.iter().map(read).collect()
    }
}

/// Which of the documents' values have this mean: they are stored in the task's order of metrics, and scores by their names.
fn column_of(documents: &[(usize, Vec<DocumentValue>)], value: f64) -> Option<BTreeMap<usize, f64>> {
    let columns = documents.first()?.1.len();
    (0..columns).find_map(|column| {
        let number = |(document, own): &(usize, Vec<DocumentValue>)| match own.get(column) {
            Some(DocumentValue::Number(number)) => Some((*document, *number)),
            _ => None,
        };
        let values: BTreeMap<usize, f64> = documents.iter().map(number).collect::<Option<_>>()?;
        let mean = values.values().sum::<f64>() / values.len() as f64;
        ((mean - value).abs() <= 1e-9 * value.abs().max(1.0)).then_some(values)
    })
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
}
