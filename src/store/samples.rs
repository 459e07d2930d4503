//! Answers to the prompts of `[samples]`.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::StoreError;
use super::open::Store;
use crate::job::{Digest, JobId};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoredSample {
    /// The prompt's place among those of its sweep.
    pub position: i64,
    /// What was asked, as the model read it.
    pub prompt: String,
    /// The row's own response; none for a prompt of a sweep file.
    pub wanted: Option<String>,
    /// What was answered.
    pub answer: String,
    /// Its tokens.
    pub tokens: i64,
}

impl Store {
    /// Records a subject's answer under the sample's key; one that is there already is replaced.
    pub async fn record_sample(
        &self,
        (subject, key): (Digest, Digest),
        sample: &StoredSample,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let insert = sqlx::query(
            "INSERT INTO sample_texts (subject, sample_key, position, prompt, wanted, answer, tokens)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (subject, sample_key) DO UPDATE
             SET position = excluded.position, answer = excluded.answer, tokens = excluded.tokens",
        );
        insert
            .bind(subject.to_string())
            .bind(key.to_string())
            .bind(sample.position)
            .bind(&sample.prompt)
            .bind(&sample.wanted)
            .bind(&sample.answer)
            .bind(sample.tokens)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// A job's answers, by their prompts' places.
    pub async fn samples(&self, job: &JobId) -> Result<Vec<StoredSample>, StoreError> {
        let query = sqlx::query(
            "SELECT s.position, s.prompt, s.wanted, s.answer, s.tokens FROM jobs j
             JOIN sample_texts s ON s.subject = j.subject WHERE j.id = $1 ORDER BY s.position, s.prompt",
        );
        let read = |row: &SqliteRow| {
            Ok(StoredSample {
                position: row.try_get(0)?,
                prompt: row.try_get(1)?,
                wanted: row.try_get(2)?,
                answer: row.try_get(3)?,
                tokens: row.try_get(4)?,
            })
        };
        query.bind(job.as_str()).fetch_all(&self.pool).await?.iter().map(read).collect()
    }
}
