//! Orders in the rows of jobs, and their progress.

use std::collections::{HashMap, HashSet};

use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};

use super::quoted;
use crate::job::{Digest, JobId, JobState, Transition};
use crate::orders::{JobOrder, OrderedWork};
use crate::queue::suspicion::is_suspect;
use crate::queue::{ActiveJob, JobProgress, Submission};
use crate::store::boards::job_details::read_state;
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::open::Store;
use crate::store::queue::read_digest;

/// Jobs per statement.
const CHUNK: usize = 400;

/// The row of a job of which only the order is known.
pub(super) async fn insert_bare(
    tx: &mut Transaction<'_, Sqlite>,
    Submission { order, is_done }: &Submission,
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "INSERT INTO jobs (id, subject, kind, state, model_identity, dtype, settings, trainable, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, '{}', 0, $7) ON CONFLICT (id) DO NOTHING",
    );
    let state = if *is_done { JobState::Done } else { JobState::Queued };
    insert
        .bind(order.id.as_str())
        .bind(order.key().to_string())
        .bind(match order.work {
            OrderedWork::Base | OrderedWork::Adapter { .. } => "base",
            OrderedWork::Train { .. } => "train",
        })
        .bind(state.as_str())
        .bind(order.model.identity.0.to_string())
        .bind(order.form.dtype.as_str())
        .bind(now_ms())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Stores an order in the row of its job, merged with what other sweeps already want. Queues a job that ended but lacks something.
