//! Answers to the prompts of `[samples]`.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use crate::job::{Digest, JobId};
use crate::queue::StoredSample;
use crate::store::boards::board::Leaderboard;
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::store::queue::read_digest;

/// Writes a subject's answer; an existing one is replaced.
pub(in crate::store) async fn write_sample(
    tx: &mut Transaction<'_, Sqlite>,
    subject: Digest,
    sample: &StoredSample,
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "INSERT INTO sample_texts (subject, sample_key, position, prompt, wanted, answer, tokens)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (subject, sample_key) DO UPDATE
         SET position = excluded.position, answer = excluded.answer, tokens = excluded.tokens",
    );
    insert
        .bind(subject.to_string())
        .bind(sample.key.to_string())
        .bind(sample.position)
        .bind(&sample.prompt)
        .bind(&sample.wanted)
        .bind(&sample.answer)
        .bind(sample.tokens)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

impl Store {
    /// A job's answers to the prompts of the newest sweep that contains it and has samples, in that order; all answers if none has.
    pub async fn samples(&self, job: &JobId) -> Result<Vec<StoredSample>, StoreError> {
        let query = sqlx::query(
            "SELECT v.sweep_id, v.version FROM sweep_versions v
             JOIN sweep_jobs s ON s.sweep_id = v.sweep_id AND s.version = v.version AND s.job_id = $1
             WHERE EXISTS (SELECT 1 FROM wanted_samples w WHERE w.sweep_id = v.sweep_id AND w.version = v.version)
             ORDER BY v.created_ms DESC, v.sweep_id DESC, v.version DESC LIMIT 1",
        );
        match query.bind(job.as_str()).fetch_optional(&self.pool).await? {
            Some(row) => self.samples_in(job, (row.try_get(0)?, row.try_get(1)?)).await,
            // From a release that did not record which prompts a sweep has.
            None => self.all_samples(job).await,
        }
    }

    /// Whether a board's sweep has samples.
    pub async fn asks_for_samples(&self, board: &Leaderboard) -> Result<bool, StoreError> {
        let (sweep, ..) = self.find_sweep(Some(&board.sweep)).await?;
        let query = sqlx::query("SELECT 1 FROM wanted_samples WHERE sweep_id = $1 AND version = $2 LIMIT 1");
        Ok(query.bind(sweep).bind(board.version).fetch_optional(&self.pool).await?.is_some())
    }

    /// A job's answers to the prompts of a board's sweep, in its order.
    pub async fn samples_of(
        &self,
        board: &Leaderboard,
        job: &JobId,
    ) -> Result<Vec<StoredSample>, StoreError> {
        let (sweep, ..) = self.find_sweep(Some(&board.sweep)).await?;
        self.samples_in(job, (sweep, board.version)).await
    }

    async fn samples_in(
        &self,
        job: &JobId,
        (sweep, version): (i64, i64),
    ) -> Result<Vec<StoredSample>, StoreError> {
        let query = sqlx::query(
            "SELECT s.sample_key, w.position, s.prompt, s.wanted, s.answer, s.tokens FROM wanted_samples w
             JOIN jobs j ON j.id = $1
             JOIN sample_texts s ON s.subject = j.subject AND s.sample_key = w.sample_key
             WHERE w.sweep_id = $2 AND w.version = $3 ORDER BY w.position",
        );
        let rows = query.bind(job.as_str()).bind(sweep).bind(version).fetch_all(&self.pool).await?;
        rows.iter().map(read_sample).collect()
    }

    /// All answers of a job, for any sweep.
    pub async fn all_samples(&self, job: &JobId) -> Result<Vec<StoredSample>, StoreError> {
        let query = sqlx::query(
            "SELECT s.sample_key, s.position, s.prompt, s.wanted, s.answer, s.tokens FROM jobs j
             JOIN sample_texts s ON s.subject = j.subject WHERE j.id = $1 ORDER BY s.position, s.prompt",
        );
        query.bind(job.as_str()).fetch_all(&self.pool).await?.iter().map(read_sample).collect()
    }
}

fn read_sample(row: &SqliteRow) -> Result<StoredSample, StoreError> {
    Ok(StoredSample {
        key: read_digest(row, 0)?,
        position: row.try_get(1)?,
        prompt: row.try_get(2)?,
        wanted: row.try_get(3)?,
        answer: row.try_get(4)?,
        tokens: row.try_get(5)?,
    })
}
