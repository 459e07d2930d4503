//! Claiming jobs and closing attempts; leases by the server's clock.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{Postgres, Row, Transaction};
use tokio::time::Instant;

use super::connection::{Server, reading, transaction};
use super::orders::{from_json, ids, json, words};
use super::results::write_training;
use crate::job::{AttemptNumber, Digest, JobId, JobState, Transition};
use crate::queue::suspicion::{PastAttempt, end_of_lost, end_of_silent};
use crate::queue::{Advanced, Attempt, AttemptEnd, AttemptResults, Claim, Closing, Observer, Owner, Taken};
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::queue::read_attempt;

/// Attempts of a job that are examined.
const LOOKED_AT: i64 = 16;

/// A step's answer as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    closed: Vec<bool>,
    /// Job, number and revision of each claimed attempt.
    claimed: Vec<(String, u32, i64)>,
}

impl Server {
    /// Closes attempts, then claims jobs, in one transaction. One that was committed without an answer is not repeated.
    pub(super) async fn step(
        &self,
        closings: &[(Attempt, Digest, Closing)],
        claim: Option<Claim<'_>>,
    ) -> Result<Advanced, StoreError> {
        let number = self.shared.steps.fetch_add(1, Ordering::Relaxed);
        let mut is_again = false;
        transaction!(self, |tx| {
            if std::mem::replace(&mut is_again, true)
                && let Some(answer) = self.answer(tx, number).await?
            {
                return Ok(answer);
            }
            let mut closed = vec![false; closings.len()];
            // Whoever moves several jobs locks them in the same order.
            let mut order: Vec<usize> = (0..closings.len()).collect();
            order.sort_by(|a, b| closings[*a].0.job.as_str().cmp(closings[*b].0.job.as_str()));
            for at in order {
                let (attempt, subject, closing) = &closings[at];
                closed[at] = close(tx, attempt, *subject, closing).await?;
            }
            let claimed = match &claim {
                Some(claim) => claim_in(tx, claim).await?,
                None => Vec::new(),
            };
            let advanced = Advanced { closed, claimed };
            if !closings.is_empty() || !advanced.claimed.is_empty() {
                self.keep_answer(tx, number, &advanced).await?;
            }
            Ok(advanced)
        })
    }

    pub(super) async fn answer(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        number: i64,
    ) -> Result<Option<Advanced>, StoreError> {
        let query = sqlx::query_scalar("SELECT answer FROM steps WHERE client = $1 AND number = $2");
        let text: Option<String> =
            query.bind(&self.shared.client).bind(number).fetch_optional(&mut **tx).await?;
        let Some(text) = text else { return Ok(None) };
        let Answer { closed, claimed } = from_json("an answer", &text)?;
        let attempt = |(job, number, revision): (String, u32, i64)| Attempt {
            job: JobId::from_store(job),
            number: AttemptNumber(number),
            revision,
            began: Some(Instant::now()),
        };
        Ok(Some(Advanced { closed, claimed: claimed.into_iter().map(attempt).collect() }))
    }

    async fn keep_answer(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        number: i64,
        advanced: &Advanced,
    ) -> Result<(), StoreError> {
        let claimed = advanced.claimed.iter();
        let claimed =
            claimed.map(|attempt| (attempt.job.as_str().to_owned(), attempt.number.0, attempt.revision));
        let answer =
            json("an answer", &Answer { closed: advanced.closed.clone(), claimed: claimed.collect() })?;
        let keep = sqlx::query(
            "INSERT INTO steps (client, number, answer) VALUES ($1, $2, $3) ON CONFLICT (client) DO UPDATE
             SET number = excluded.number, answer = excluded.answer, at = clock_timestamp()",
        );
        keep.bind(&self.shared.client).bind(number).bind(answer).execute(&mut **tx).await?;
        Ok(())
    }

