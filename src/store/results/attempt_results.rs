//! Results of an attempt: curves, adapters, scores of documents and tasks.

use std::collections::BTreeSet;

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, Transaction};

use crate::job::{Digest, ScoreKey};
use crate::protocol::DocumentScore;
use crate::queue::{Attempt, AttemptResults, Record, ScoreRecord, StoredDocument, TrainingRecord};
use crate::store::boards::job_details::read_json;
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::open::Store;
use crate::store::results::document_values::{ByDocument, mean_is, to_pairs};
use crate::store::results::samples::write_sample;
use crate::task::DocumentValue;

/// A metric's values by document, if its value is their mean.
fn by_document(record: &ScoreRecord, at: usize) -> Option<ByDocument> {
    let number = |(document, metrics): &(usize, Vec<DocumentValue>)| match metrics.get(at) {
        Some(DocumentValue::Number(number)) => Some((*document, *number)),
        Some(DocumentValue::Parts(_)) | None => None,
    };
    let values: ByDocument = record.documents.iter().map(number).collect::<Option<_>>()?;
    mean_is(&values, record.aggregates[at].value).then_some(values)
}

/// Columns per point.
const POINT: usize = 7;
/// Points per statement: SQLite takes at least 999 values.
const POINTS: usize = 999 / POINT;

/// Writes training results within a transaction; `finished_ms`: when the training was, in milliseconds since 1970.
pub(in crate::store) async fn write_training(
    tx: &mut Transaction<'_, Sqlite>,
    subject: Digest,
    results: &AttemptResults,
    finished_ms: i64,
) -> Result<(), StoreError> {
    let subject = subject.to_string();
    for points in results.steps.chunks(POINTS) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO curve_points (subject, step, loss, learning_rate, tokens, seconds, validation_loss) ",
        );
        insert.push_values(points, |mut row, point| {
            row.push_bind(&subject)
                .push_bind(point.step as i64)
                .push_bind(point.loss.is_finite().then_some(point.loss))
                .push_bind(point.learning_rate)
                .push_bind(point.tokens.0 as i64)
                .push_bind(point.seconds.0)
                .push_bind(point.validation_loss.filter(|loss| loss.is_finite()));
        });
        insert.push(
            " ON CONFLICT (subject, step) DO UPDATE SET loss = excluded.loss,
             learning_rate = excluded.learning_rate, tokens = excluded.tokens, seconds = excluded.seconds,
             validation_loss = excluded.validation_loss",
        );
        insert.build().execute(&mut **tx).await?;
    }
    let Some(TrainingRecord { trained, losses }) = &results.training else { return Ok(()) };
    let insert = sqlx::query(
        "INSERT INTO trainings
             (subject, adapter, steps, tokens, seconds, peak_memory, first_loss, last_loss, finished_ms,
              last_losses, validation_loss, adapter_digest)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         ON CONFLICT (subject) DO UPDATE
         SET adapter = excluded.adapter, adapter_removed = NULL, adapter_digest = excluded.adapter_digest",
    );
    insert
        .bind(&subject)
        .bind(format!("adapters/{subject}"))
        .bind(trained.steps as i64)
        .bind(trained.tokens.0 as i64)
        .bind(trained.seconds.0)
        .bind(trained.peak_memory.0 as i64)
        .bind(losses.map(|(first, _)| first))
        .bind(losses.map(|(_, last)| last))
        .bind(finished_ms)
        .bind(trained.last_losses)
        .bind(trained.validation_loss.filter(|loss| loss.is_finite()))
        .bind(trained.adapter.map(|digest| digest.to_string()))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

impl Store {
    /// Writes a record, all of it or nothing; without an attempt for an evaluation outside of jobs. Error: [`StoreError::Fenced`] if the
    /// job was taken over; then nothing is written.
    pub async fn write_record(&self, attempt: Option<&Attempt>, record: &Record) -> Result<(), StoreError> {
        if let Some(server) = &self.server {
            server.write_record(attempt, record).await?;
            return self.refresh().await.map(drop);
        }
        let mut tx = self.begin().await?;
        fence(&mut tx, attempt).await?;
        match record {
            Record::Training(subject, results) => {
                write_training(&mut tx, *subject, results, now_ms()).await?
            }
            Record::Documents(documents) => {
                for (key, document) in documents {
                    write_document(&mut tx, *key, document).await?;
                }
            }
            Record::Scores(subject, scores) => {
                for record in scores {
                    write_scores(&mut tx, *subject, record).await?;
                }
            }
            Record::Sample(subject, sample) => write_sample(&mut tx, *subject, sample).await?,
        }
        Ok(tx.commit().await?)
    }

