//! Bringing home what changed on the server, into the file of this machine, by which every command reads.

use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row, Sqlite, Transaction};

use super::connection::Server;
use super::orders::{JobFacts, digest, from_json};
use super::results::{StoredAnswer, StoredScoredDocument, StoredScores, StoredTraining, score_key};
use super::submission::VersionRows;
use crate::protocol::StepReport;
use crate::queue::AttemptResults;
use crate::store::error::StoreError;
use crate::store::open::Store;
use crate::store::results::attempt_results::{write_document, write_scores, write_training};
use crate::store::results::samples::write_sample;

/// What came home.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct BroughtHome {
    /// Jobs that are new or changed.
    pub jobs: u64,
    /// Attempts that are new or changed.
    pub attempts: u64,
    /// Finished trainings.
    pub trainings: u64,
    /// Scored documents.
    pub documents: u64,
    /// Scores of a task.
    pub scores: u64,
}

impl Store {
    /// Brings home what changed on the server since the last time; nothing without a server. Errors: the server's, the file's,
    /// [`StoreError::ForeignCopy`].
    pub async fn refresh(&self) -> Result<BroughtHome, StoreError> {
        let Some(server) = &self.server else { return Ok(BroughtHome::default()) };
        let mut tries = server.tries();
        loop {
            let tried = self.bring_home(server).await;
            if let Some(ended) = tries.ended(tried).await {
                return ended;
            }
        }
    }

    async fn bring_home(&self, server: &Server) -> Result<BroughtHome, StoreError> {
        let identity = server.identity().await?;
        // Others that read at the same time wait, and find the work done.
        let mut tx = self.begin().await?;
        let row = sqlx::query("SELECT server, since FROM server_copy").fetch_optional(&mut *tx).await?;
        let since: String = match row {
            None => {
                let insert = "INSERT INTO server_copy (server, since) VALUES ($1, '0')";
                sqlx::query(insert).bind(&identity).execute(&mut *tx).await?;
                "0".to_owned()
            }
            Some(row) => {
                let server: String = row.try_get(0)?;
                if server != identity {
                    return Err(StoreError::ForeignCopy { path: self.path().to_owned() });
                }
                row.try_get(1)?
            }
        };
        let mut from = server.pool.begin().await?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut *from).await?;
        let oldest = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text";
        let oldest: String = sqlx::query_scalar(oldest).fetch_one(&mut *from).await?;
        let brought = copy(&mut tx, &mut from, &since).await?;
        from.rollback().await?;
        sqlx::query("UPDATE server_copy SET since = $1").bind(&oldest).execute(&mut *tx).await?;
        tx.commit().await?;
        self.brought.fetch_add(i64::from(brought != BroughtHome::default()), Ordering::Relaxed);
        Ok(brought)
    }
}

/// Copies what changed; what others refer to comes first.
async fn copy(
    tx: &mut Transaction<'_, Sqlite>,
    from: &mut PgConnection,
    since: &str,
) -> Result<BroughtHome, StoreError> {
    let jobs = copy_jobs(tx, from, since).await?;
    copy_sweeps(tx, from, since).await?;
    let attempts = copy_attempts(tx, from, since).await?;
    copy_points(tx, from, since).await?;
    let trainings = copy_trainings(tx, from, since).await?;
    let documents = copy_documents(tx, from, since).await?;
    let scores = copy_scores(tx, from, since).await?;
    copy_samples(tx, from, since).await?;
    copy_operations(tx, from, since).await?;
    copy_uses(tx, from).await?;
    Ok(BroughtHome { jobs, attempts, trainings, documents, scores })
}

/// The rows of a table that changed, as they come.
fn changed<'f>(from: &'f mut PgConnection, select: &str, since: &str, order: &str) -> Rows<'f> {
    let query = format!("{select} WHERE changed >= $1::xid8 ORDER BY {order}");
    sqlx::query(AssertSqlSafe(query)).bind(since.to_owned()).fetch(from)
}

type Rows<'f> = BoxStream<'f, Result<PgRow, sqlx::Error>>;

