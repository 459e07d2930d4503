//! What attempts leave: curves, adapters, documents, scores, samples. Each row is one of them as JSON.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Postgres, Row, Transaction};

use super::connection::{Server, reading, transaction};
use super::orders::{digest, from_json, json};
use crate::job::{Digest, JobId, ScoreKey};
use crate::protocol::{DocumentScore, StepReport, Trained};
use crate::queue::{
    Attempt, AttemptResults, Record, ScoreRecord, StoredDocument, StoredSample, TrainingRecord,
};
use crate::store::error::StoreError;
use crate::task::{Aggregate, DocumentValue, Metric, RequestScore};

/// A finished training.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredTraining {
    trained: Trained,
    first: Option<f64>,
    last: Option<f64>,
    finished_ms: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredAggregate {
    metric: Metric,
    #[serde(with = "crate::job::real")]
    value: f64,
    stderr: Option<f64>,
    documents: u64,
}

/// The scores of a task.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredScores {
    task: String,
    aggregates: Vec<StoredAggregate>,
    documents: Vec<(usize, Vec<DocumentValue>)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredScoredDocument {
    requests: Vec<RequestScore>,
    metrics: Vec<DocumentValue>,
    #[serde(default)]
    answers: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredAnswer {
    position: i64,
    prompt: String,
    wanted: Option<String>,
    answer: String,
    tokens: i64,
}

impl StoredTraining {
    fn of(record: &TrainingRecord) -> Self {
        let (first, last) = record.losses.unzip();
        let finished_ms = crate::store::now_ms();
        Self { trained: record.trained.clone(), first, last, finished_ms }
    }

    /// The record, and when it was made.
    pub(super) fn record(self) -> (TrainingRecord, i64) {
        (TrainingRecord { trained: self.trained, losses: self.first.zip(self.last) }, self.finished_ms)
    }
}

impl StoredScores {
    fn of(record: &ScoreRecord) -> Self {
        let aggregate = |Aggregate { metric, value, stderr, documents }: &Aggregate| StoredAggregate {
            metric: *metric,
            value: *value,
            stderr: *stderr,
            documents: *documents,
        };
        let aggregates = record.aggregates.iter().map(aggregate).collect();
        Self { task: record.task.clone(), aggregates, documents: record.documents.clone() }
    }

    pub(super) fn record(self, key: ScoreKey) -> ScoreRecord {
        let aggregate = |StoredAggregate { metric, value, stderr, documents }| Aggregate {
            metric,
            value,
            stderr,
            documents,
        };
        let aggregates = self.aggregates.into_iter().map(aggregate).collect();
        ScoreRecord { key, task: self.task, aggregates, documents: self.documents }
    }
}

impl StoredScoredDocument {
    pub(super) fn score(self, document: usize) -> DocumentScore {
        let Self { requests, metrics, answers } = self;
        DocumentScore { task: 0, document, requests, metrics, answers }
    }
}

impl StoredAnswer {
    pub(super) fn sample(self, key: Digest) -> StoredSample {
        let Self { position, prompt, wanted, answer, tokens } = self;
        StoredSample { key, position, prompt, wanted, answer, tokens }
    }
}

/// Writes training results within a transaction.
pub(super) async fn write_training(
    connection: &mut PgConnection,
    subject: Digest,
    results: &AttemptResults,
) -> Result<(), StoreError> {
    let subject = subject.to_string();
    if !results.steps.is_empty() {
        // A statement replaces a row once.
        let points: std::collections::BTreeMap<i64, &StepReport> =
            results.steps.iter().map(|point| (point.step as i64, point)).collect();
        let steps: Vec<i64> = points.keys().copied().collect();
        let records: Vec<String> =
            points.values().map(|point| json("a point", point)).collect::<Result<_, _>>()?;
        let insert = sqlx::query(
            "INSERT INTO curve_points (subject, step, record)
             SELECT $1, n.step, n.record FROM UNNEST($2::bigint[], $3::text[]) AS n (step, record)
             ON CONFLICT (subject, step) DO UPDATE SET record = excluded.record",
        );
        insert.bind(&subject).bind(steps).bind(records).execute(&mut *connection).await?;
    }
    let Some(training) = &results.training else { return Ok(()) };
    let insert = sqlx::query(
        "INSERT INTO trainings (subject, record) VALUES ($1, $2)
         ON CONFLICT (subject) DO UPDATE SET record = excluded.record, removed = NULL",
    );
    let record = json("a training", &StoredTraining::of(training))?;
    insert.bind(&subject).bind(record).execute(&mut *connection).await?;
    Ok(())
}

impl Server {
    /// Writes a record, all of it or nothing; without an attempt for an evaluation outside of jobs. Error: [`StoreError::Fenced`] if the
    /// job was taken over; then nothing is written.
    pub(in crate::store) async fn write_record(
        &self,
        attempt: Option<&Attempt>,
        record: &Record,
    ) -> Result<(), StoreError> {
        transaction!(self, |tx| {
            fence(tx, attempt).await?;
            match record {
                Record::Training(subject, results) => write_training(tx, *subject, results).await,
                Record::Documents(documents) => write_documents(tx, documents).await,
                Record::Scores(subject, scores) => {
                    for record in scores {
                        write_scores(tx, *subject, record).await?;
                    }
                    Ok(())
                }
                Record::Sample(subject, sample) => write_sample(tx, *subject, sample).await,
            }
        })
    }

    /// The documents scored under a key, by number.
    pub(super) async fn documents_of(&self, key: ScoreKey) -> Result<Vec<StoredDocument>, StoreError> {
        reading!(self, |pool| {
            let query = sqlx::query(
                "SELECT document, record FROM scored_documents WHERE score_key = $1 ORDER BY document",
            );
            let mut documents = Vec::new();
            for row in query.bind(key.0.to_string()).fetch_all(pool).await? {
                let number: i64 = row.try_get(0)?;
                let StoredScoredDocument { requests, metrics, answers } =
                    from_json("a document", row.try_get(1)?)?;
                documents.push(StoredDocument { document: number as usize, requests, metrics, answers });
            }
            Ok(documents)
        })
    }

    /// A lock that one client has at a time, as long as the transaction lasts.
    pub(in crate::store) async fn keep_lock(
        &self,
    ) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        reading!(self, |pool| {
            let mut tx = pool.begin().await?;
            sqlx::query("SELECT pg_advisory_xact_lock(hashtext('loragrid keep'))").execute(&mut *tx).await?;
            Ok(tx)
        })
    }

    /// Records why adapters are no longer on disk; returns the subjects of those that may be removed now: no job is to run with them, and
    /// no other sweep wants them.
    pub(in crate::store) async fn note_removed(
        &self,
        subjects: &[String],
        why: &str,
    ) -> Result<Vec<String>, StoreError> {
        transaction!(self, |tx| {
            let update = sqlx::query_scalar(
                "UPDATE trainings t SET removed = $1 FROM jobs j
                 WHERE t.subject = ANY($2) AND t.removed IS NULL AND j.subject = t.subject AND j.wanted <= 1
                     AND j.state NOT IN ('queued', 'running', 'paused') RETURNING t.subject",
            );
            Ok(update.bind(why).bind(subjects).fetch_all(&mut **tx).await?)
        })
    }

    /// Removes unneeded files of a subject: `remove` is called while no other process can request it. `false`: it is needed.
    pub(in crate::store) async fn remove_unneeded(
        &self,
        subject: &str,
        adapter: bool,
        remove: impl AsyncFnOnce() -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let free = sqlx::query(
            "SELECT id FROM jobs WHERE subject = $1 AND state NOT IN ('queued', 'running', 'paused')
                 AND (NOT $2 OR wanted = 0 OR NOT EXISTS (SELECT 1 FROM trainings t
                     WHERE t.subject = jobs.subject AND t.removed IS NULL)) FOR UPDATE",
        );
        let is_free = free.bind(subject).bind(adapter).fetch_optional(&mut *tx).await?.is_some();
        if is_free {
            if adapter {
                let note = "UPDATE trainings SET removed = COALESCE(removed, $1) WHERE subject = $2";
                sqlx::query(note).bind("no sweep has its job").bind(subject).execute(&mut *tx).await?;
            }
            remove().await?;
        }
        tx.commit().await?;
        Ok(is_free)
    }
}