    /// Numbers of the documents scored under a key.
    pub async fn scored_documents(&self, key: ScoreKey) -> Result<BTreeSet<usize>, StoreError> {
        let query = sqlx::query("SELECT document FROM scored_documents WHERE score_key = $1");
        let rows = query.bind(key.0.to_string()).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok(row.try_get::<i64, _>(0)? as usize)).collect()
    }

    /// The documents scored under a key, by number.
    pub async fn documents(&self, key: ScoreKey) -> Result<Vec<StoredDocument>, StoreError> {
        let query = sqlx::query(
            "SELECT document, requests, metrics,
                 (SELECT json_group_array(t.text ORDER BY e.key) FROM json_each(answers) e
                  JOIN answer_texts t ON t.digest = e.value)
             FROM scored_documents WHERE score_key = $1 ORDER BY document",
        );
        let rows = query.bind(key.0.to_string()).fetch_all(&self.pool).await?;
        let read = |row: &SqliteRow| {
            Ok(StoredDocument {
                document: row.try_get::<i64, _>(0)? as usize,
                requests: read_json(row, 1)?,
                metrics: read_json(row, 2)?,
                answers: read_json(row, 3)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Some of the documents scored under a key, by number.
    pub async fn some_documents(
        &self,
        key: ScoreKey,
        numbers: &[usize],
    ) -> Result<Vec<StoredDocument>, StoreError> {
        let all = self.documents(key).await?;
        Ok(all.into_iter().filter(|stored| numbers.contains(&stored.document)).collect())
    }
}

/// Writes a scored document, in place of one that was.
pub(in crate::store) async fn write_document(
    tx: &mut Transaction<'_, Sqlite>,
    key: ScoreKey,
    document: &DocumentScore,
) -> Result<(), StoreError> {
    let mut digests = Vec::with_capacity(document.answers.len());
    for text in &document.answers {
        let digest = Digest::of(text.as_bytes()).to_string();
        let insert =
            "INSERT INTO answer_texts (digest, text) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING";
        sqlx::query(insert).bind(&digest).bind(text).execute(&mut **tx).await?;
        digests.push(digest);
    }
    let answers = (!digests.is_empty()).then(|| serde_json::to_string(&digests).unwrap_or_default());
    let insert = sqlx::query(
        "INSERT INTO scored_documents (score_key, document, requests, metrics, answers)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (score_key, document) DO UPDATE
         SET requests = excluded.requests, metrics = excluded.metrics, answers = excluded.answers",
    );
    insert
        .bind(key.0.to_string())
        .bind(document.document as i64)
        .bind(serde_json::to_string(&document.requests).unwrap_or_default())
        .bind(serde_json::to_string(&document.metrics).unwrap_or_default())
        .bind(answers)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Error: the attempt no longer holds the job. A job that was paused or cancelled keeps the results of its last attempt.
async fn fence(tx: &mut Transaction<'_, Sqlite>, attempt: Option<&Attempt>) -> Result<(), StoreError> {
    let Some(attempt) = attempt else { return Ok(()) };
    let query = sqlx::query(
        "SELECT COUNT(*) FROM jobs WHERE id = $1 AND attempt = $2 AND state IN ('running', 'paused', 'cancelled')",
    );
    let query = query.bind(attempt.job.as_str()).bind(i64::from(attempt.number.0));
    let count: i64 = query.fetch_one(&mut **tx).await?.try_get(0)?;
    if count > 0 {
        return Ok(());
    }
    Err(StoreError::Fenced { job: attempt.job.clone(), attempt: attempt.number })
}

/// Writes the scores of a task.
pub(in crate::store) async fn write_scores(
    tx: &mut Transaction<'_, Sqlite>,
    subject: Digest,
    record: &ScoreRecord,
) -> Result<(), StoreError> {
    for at in 0..record.aggregates.len() {
        write_score(tx, subject, record, at).await?;
    }
    Ok(())
}

/// Writes a record's metric at a position, with its values by document if it is their mean.
async fn write_score(
    tx: &mut Transaction<'_, Sqlite>,
    subject: Digest,
    record: &ScoreRecord,
    at: usize,
) -> Result<(), StoreError> {
    let (aggregate, key) = (&record.aggregates[at], record.key.0.to_string());
    let insert = sqlx::query(
        "INSERT INTO task_scores (score_key, metric, subject, task, value, stderr, documents, higher_is_better)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (task, metric, score_key) DO UPDATE
         SET value = excluded.value, stderr = excluded.stderr, documents = excluded.documents",
    );
    insert
        .bind(&key)
        .bind(aggregate.metric.as_str())
        .bind(subject.to_string())
        .bind(&record.task)
        // SQLite stores infinity; NaN becomes NULL.
        .bind(Some(aggregate.value).filter(|value| !value.is_nan()))
        .bind(aggregate.stderr)
        .bind(aggregate.documents as i64)
        .bind(i64::from(aggregate.metric.higher_is_better()))
        .execute(&mut **tx)
        .await?;
    let Some(values) = by_document(record, at) else { return Ok(()) };
    let insert = sqlx::query(
        "INSERT INTO document_values (score_key, metric, pairs) VALUES ($1, $2, $3)
         ON CONFLICT (score_key, metric) DO UPDATE SET pairs = excluded.pairs",
    );
    insert.bind(&key).bind(aggregate.metric.as_str()).bind(to_pairs(&values)).execute(&mut **tx).await?;
    Ok(())
}