    /// Requeues running jobs whose process is gone, or has sent no heartbeat for longer than `lease` by the server's clock. Time in which
    /// the server was down does not count. Returns how many.
    pub(super) async fn recover_lost(
        &self,
        observer: &Observer,
        lease: Duration,
    ) -> Result<usize, StoreError> {
        let rows = reading!(self, |pool| {
            let running = sqlx::query(
                "SELECT a.job_id, a.attempt, a.owner, EXTRACT(EPOCH FROM
                     clock_timestamp() - GREATEST(a.beat_at, pg_postmaster_start_time()))::double precision
                 FROM jobs j JOIN job_attempts a ON a.job_id = j.id AND a.attempt = j.attempt
                 WHERE j.state = 'running'",
            );
            Ok(running.fetch_all(pool).await?)
        });
        let rows = rows?;
        let mut running = Vec::with_capacity(rows.len());
        for row in &rows {
            let (job, number): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            let silent: f64 = row.try_get(3)?;
            running.push((job, number, Owner::from_store(row.try_get(2)?), silent));
        }
        let mut recovered = 0;
        for (job, number, owner, silent) in &running {
            let end = if observer.is_dead(owner) {
                let alone = running.iter().filter(|(_, _, other, _)| other == owner).count() == 1;
                let (reach, earlier) =
                    (self.reach_of(job).await?, self.earlier_attempts(job, *number).await?);
                end_of_lost(alone, reach, &earlier)
            } else if !observer.is_me(owner) && *silent > lease.as_secs_f64() {
                end_of_silent()
            } else {
                continue;
            };
            let closing = Closing::End(end, Box::<AttemptResults>::default());
            let closings = [(read_attempt(job.clone(), *number), Digest::of(b""), closing)];
            let advanced = self.step(&closings, None).await?;
            // Another process may have been faster.
            recovered += advanced.closed.iter().filter(|closed| **closed).count();
        }
        Ok(recovered)
    }

    /// Closes open attempts at jobs that are no longer running, if their process is gone or sends no heartbeat.
    pub(in crate::store) async fn close_dead(
        &self,
        jobs: &[JobId],
        lease: Duration,
    ) -> Result<(), StoreError> {
        let open = sqlx::query(
            "SELECT job_id, attempt, owner, EXTRACT(EPOCH FROM
                 clock_timestamp() - GREATEST(beat_at, pg_postmaster_start_time()))::double precision
             FROM job_attempts WHERE job_id = ANY($1) AND ended_ms IS NULL",
        );
        for row in open.bind(ids(jobs)).fetch_all(&self.pool).await? {
            let (owner, silent): (String, f64) = (row.try_get(2)?, row.try_get(3)?);
            if Owner::from_store(owner).is_dead() || silent > lease.as_secs_f64() {
                let attempt = read_attempt(row.try_get(0)?, row.try_get(1)?);
                self.step(&[(attempt, Digest::of(b""), Closing::LetGo(Taken::Lost))], None).await?;
            }
        }
        Ok(())
    }

    /// A job's progress: optimizer steps and scored documents.
    async fn reach_of(&self, job: &str) -> Result<i64, StoreError> {
        reading!(self, |pool| {
            let reach = format!("SELECT {REACH} FROM jobs j WHERE j.id = $1");
            Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(reach)).bind(job.to_owned()).fetch_one(pool).await?)
        })
    }

    /// The attempts at a job before this number, the newest first.
    async fn earlier_attempts(&self, job: &str, number: i64) -> Result<Vec<PastAttempt>, StoreError> {
        reading!(self, |pool| {
            let query = sqlx::query(
                "SELECT reason, COALESCE(reach, 0) FROM job_attempts WHERE job_id = $1 AND attempt < $2
                 ORDER BY attempt DESC LIMIT $3",
            );
            let rows = query.bind(job.to_owned()).bind(number).bind(LOOKED_AT).fetch_all(pool).await?;
            rows.iter()
                .map(|row| Ok(PastAttempt { reason: row.try_get(0)?, reach: row.try_get(1)? }))
                .collect()
        })
    }
}

/// The progress of a job `j`: optimizer steps and scored documents.
const REACH: &str = "(SELECT COALESCE(MAX(c.step), 0) FROM curve_points c WHERE c.subject = j.subject)
    + (SELECT COUNT(*) FROM scored_documents d WHERE d.score_key = ANY(j.score_keys))";

