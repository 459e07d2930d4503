//! Orders in the rows of jobs, and their progress.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Row, Transaction};

use super::connection::{Server, reading};
use crate::job::{Digest, JobId, JobState, ScoreKey, Transition};
use crate::orders::{JobOrder, OrderedWork};
use crate::queue::{JobProgress, Submission};
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::queue::{parse_order, text_of};

/// Jobs per statement.
const CHUNK: usize = 1000;

/// What of a job never changes, beside its subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobFacts {
    pub(super) kind: String,
    pub(super) model_identity: String,
    pub(super) dtype: String,
    pub(super) settings: String,
    pub(super) trainable: i64,
    pub(super) created_ms: i64,
    pub(super) numerics: i64,
}

impl JobFacts {
    /// Those of which an order knows.
    fn bare(order: &JobOrder) -> Self {
        let kind = match order.work {
            OrderedWork::Base | OrderedWork::Adapter { .. } => "base",
            OrderedWork::Train { .. } => "train",
        };
        Self {
            kind: kind.to_owned(),
            model_identity: order.model.identity.0.to_string(),
            dtype: order.form.dtype.as_str().to_owned(),
            settings: "{}".to_owned(),
            trainable: 0,
            created_ms: now_ms(),
            numerics: 0,
        }
    }
}

/// The states from which a transition may start.
pub(super) fn words(transition: Transition) -> Vec<&'static str> {
    transition.sources().iter().map(|state| state.as_str()).collect()
}

/// The ids of jobs.
pub(super) fn ids(jobs: &[JobId]) -> Vec<String> {
    jobs.iter().map(|job| job.as_str().to_owned()).collect()
}

/// The stored form of a value.
pub(super) fn json<T: Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Value { what, value: error.to_string() })
}

/// A value from its stored form.
pub(super) fn from_json<'a, T: Deserialize<'a>>(what: &'static str, text: &'a str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Value { what, value: error.to_string() })
}

pub(super) fn digest(text: &str) -> Result<Digest, StoreError> {
    Digest::parse(text).ok_or_else(|| StoreError::Value { what: "a digest", value: text.to_owned() })
}

fn score_keys(order: &JobOrder) -> Vec<String> {
    order.tasks().map(|task| task.key.0.to_string()).collect()
}

/// Queues jobs, each with its facts where they are known: new ones, and ones that ended but lack something. Orders are merged with what
/// other sweeps already want.
pub(super) async fn put_jobs(
    tx: &mut Transaction<'_, Postgres>,
    jobs: &[(Submission, Option<JobFacts>)],
) -> Result<(), StoreError> {
    // In the order of the sweep, which is the order of places.
    let mut sorted: Vec<&(Submission, Option<JobFacts>)> = jobs.iter().collect();
    sorted.sort_by_key(|(job, _)| job.order.position());
    let mut known: Vec<&(Submission, Option<JobFacts>)> = Vec::new();
    for chunk in sorted.chunks(CHUNK) {
        let new = insert_new(tx, chunk).await?;
        known.extend(chunk.iter().filter(|(job, _)| !new.contains(job.order.id.as_str())));
    }
    // Clients that submit at the same time lock jobs in the same order.
    known.sort_by(|a, b| a.0.order.id.as_str().cmp(b.0.order.id.as_str()));
    for (Submission { order, is_done }, _) in known {
        let earlier = order_of(tx, &order.id).await?;
        if let Some(earlier) = earlier {
            let joined = order.clone().joined(earlier.clone());
            if joined != earlier {
                write_order(tx, &joined).await?;
            }
        }
        if !is_done {
            let reopen = "UPDATE jobs SET state = $1, reason = NULL WHERE id = $2 AND state = ANY($3)";
            let reopen = sqlx::query(reopen).bind(JobState::Queued.as_str()).bind(order.id.as_str());
            reopen.bind(words(Transition::Reopen)).execute(&mut **tx).await?;
        }
    }
    Ok(())
}

/// Inserts those of the jobs that are new; returns their ids.
async fn insert_new(
    tx: &mut Transaction<'_, Postgres>,
    jobs: &[&(Submission, Option<JobFacts>)],
) -> Result<HashSet<String>, StoreError> {
    let (mut id, mut subject, mut state, mut facts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut text, mut keys, mut wanted, mut priority) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (Submission { order, is_done }, known) in jobs {
        id.push(order.id.as_str().to_owned());
        subject.push(order.key().to_string());
        state.push(if *is_done { JobState::Done } else { JobState::Queued }.as_str());
        facts.push(json("facts", known.as_ref().unwrap_or(&JobFacts::bare(order)))?);
        text.push(text_of(order)?);
        keys.push(json("keys", &score_keys(order))?);
        wanted.push(order.sweeps.len() as i64);
        priority.push(order.priority());
    }
    let insert = sqlx::query_scalar(
        "INSERT INTO jobs (id, subject, state, facts, job_order, score_keys, wanted, priority)
         SELECT n.id, n.subject, n.state, n.facts, n.job_order,
             ARRAY(SELECT json_array_elements_text(n.keys::json)), n.wanted, n.priority
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[])
             WITH ORDINALITY AS n (id, subject, state, facts, job_order, keys, wanted, priority, place)
         ORDER BY n.place
         ON CONFLICT (id) DO NOTHING RETURNING id",
    );
    let insert = insert.bind(id).bind(subject).bind(state).bind(facts).bind(text).bind(keys);
    let insert = insert.bind(wanted).bind(priority);
    Ok(insert.fetch_all(&mut **tx).await?.into_iter().collect())
}