async fn copy_jobs(
    tx: &mut Transaction<'_, Sqlite>,
    from: &mut PgConnection,
    since: &str,
) -> Result<u64, StoreError> {
    let select = "SELECT id, subject, state, attempt, reason, facts, job_order, revision, wanted FROM jobs";
    let mut rows = changed(from, select, since, "place");
    let mut count = 0;
    while let Some(row) = rows.next().await {
        let row = row?;
        let facts: JobFacts = from_json("facts", row.try_get(5)?)?;
        let insert = sqlx::query(
            "INSERT INTO jobs (id, subject, kind, state, attempt, reason, model_identity, dtype, settings, trainable,
                 created_ms, numerics, job_order, revision, wanted)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT (id) DO UPDATE
             SET state = excluded.state, attempt = excluded.attempt, reason = excluded.reason,
                 job_order = excluded.job_order, revision = excluded.revision, wanted = excluded.wanted",
        );
        let insert =
            insert.bind(row.try_get::<&str, _>(0)?).bind(row.try_get::<&str, _>(1)?).bind(facts.kind);
        let insert = insert.bind(row.try_get::<&str, _>(2)?).bind(row.try_get::<i64, _>(3)?);
        let insert =
            insert.bind(row.try_get::<Option<&str>, _>(4)?).bind(facts.model_identity).bind(facts.dtype);
        let insert =
            insert.bind(facts.settings).bind(facts.trainable).bind(facts.created_ms).bind(facts.numerics);
        let insert = insert.bind(row.try_get::<&str, _>(6)?).bind(row.try_get::<i64, _>(7)?);
        insert.bind(row.try_get::<i64, _>(8)?).execute(&mut **tx).await?;
        count += 1;
    }
    Ok(count)
}

async fn copy_sweeps(
    tx: &mut Transaction<'_, Sqlite>,
    from: &mut PgConnection,
    since: &str,
) -> Result<u64, StoreError> {
    let select = "SELECT id, name, created_ms, is_removed FROM sweeps";
    let mut rows = changed(from, select, since, "id");
    while let Some(row) = rows.next().await {
        let row = row?;
        let (id, name): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
        if row.try_get(3)? {
            crate::store::queue::delete_sweep(tx, id).await?;
            continue;
        }
        let insert =
            "INSERT INTO sweeps (id, name, created_ms) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING";
        sqlx::query(insert).bind(id).bind(name).bind(row.try_get::<i64, _>(2)?).execute(&mut **tx).await?;
    }
    drop(rows);
    let select = "SELECT sweep_id, version, rows FROM sweep_versions";
    let mut rows = changed(from, select, since, "sweep_id, version");
    let mut count = 0;
    while let Some(row) = rows.next().await {
        let row = row?;
        let rows: VersionRows = from_json("a version", row.try_get(2)?)?;
        rows.write(tx, (row.try_get(0)?, row.try_get(1)?)).await?;
        count += 1;
    }
    Ok(count)
}

async fn copy_attempts(
    tx: &mut Transaction<'_, Sqlite>,
    from: &mut PgConnection,
    since: &str,
) -> Result<u64, StoreError> {
    let select = "SELECT job_id, attempt, owner, device, threads, token_budget, log, started_ms, beat, ended_ms, outcome,
        reason, seconds, reach FROM job_attempts";
    let mut rows = changed(from, select, since, "started_ms");
    let mut count = 0;
    while let Some(row) = rows.next().await {
        let row = row?;
        let insert = sqlx::query(
            "INSERT OR REPLACE INTO job_attempts (job_id, attempt, owner, device, threads, token_budget, log, started_ms,
                 beat, ended_ms, outcome, reason, seconds, reach)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        );
        let insert = insert.bind(row.try_get::<&str, _>(0)?).bind(row.try_get::<i64, _>(1)?);
        let insert = insert.bind(row.try_get::<&str, _>(2)?).bind(row.try_get::<&str, _>(3)?);
        let insert = insert.bind(row.try_get::<i64, _>(4)?).bind(row.try_get::<i64, _>(5)?);
        let insert = insert.bind(row.try_get::<&str, _>(6)?).bind(row.try_get::<i64, _>(7)?);
        let insert = insert.bind(row.try_get::<i64, _>(8)?).bind(row.try_get::<Option<i64>, _>(9)?);
        let insert =
            insert.bind(row.try_get::<Option<&str>, _>(10)?).bind(row.try_get::<Option<&str>, _>(11)?);
        let insert = insert.bind(row.try_get::<Option<f64>, _>(12)?).bind(row.try_get::<Option<i64>, _>(13)?);
        insert.execute(&mut **tx).await?;
        count += 1;
    }
    Ok(count)
}

async fn copy_points(
    tx: &mut Transaction<'_, Sqlite>,
    from: &mut PgConnection,
    since: &str,
) -> Result<u64, StoreError> {
    let select = "SELECT subject, record FROM curve_points";
    let mut rows = changed(from, select, since, "subject, step");
    let mut count = 0;
    while let Some(row) = rows.next().await {
        let row = row?;
        let steps = vec![from_json::<StepReport>("a point", row.try_get(1)?)?];
        write_training(tx, digest(row.try_get(0)?)?, &AttemptResults { steps, training: None }, 0).await?;
        count += 1;
    }
    Ok(count)
}