pub(in crate::store) async fn put_order(
    tx: &mut Transaction<'_, Sqlite>,
    Submission { order, is_done }: &Submission,
) -> Result<(), StoreError> {
    let select = sqlx::query("SELECT job_order FROM jobs WHERE id = $1").bind(order.id.as_str());
    let earlier: Option<String> = select.fetch_one(&mut **tx).await?.try_get(0)?;
    match earlier.as_deref().map(parse_order).transpose()? {
        Some(earlier) => {
            let joined = order.clone().joined(earlier.clone());
            if joined != earlier {
                write_order(tx, &joined).await?;
            }
        }
        None => write_order(tx, order).await?,
    }
    if !is_done {
        let sources = quoted(Transition::Reopen);
        let reopen =
            format!("UPDATE jobs SET state = $1, reason = NULL WHERE id = $2 AND state IN ({sources})");
        let reopen = sqlx::query(AssertSqlSafe(reopen.as_str())).bind(JobState::Queued.as_str());
        reopen.bind(order.id.as_str()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Removes a sweep's wants from the orders of jobs that it no longer has.
pub(in crate::store) async fn drop_wants(
    tx: &mut Transaction<'_, Sqlite>,
    sweep: &str,
    dropped: &[JobId],
) -> Result<(), StoreError> {
    for job in dropped {
        let select = sqlx::query("SELECT job_order FROM jobs WHERE id = $1").bind(job.as_str());
        let Some(row) = select.fetch_optional(&mut **tx).await? else { continue };
        let Some(text) = row.try_get::<Option<String>, _>(0)? else { continue };
        let mut order = parse_order(&text)?;
        if order.sweeps.remove(sweep).is_some() {
            write_order(tx, &order).await?;
        }
    }
    Ok(())
}

/// The stored form of an order.
pub(in crate::store) fn text_of(order: &JobOrder) -> Result<String, StoreError> {
    let text = serde_json::to_string(order)
        .map_err(|error| StoreError::Value { what: "an order", value: error.to_string() })?;
    // Parsed before it is written: an order that cannot be read would never run.
    assert!(
        serde_json::from_str::<JobOrder>(&text).is_ok_and(|read| read == *order),
        "an order reads back as itself"
    );
    Ok(text)
}

async fn write_order(tx: &mut Transaction<'_, Sqlite>, order: &JobOrder) -> Result<(), StoreError> {
    let text = text_of(order)?;
    let update =
        sqlx::query("UPDATE jobs SET job_order = $1, wanted = $2, revision = revision + 1 WHERE id = $3");
    update.bind(text).bind(order.sweeps.len() as i64).bind(order.id.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// Characters of an order in an error.
const SHOWN: usize = 80;

pub(in crate::store) fn parse_order(text: &str) -> Result<JobOrder, StoreError> {
    serde_json::from_str(text).map_err(|error| {
        let start: String = text.chars().take(SHOWN).collect();
        StoreError::Value { what: "an order", value: format!("{error}, in {start}…") }
    })
}

impl Store {
    /// The priority of a sweep's newest version; 0 where no job has an order. Error: no such sweep.
    pub async fn priority(&self, sweep: &str) -> Result<i64, StoreError> {
        let (id, _, name) = self.find_sweep(Some(sweep)).await?;
        let mut connection = self.pool.acquire().await?;
        super::sweeps::last_priority(&mut connection, id, &name).await
    }

    /// Gives the waiting jobs of a sweep's newest version this priority. Returns how many got another one. Error: no such sweep.
    pub async fn set_priority(&self, sweep: &str, priority: i64) -> Result<u64, StoreError> {
        // Of a running job nothing changes: one that is wanted otherwise than when it was claimed would be queued again.
        let waiting = self.jobs_in(Some(sweep), &[JobState::Queued, JobState::Paused]).await?;
        if let Some(server) = &self.server {
            let changed = server.set_priority(sweep, &waiting, priority).await?;
            self.refresh().await?;
            return Ok(changed);
        }
        let mut tx = self.begin().await?;
        let mut changed = 0;
        for job in &waiting {
            let select = "SELECT job_order FROM jobs WHERE id = $1 AND state IN ('queued', 'paused')";
            let row = sqlx::query(select).bind(job.as_str()).fetch_optional(&mut *tx).await?;
            let text = row.map(|row| row.try_get::<Option<String>, _>(0)).transpose()?.flatten();
            let Some(mut order) = text.as_deref().map(parse_order).transpose()? else { continue };
            let Some(wants) = order.sweeps.get_mut(sweep).filter(|wants| wants.priority != priority) else {
                continue;
            };
            wants.priority = priority;
            write_order(&mut tx, &order).await?;
            changed += 1;
        }
        tx.commit().await?;
        Ok(changed)
    }

    pub(super) async fn active_jobs(&self) -> Result<Vec<ActiveJob>, StoreError> {
        let query = sqlx::query(
            "SELECT j.id, j.state, j.revision,
                    (SELECT a.reason FROM job_attempts a WHERE a.job_id = j.id AND a.attempt = j.attempt)
             FROM jobs j WHERE j.state IN ('queued', 'running') AND j.wanted > 0",
        );
        let mut active = Vec::new();
        for row in query.fetch_all(&self.pool).await? {
            let (state, reason): (_, Option<String>) = (read_state(&row, 1)?, row.try_get(3)?);
            active.push(ActiveJob {
                id: JobId::from_store(row.try_get(0)?),
                state,
                revision: row.try_get(2)?,
                suspect: state == JobState::Queued && reason.as_deref().is_some_and(is_suspect),
                priority: 0,
            });
        }
        Ok(active)
    }

    /// Names of sweeps whose newest version has queued jobs from an earlier release, which have no order.
    pub async fn sweeps_without_orders(&self) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT s.name FROM sweeps s
             JOIN (SELECT sweep_id, MAX(version) AS version, MAX(created_ms) AS created_ms
                   FROM sweep_versions GROUP BY sweep_id) v ON v.sweep_id = s.id
             WHERE EXISTS (SELECT 1 FROM sweep_jobs sj JOIN jobs j ON j.id = sj.job_id
                           WHERE sj.sweep_id = s.id AND sj.version = v.version AND j.state = 'queued'
                           AND (j.job_order IS NULL
                                OR json_type(j.job_order, '$.sweeps.\"' || s.name || '\"') IS NULL))
             ORDER BY v.created_ms, s.id",
        );
        Ok(query.fetch_all(&self.pool).await?)
    }

    /// Jobs whose order does not include a sweep, or that have none.
    pub async fn without_orders(&self, sweep: &str, jobs: &[JobId]) -> Result<Vec<JobId>, StoreError> {
        let bare = sqlx::query_scalar(
            "SELECT id FROM jobs WHERE job_order IS NULL OR json_type(job_order, '$.sweeps.\"' || $1 || '\"') IS NULL",
        );
        let bare: HashSet<String> = bare.bind(sweep).fetch_all(&self.pool).await?.into_iter().collect();
        Ok(jobs.iter().filter(|job| bare.contains(job.as_str())).cloned().collect())
    }

    pub(super) async fn read_orders(
        &self,
        jobs: &[JobId],
    ) -> Result<Vec<(JobOrder, JobProgress)>, StoreError> {
        let mut read = Vec::with_capacity(jobs.len());
        for chunk in jobs.chunks(CHUNK) {
            let mut orders = Vec::with_capacity(chunk.len());
            let ids: Vec<&str> = chunk.iter().map(JobId::as_str).collect();
            for row in
                self.select_in("SELECT job_order FROM jobs WHERE job_order IS NOT NULL AND id", &ids).await?
            {
                orders.push(parse_order(&row.try_get::<String, _>(0)?)?);
            }
            let mut done = self.done_of(&orders).await?;
            read.extend(orders.into_iter().map(|order| {
                let progress = done.remove(&order.key().to_string()).unwrap_or_default();
                (order, progress)
            }));
        }
        Ok(read)
    }

    /// Finished work of some jobs, by subject; documents are left out.
    async fn done_of(&self, orders: &[JobOrder]) -> Result<HashMap<String, JobProgress>, StoreError> {
        let subjects: Vec<String> = orders.iter().map(|order| order.key().to_string()).collect();
        let subjects: Vec<&str> = subjects.iter().map(String::as_str).collect();
        let mut done: HashMap<String, JobProgress> = HashMap::new();
        // One statement: the switch between threads costs more than the rows.
        let statement = "SELECT subject, kind, removed, key FROM (
                 SELECT subject, 0 AS kind, adapter_removed IS NOT NULL AS removed, adapter_digest AS key FROM trainings
                 UNION ALL SELECT DISTINCT subject, 1, 0, score_key FROM task_scores
                 UNION ALL SELECT subject, 2, 0, sample_key FROM sample_texts
             ) WHERE subject";
        for row in self.select_in(statement, &subjects).await? {
            let (subject, kind): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            if kind == 0 {
                let is_there = !row.try_get::<bool, _>(2)? && self.has_adapter(&subject);
                let weights: Option<String> = row.try_get(3)?;
                let progress = done.entry(subject).or_default();
                (progress.trained, progress.removed) = (is_there, !is_there);
                progress.weights = weights.as_deref().and_then(Digest::parse);
                continue;
            }
            let (key, progress) = (read_digest(&row, 3)?, done.entry(subject).or_default());
            if kind == 1 {
                progress.scored.insert(crate::job::ScoreKey(key));
            } else {
                progress.sampled.insert(key);
            }
        }
        Ok(done)
    }

    pub(super) async fn progress_of(&self, order: &JobOrder) -> Result<JobProgress, StoreError> {
        let mut done = self.done_of(std::slice::from_ref(order)).await?;
        let mut progress = done.remove(&order.key().to_string()).unwrap_or_default();
        for task in order.tasks().filter(|task| !progress.scored.contains(&task.key)) {
            progress.documents.insert(task.key, self.scored_documents(task.key).await?);
        }
        Ok(progress)
    }

    /// The rows of a statement whose last column has one of these values.
    async fn select_in(
        &self,
        statement: &str,
        values: &[&str],
    ) -> Result<Vec<sqlx::sqlite::SqliteRow>, StoreError> {
        let marks = vec!["?"; values.len()].join(", ");
        let statement = format!("{statement} IN ({marks})");
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for value in values {
            query = query.bind(*value);
        }
        Ok(query.fetch_all(&self.pool).await?)
    }
}