/// Error: the attempt no longer holds the job. A job that was paused or cancelled keeps the results of its last attempt.
async fn fence(tx: &mut Transaction<'_, Postgres>, attempt: Option<&Attempt>) -> Result<(), StoreError> {
    let Some(attempt) = attempt else { return Ok(()) };
    // Shared: nobody takes the job over until the record is written.
    let query = sqlx::query(
        "SELECT 1 FROM jobs WHERE id = $1 AND attempt = $2 AND state IN ('running', 'paused', 'cancelled') FOR SHARE",
    );
    let query = query.bind(attempt.job.as_str()).bind(i64::from(attempt.number.0));
    if query.fetch_optional(&mut **tx).await?.is_some() {
        return Ok(());
    }
    Err(StoreError::Fenced { job: JobId::clone(&attempt.job), attempt: attempt.number })
}

async fn write_documents(
    tx: &mut Transaction<'_, Postgres>,
    documents: &[(ScoreKey, DocumentScore)],
) -> Result<(), StoreError> {
    // A statement replaces a row once.
    let by_number: std::collections::BTreeMap<(String, i64), &DocumentScore> =
        documents.iter().map(|(key, score)| ((key.0.to_string(), score.document as i64), score)).collect();
    let (mut keys, mut numbers, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for ((key, number), score) in by_number {
        let DocumentScore { requests, metrics, answers, .. } = score.clone();
        keys.push(key);
        numbers.push(number);
        records.push(json("a document", &StoredScoredDocument { requests, metrics, answers })?);
    }
    let insert = sqlx::query(
        "INSERT INTO scored_documents (score_key, document, record)
         SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::text[])
         ON CONFLICT (score_key, document) DO UPDATE SET record = excluded.record",
    );
    insert.bind(keys).bind(numbers).bind(records).execute(&mut **tx).await?;
    Ok(())
}