async fn copy_trainings(
    tx: &mut Transaction<'_, Sqlite>,
    from: &mut PgConnection,
    since: &str,
) -> Result<u64, StoreError> {
    let select = "SELECT subject, record, removed FROM trainings";
    let mut rows = changed(from, select, since, "subject");
    let mut count = 0;
    while let Some(row) = rows.next().await {
        let row = row?;
        let subject: &str = row.try_get(0)?;
        let (training, finished_ms) = from_json::<StoredTraining>("a training", row.try_get(1)?)?.record();
        let results = AttemptResults { steps: Vec::new(), training: Some(training) };
        write_training(tx, digest(subject)?, &results, finished_ms).await?;
        let update = sqlx::query("UPDATE trainings SET adapter_removed = $1 WHERE subject = $2");
        update.bind(row.try_get::<Option<&str>, _>(2)?).bind(subject).execute(&mut **tx).await?;
        count += 1;
    }
    Ok(count)
}

async fn copy_documents(
    tx: &mut Transaction<'_, Sqlite>,
    from: &mut PgConnection,
    since: &str,
) -> Result<u64, StoreError> {
    let select = "SELECT score_key, document, record FROM scored_documents";
    let mut rows = changed(from, select, since, "score_key, document");
    let mut count = 0;
    while let Some(row) = rows.next().await {
        let row = row?;
        let (key, number): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
        let document: StoredScoredDocument = from_json("a document", row.try_get(2)?)?;
        write_document(tx, score_key(key)?, &document.score(number as usize)).await?;
        count += 1;
    }
    Ok(count)
}

async fn copy_scores(
    tx: &mut Transaction<'_, Sqlite>,
    from: &mut PgConnection,
    since: &str,
) -> Result<u64, StoreError> {
    let select = "SELECT score_key, subject, record FROM scores";
    let mut rows = changed(from, select, since, "score_key");
    let mut count = 0;
    while let Some(row) = rows.next().await {
        let row = row?;
        let key = score_key(row.try_get(0)?)?;
        let scores: StoredScores = from_json("scores", row.try_get(2)?)?;
        write_scores(tx, digest(row.try_get(1)?)?, &scores.record(key)).await?;
        count += 1;
    }
    Ok(count)
}

async fn copy_samples(
    tx: &mut Transaction<'_, Sqlite>,
    from: &mut PgConnection,
    since: &str,
) -> Result<u64, StoreError> {
    let select = "SELECT subject, sample_key, record FROM samples";
    let mut rows = changed(from, select, since, "subject, sample_key");
    let mut count = 0;
    while let Some(row) = rows.next().await {
        let row = row?;
        let answer: StoredAnswer = from_json("a sample", row.try_get(2)?)?;
        write_sample(tx, digest(row.try_get(0)?)?, &answer.sample(digest(row.try_get(1)?)?)).await?;
        count += 1;
    }
    Ok(count)
}

async fn copy_operations(
    tx: &mut Transaction<'_, Sqlite>,
    from: &mut PgConnection,
    since: &str,
) -> Result<u64, StoreError> {
    let select = "SELECT id, at_ms, who, origin, kind, subject, before, undone_ms FROM operations";
    let mut rows = changed(from, select, since, "id");
    let mut count = 0;
    while let Some(row) = rows.next().await {
        let row = row?;
        let insert = sqlx::query(
            "INSERT OR REPLACE INTO operations (id, at_ms, who, origin, kind, subject, before, undone_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        );
        let mut insert = insert.bind(row.try_get::<i64, _>(0)?).bind(row.try_get::<i64, _>(1)?);
        for column in 2..7 {
            insert = insert.bind(row.try_get::<&str, _>(column)?);
        }
        insert.bind(row.try_get::<Option<i64>, _>(7)?).execute(&mut **tx).await?;
        count += 1;
    }
    Ok(count)
}

/// Replaces what slots use: few rows, which are removed when their worker ends.
async fn copy_uses(tx: &mut Transaction<'_, Sqlite>, from: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM slot_use").execute(&mut **tx).await?;
    let select =
        "SELECT owner, device, sampled_ms, memory, total_memory, used, temperature, power FROM slot_use";
    for row in sqlx::query(select).fetch_all(&mut *from).await? {
        let insert = sqlx::query(
            "INSERT INTO slot_use (owner, device, sampled_ms, memory, total_memory, used, temperature, power)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        );
        let insert = insert.bind(row.try_get::<&str, _>(0)?).bind(row.try_get::<&str, _>(1)?);
        let insert = insert.bind(row.try_get::<i64, _>(2)?).bind(row.try_get::<i64, _>(3)?);
        let mut insert = insert.bind(row.try_get::<i64, _>(4)?);
        for column in 5..8 {
            insert = insert.bind(row.try_get::<Option<f64>, _>(column)?);
        }
        insert.execute(&mut **tx).await?;
    }
    Ok(())
}