/// The order of a job, which nobody else changes until the transaction ends.
pub(super) async fn order_of(
    tx: &mut Transaction<'_, Postgres>,
    job: &JobId,
) -> Result<Option<JobOrder>, StoreError> {
    let select = sqlx::query("SELECT job_order FROM jobs WHERE id = $1 FOR UPDATE").bind(job.as_str());
    let row = select.fetch_optional(&mut **tx).await?;
    row.map(|row| parse_order(row.try_get(0)?)).transpose()
}

pub(super) async fn write_order(
    tx: &mut Transaction<'_, Postgres>,
    order: &JobOrder,
) -> Result<(), StoreError> {
    let update = sqlx::query(
        "UPDATE jobs SET job_order = $1, score_keys = $2, wanted = $3, priority = $4, revision = revision + 1
         WHERE id = $5",
    );
    let update = update.bind(text_of(order)?).bind(score_keys(order)).bind(order.sweeps.len() as i64);
    update.bind(order.priority()).bind(order.id.as_str()).execute(&mut **tx).await?;
    Ok(())
}

/// Removes a sweep's wants from the orders of jobs that it no longer has.
pub(super) async fn drop_wants(
    tx: &mut Transaction<'_, Postgres>,
    sweep: &str,
    dropped: &[JobId],
) -> Result<(), StoreError> {
    let mut dropped: Vec<&JobId> = dropped.iter().collect();
    dropped.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    for job in dropped {
        let Some(mut order) = order_of(tx, job).await? else { continue };
        if order.sweeps.remove(sweep).is_some() {
            write_order(tx, &order).await?;
        }
    }
    Ok(())
}

impl Server {
    pub(super) async fn read_orders(
        &self,
        jobs: &[JobId],
    ) -> Result<Vec<(JobOrder, JobProgress)>, StoreError> {
        let mut read = Vec::with_capacity(jobs.len());
        for chunk in jobs.chunks(CHUNK) {
            let (rows, mut done) = reading!(self, |pool| {
                let query = sqlx::query_scalar("SELECT job_order FROM jobs WHERE id = ANY($1)");
                let rows: Vec<String> = query.bind(ids(chunk)).fetch_all(pool).await?;
                let orders: Vec<JobOrder> =
                    rows.iter().map(|text| parse_order(text)).collect::<Result<_, _>>()?;
                let subjects = orders.iter().map(|order| order.key().to_string()).collect();
                Ok((orders, self.done_of(subjects).await?))
            })?;
            read.extend(rows.into_iter().map(|order| {
                let progress = done.remove(&order.key().to_string()).unwrap_or_default();
                (order, progress)
            }));
        }
        Ok(read)
    }

    /// Finished work of some subjects; documents are left out.
    async fn done_of(&self, subjects: Vec<String>) -> Result<HashMap<String, JobProgress>, StoreError> {
        let query = sqlx::query(
            "SELECT subject, 0 AS kind, removed IS NOT NULL,
                 COALESCE(record::json #>> '{trained,adapter}', '') FROM trainings WHERE subject = ANY($1)
             UNION ALL SELECT subject, 1, FALSE, score_key FROM scores WHERE subject = ANY($1)
             UNION ALL SELECT subject, 2, FALSE, sample_key FROM samples WHERE subject = ANY($1)",
        );
        let mut done: HashMap<String, JobProgress> = HashMap::new();
        for row in query.bind(subjects).fetch_all(&self.pool).await? {
            let (subject, kind, is_removed): (String, i32, bool) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if kind == 0 {
                let is_there = !is_removed && self.has_adapter(&subject);
                let progress = done.entry(subject).or_default();
                (progress.trained, progress.removed) = (is_there, !is_there);
                progress.weights = Digest::parse(row.try_get(3)?);
                continue;
            }
            let (key, progress) = (digest(row.try_get(3)?)?, done.entry(subject).or_default());
            if kind == 1 {
                progress.scored.insert(ScoreKey(key));
            } else {
                progress.sampled.insert(key);
            }
        }
        Ok(done)
    }

    pub(super) async fn progress_of(&self, order: &JobOrder) -> Result<JobProgress, StoreError> {
        reading!(self, |pool| {
            let subject = order.key().to_string();
            let mut progress =
                self.done_of(vec![subject.clone()]).await?.remove(&subject).unwrap_or_default();
            for task in order.tasks().filter(|task| !progress.scored.contains(&task.key)) {
                let query = sqlx::query_scalar("SELECT document FROM scored_documents WHERE score_key = $1");
                let numbers: Vec<i64> = query.bind(task.key.0.to_string()).fetch_all(pool).await?;
                progress
                    .documents
                    .insert(task.key, numbers.into_iter().map(|number| number as usize).collect());
            }
            Ok(progress)
        })
    }
}
