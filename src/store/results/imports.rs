//! Results of other programs, shown beside those of a sweep.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};

use crate::job::{Digest, JobId, JobState};
use crate::store::boards::board::{BoardJob, BoardScore, TrainingWork};
use crate::store::boards::job_details::read_score;
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::open::Store;
use crate::task::{DocumentValue, Metric, RequestScore};

/// The sweep that holds imported results if there is no other.
const ALONE: &str = "imported";

/// Results of another program.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedResults {
    /// The model's name; unique within a sweep.
    pub label: String,
    /// The file.
    pub source: String,
    /// The program with its version.
    pub harness: String,
    /// Digest of the file's content.
    pub digest: Digest,
    /// Scores of tasks.
    pub scores: Vec<ImportedScore>,
    /// Scores of documents, if they were written.
    pub documents: Vec<ImportedDocument>,
    /// Names of what is not imported: unknown metrics, and filters other than the selected one.
    pub left_out: Vec<String>,
}

/// A score of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedScore {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// Its value.
    pub value: f64,
    /// Its standard error.
    pub stderr: Option<f64>,
    /// Number of documents.
    pub documents: u64,
}

/// The scores of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedDocument {
    /// The task.
    pub task: String,
    /// Its number.
    pub document: usize,
    /// The model's scores of each request.
    pub requests: Vec<RequestScore>,
    /// Its metrics.
    pub metrics: Vec<(Metric, DocumentValue)>,
}

impl Store {
    /// Adds results to a sweep: the one of this name, else the last submitted one, else a new one. Results of the same name are replaced.
    /// Returns the sweep's name. Error: no such sweep.
    pub async fn import(
        &self,
        sweep: Option<&str>,
        results: &[ImportedResults],
    ) -> Result<String, StoreError> {
        if self.server.is_some() {
            return Err(StoreError::ImportToServer);
        }
        let (sweep, name) = match self.find_sweep(sweep).await {
            Ok((sweep, _, name)) => (sweep, name),
            Err(StoreError::Empty) => (self.own_sweep().await?, ALONE.to_owned()),
            Err(error) => return Err(error),
        };
        let mut tx = self.begin().await?;
        for imported in results {
            insert(&mut tx, sweep, imported).await?;
        }
        if name == ALONE {
            show_all_tasks(&mut tx, sweep).await?;
        }
        tx.commit().await?;
        Ok(name)
    }

    /// Creates the sweep for imported results alone.
    async fn own_sweep(&self) -> Result<i64, StoreError> {
        let mut tx = self.begin().await?;
        let insert = "INSERT INTO sweeps (name, created_ms) VALUES ($1, $2) RETURNING id";
        let sweep: i64 =
            sqlx::query(insert).bind(ALONE).bind(now_ms()).fetch_one(&mut *tx).await?.try_get(0)?;
        let version = sqlx::query(
            "INSERT INTO sweep_versions (sweep_id, version, text, axes, tasks, created_ms)
             VALUES ($1, 1, '', '[]', '[]', $2)",
        );
        version.bind(sweep).bind(now_ms()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(sweep)
    }

    /// A sweep's imported results as rows of its leaderboard.
    pub(in crate::store) async fn imported_jobs(&self, sweep: i64) -> Result<Vec<BoardJob>, StoreError> {
        let query = sqlx::query(
            "SELECT i.id, i.label, s.task, s.metric, s.value, s.stderr, s.documents
             FROM imports i JOIN import_scores s ON s.import_id = i.id
             WHERE i.sweep_id = $1 ORDER BY i.id, s.task, s.metric",
        );
        let mut found: BTreeMap<i64, (String, Vec<BoardScore>)> = BTreeMap::new();
        for row in query.bind(sweep).fetch_all(&self.pool).await? {
            let entry = found.entry(row.try_get(0)?).or_insert((row.try_get(1)?, Vec::new()));
            entry.1.push(read_score(&row, 2)?);
        }
        let job = |(id, (label, scores)): (i64, (String, Vec<BoardScore>))| BoardJob {
            id: JobId::from_store(format!("import-{id}")),
            is_base: false,
            imported: true,
            label,
            model: String::new(),
            dtype: String::new(),
            state: JobState::Done,
            reason: None,
            settings: BTreeMap::new(),
            trainable: 0,
            seconds: None,
            work: TrainingWork::default(),
            peak_memory: None,
            losses: None,
            converged: None,
            scores,
        };
        Ok(found.into_iter().map(job).collect())
    }
}

async fn insert(
    tx: &mut Transaction<'_, Sqlite>,
    sweep: i64,
    imported: &ImportedResults,
) -> Result<(), StoreError> {
    let known = sqlx::query("SELECT id FROM imports WHERE sweep_id = $1 AND label = $2");
    if let Some(row) = known.bind(sweep).bind(&imported.label).fetch_optional(&mut **tx).await? {
        let old: i64 = row.try_get(0)?;
        for table in ["import_documents", "import_scores"] {
            let delete = format!("DELETE FROM {table} WHERE import_id = $1");
            sqlx::query(AssertSqlSafe(delete)).bind(old).execute(&mut **tx).await?;
        }
        sqlx::query("DELETE FROM imports WHERE id = $1").bind(old).execute(&mut **tx).await?;
    }
    let row = sqlx::query(
        "INSERT INTO imports (sweep_id, label, source, harness, digest, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
    );
    let id: i64 = row
        .bind(sweep)
        .bind(&imported.label)
        .bind(&imported.source)
        .bind(&imported.harness)
        .bind(imported.digest.to_string())
        .bind(now_ms())
        .fetch_one(&mut **tx)
        .await?
        .try_get(0)?;
    for score in &imported.scores {
        let insert = sqlx::query(
            "INSERT INTO import_scores (import_id, task, metric, value, stderr, documents)
             VALUES ($1, $2, $3, $4, $5, $6)",
        );
        insert
            .bind(id)
            .bind(&score.task)
            .bind(score.metric.as_str())
            .bind(score.value)
            .bind(score.stderr)
            .bind(score.documents as i64)
            .execute(&mut **tx)
            .await?;
    }
    for document in &imported.documents {
        let insert = sqlx::query(
            "INSERT INTO import_documents (import_id, task, document, requests, metrics)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (import_id, task, document) DO NOTHING",
        );
        insert
            .bind(id)
            .bind(&document.task)
            .bind(document.document as i64)
            .bind(serde_json::to_string(&document.requests).unwrap_or_default())
            .bind(serde_json::to_string(&document.metrics).unwrap_or_default())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Makes every imported task a column of the sweep that holds only imported results.
async fn show_all_tasks(tx: &mut Transaction<'_, Sqlite>, sweep: i64) -> Result<(), StoreError> {
    let select = sqlx::query(
        "SELECT DISTINCT s.task FROM import_scores s JOIN imports i ON i.id = s.import_id
         WHERE i.sweep_id = $1 ORDER BY s.task",
    );
    let rows = select.bind(sweep).fetch_all(&mut **tx).await?;
    let tasks = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, sqlx::Error>>()?;
    sqlx::query("UPDATE sweep_versions SET tasks = $1 WHERE sweep_id = $2")
        .bind(serde_json::to_string(&tasks).unwrap_or_default())
        .bind(sweep)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