/// Claims those of the jobs that are queued; one that somebody else is about to claim is left to them.
async fn claim_in(tx: &mut Transaction<'_, Postgres>, claim: &Claim<'_>) -> Result<Vec<Attempt>, StoreError> {
    let update = sqlx::query(
        "WITH free AS (
             SELECT id FROM jobs WHERE id = ANY($1) AND state = ANY($2) AND wanted > 0
             ORDER BY id FOR UPDATE SKIP LOCKED
         )
         UPDATE jobs SET state = $3, attempt = attempt + 1, reason = NULL FROM free WHERE jobs.id = free.id
         RETURNING jobs.id, jobs.attempt, jobs.revision",
    );
    let update = update.bind(ids(claim.jobs)).bind(words(Transition::Claim));
    let rows = update.bind(JobState::Running.as_str()).fetch_all(&mut **tx).await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let number: i64 = row.try_get(1)?;
        claimed.push(Attempt {
            job: JobId::from_store(row.try_get(0)?),
            number: AttemptNumber(u32::try_from(number).unwrap_or(u32::MAX)),
            revision: row.try_get(2)?,
            began: Some(Instant::now()),
        });
    }
    // In the order in which they are to run.
    claimed.sort_by_key(|attempt| claim.jobs.iter().position(|job| *job == attempt.job));
    // Attempts that share passes share a log.
    let Some(log) = claimed.first().map(Attempt::log) else { return Ok(claimed) };
    for attempt in &claimed {
        let insert = sqlx::query(
            "INSERT INTO job_attempts (job_id, attempt, owner, device, threads, token_budget, log, started_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        );
        insert
            .bind(attempt.job.as_str())
            .bind(i64::from(attempt.number.0))
            .bind(claim.owner.as_str())
            .bind(claim.slot.device.to_string())
            .bind(claim.slot.threads.map_or(0, |threads| threads as i64))
            .bind(claim.token_budget as i64)
            .bind(&log)
            .bind(now_ms())
            .execute(&mut **tx)
            .await?;
    }
    Ok(claimed)
}

/// Closes an attempt. `false`: its job was taken over; the attempt is closed as lost.
async fn close(
    tx: &mut Transaction<'_, Postgres>,
    attempt: &Attempt,
    subject: Digest,
    closing: &Closing,
) -> Result<bool, StoreError> {
    match closing {
        Closing::End(end, results) => {
            let ended = end_job(tx, attempt, end).await?;
            if ended {
                let (outcome, reason) = end.outcome();
                write_training(tx, subject, results).await?;
                close_attempt(tx, attempt, outcome, reason).await?;
            } else {
                close_attempt(tx, attempt, Taken::Lost.as_str(), None).await?;
            }
            Ok(ended)
        }
        Closing::LetGo(taken) => {
            close_attempt(tx, attempt, taken.as_str(), None).await?;
            Ok(true)
        }
    }
}

/// Moves the job of an attempt to the state that its end leads to. `false`: the job was taken over.
async fn end_job(
    tx: &mut Transaction<'_, Postgres>,
    attempt: &Attempt,
    end: &AttemptEnd,
) -> Result<bool, StoreError> {
    let transition = end.transition();
    if *end == AttemptEnd::Finished {
        // If more is wanted than the attempt was claimed for, the job is requeued.
        return Ok(move_from_attempt(tx, attempt, (transition, None), Some(true)).await?
            || move_from_attempt(tx, attempt, (Transition::Requeue, None), Some(false)).await?);
    }
    move_from_attempt(tx, attempt, (transition, end.outcome().1), None).await
}

/// Moves the job of an attempt by a transition, if the attempt still holds it, and its order is, or is not, as it was at the claim.
async fn move_from_attempt(
    tx: &mut Transaction<'_, Postgres>,
    attempt: &Attempt,
    (transition, reason): (Transition, Option<&str>),
    is_as_claimed: Option<bool>,
) -> Result<bool, StoreError> {
    let Ok(to) = JobState::Running.after(transition) else { return Ok(false) };
    let update = sqlx::query(
        "UPDATE jobs SET state = $1, reason = $2 WHERE id = $3 AND attempt = $4 AND state = ANY($5)
         AND ($6::boolean IS NULL OR (revision = $7) = $6)",
    );
    let update = update.bind(to.as_str()).bind(reason).bind(attempt.job.as_str());
    let update = update.bind(i64::from(attempt.number.0)).bind(words(transition));
    let update = update.bind(is_as_claimed).bind(attempt.revision);
    Ok(update.execute(&mut **tx).await?.rows_affected() > 0)
}

/// Closes an open attempt; a closed one is not changed.
async fn close_attempt(
    tx: &mut Transaction<'_, Postgres>,
    attempt: &Attempt,
    outcome: &str,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let close = format!(
        "UPDATE job_attempts a SET ended_ms = $1, outcome = $2, reason = $3, seconds = $4, reach = {REACH}
         FROM jobs j WHERE j.id = a.job_id AND a.job_id = $5 AND a.attempt = $6 AND a.ended_ms IS NULL"
    );
    let close = sqlx::query(sqlx::AssertSqlSafe(close)).bind(now_ms()).bind(outcome).bind(reason);
    let close = close.bind(attempt.began.map(|began| began.elapsed().as_secs_f64()));
    let close = close.bind(attempt.job.as_str()).bind(i64::from(attempt.number.0));
    close.execute(&mut **tx).await?;
    Ok(())
}