async fn write_scores(
    tx: &mut Transaction<'_, Postgres>,
    subject: Digest,
    record: &ScoreRecord,
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "INSERT INTO scores (score_key, subject, record) VALUES ($1, $2, $3)
         ON CONFLICT (score_key) DO UPDATE SET record = excluded.record",
    );
    let text = json("scores", &StoredScores::of(record))?;
    insert.bind(record.key.0.to_string()).bind(subject.to_string()).bind(text).execute(&mut **tx).await?;
    Ok(())
}

async fn write_sample(
    tx: &mut Transaction<'_, Postgres>,
    subject: Digest,
    sample: &StoredSample,
) -> Result<(), StoreError> {
    let StoredSample { key, position, prompt, wanted, answer, tokens } = sample.clone();
    let insert = sqlx::query(
        "INSERT INTO samples (subject, sample_key, record) VALUES ($1, $2, $3)
         ON CONFLICT (subject, sample_key) DO UPDATE SET record = excluded.record",
    );
    let text = json("a sample", &StoredAnswer { position, prompt, wanted, answer, tokens })?;
    insert.bind(subject.to_string()).bind(key.to_string()).bind(text).execute(&mut **tx).await?;
    Ok(())
}

/// A score key from its stored form.
pub(super) fn score_key(text: &str) -> Result<ScoreKey, StoreError> {
    digest(text).map(ScoreKey)
}
