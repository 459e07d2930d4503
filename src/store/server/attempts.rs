//! Claiming jobs and closing attempts; leases by the server's clock.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use tokio::time::Instant;

use super::connection::{Server, reading, transaction};
use super::orders::{ids, words};
use super::results::write_training;
use crate::job::{AttemptNumber, Digest, JobId, JobState, Transition};
use crate::queue::suspicion::{PastAttempt, end_of_lost, end_of_silent};
use crate::queue::{Advanced, Attempt, AttemptEnd, AttemptResults, Claim, Closing, Observer, Owner, Taken};
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::queue::read_attempt;

/// Attempts of a job that are examined.
const LOOKED_AT: i64 = 16;

impl Server {
    /// Closes attempts, then claims jobs, in one transaction. One that was committed without this client hearing of it is not repeated.
    pub(super) async fn step(
        &self,
        closings: &[(Attempt, Digest, Closing)],
        claim: Option<Claim<'_>>,
    ) -> Result<Advanced, StoreError> {
        let number = self.shared.steps.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}#{number}", self.shared.client);
        let mut is_again = false;
        if let (true, Some(claim)) = (closings.is_empty(), &claim) {
            // One statement is a transaction.
            return reading!(self, |pool| {
                let mut connection = pool.acquire().await?;
                if std::mem::replace(&mut is_again, true) {
                    let taken = answer(&mut connection, &name, &[], Some(claim)).await?;
                    if let Some(taken) = taken {
                        return Ok(taken);
                    }
                }
                Ok(Advanced { closed: Vec::new(), claimed: claim_in(&mut connection, claim, &name).await? })
            });
        }
        transaction!(self, |tx| {
            if std::mem::replace(&mut is_again, true)
                && let Some(taken) = answer(tx, &name, closings, claim.as_ref()).await?
            {
                return Ok(taken);
            }
            let mut closed = vec![false; closings.len()];
            // Whoever moves several jobs locks them in the same order.
            let mut order: Vec<usize> = (0..closings.len()).collect();
            order.sort_by(|a, b| closings[*a].0.job.as_str().cmp(closings[*b].0.job.as_str()));
            for at in order {
                let (attempt, subject, closing) = &closings[at];
                closed[at] = close(tx, attempt, *subject, closing, &name).await?;
            }
            let claimed = match &claim {
                Some(claim) => claim_in(tx, claim, &name).await?,
                None => Vec::new(),
            };
            Ok(Advanced { closed, claimed })
        })
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

/// What a step did, if it was committed.
pub(super) async fn answer(
    connection: &mut PgConnection,
    step: &str,
    closings: &[(Attempt, Digest, Closing)],
    claim: Option<&Claim<'_>>,
) -> Result<Option<Advanced>, StoreError> {
    let mut closed = Vec::with_capacity(closings.len());
    let mut is_committed = false;
    for (attempt, _, closing) in closings {
        let query = sqlx::query_scalar(
            "SELECT outcome FROM job_attempts WHERE job_id = $1 AND attempt = $2 AND closed_by = $3",
        );
        let query = query.bind(attempt.job.as_str()).bind(i64::from(attempt.number.0)).bind(step);
        let outcome: Option<String> = query.fetch_optional(&mut *connection).await?;
        is_committed |= outcome.is_some();
        let is_lost = outcome.is_none_or(|outcome| outcome == Taken::Lost.as_str());
        closed.push(matches!(closing, Closing::LetGo(_)) || !is_lost);
    }
    let jobs = claim.map_or(&[][..], |claim| claim.jobs);
    let query = sqlx::query(
        "SELECT a.job_id, a.attempt, j.revision FROM job_attempts a JOIN jobs j ON j.id = a.job_id
         WHERE a.job_id = ANY($1) AND a.claimed_by = $2",
    );
    let rows = query.bind(ids(jobs)).bind(step).fetch_all(&mut *connection).await?;
    let claimed = read_claimed(&rows, jobs)?;
    Ok((is_committed || !claimed.is_empty()).then_some(Advanced { closed, claimed }))
}

/// Attempts from rows of job, number and revision, in the order in which the jobs are to run.
fn read_claimed(rows: &[PgRow], jobs: &[JobId]) -> Result<Vec<Attempt>, StoreError> {
    let mut claimed = Vec::with_capacity(rows.len());
    for row in rows {
        let number: i64 = row.try_get(1)?;
        claimed.push(Attempt {
            job: JobId::from_store(row.try_get(0)?),
            number: AttemptNumber(u32::try_from(number).unwrap_or(u32::MAX)),
            revision: row.try_get(2)?,
            began: Some(Instant::now()),
        });
    }
    claimed.sort_by_key(|attempt| jobs.iter().position(|job| *job == attempt.job));
    Ok(claimed)
}

/// Claims those of the jobs that are queued; one that somebody else is about to claim is left to them. Attempts that share passes share a
/// log, whose name is [`Attempt::log`] of the first.
async fn claim_in(
    connection: &mut PgConnection,
    claim: &Claim<'_>,
    step: &str,
) -> Result<Vec<Attempt>, StoreError> {
    let query = sqlx::query(
        "WITH free AS (
             SELECT id FROM jobs WHERE id = ANY($1) AND state = ANY($2) AND wanted > 0
             ORDER BY id FOR UPDATE SKIP LOCKED
         ), taken AS (
             UPDATE jobs SET state = $3, attempt = attempt + 1, reason = NULL FROM free WHERE jobs.id = free.id
             RETURNING jobs.id, jobs.attempt, jobs.revision
         ), noted AS (
             INSERT INTO job_attempts
                 (job_id, attempt, owner, device, threads, token_budget, log, started_ms, claimed_by)
             SELECT id, attempt, $4, $5, $6, $7,
                 (SELECT 'logs/' || id || '-' || attempt || '.log' FROM taken
                  ORDER BY array_position($1, id) LIMIT 1), $8, $9
             FROM taken
         )
         SELECT id, attempt, revision FROM taken",
    );
    let query = query.bind(ids(claim.jobs)).bind(words(Transition::Claim)).bind(JobState::Running.as_str());
    let query = query.bind(claim.owner.as_str()).bind(claim.slot.device.to_string());
    let query = query.bind(claim.slot.threads.map_or(0, |threads| threads as i64));
    let query = query.bind(claim.token_budget as i64).bind(now_ms()).bind(step);
    read_claimed(&query.fetch_all(&mut *connection).await?, claim.jobs)
}

/// Closes an attempt. `false`: its job was taken over; the attempt is closed as lost.
async fn close(
    connection: &mut PgConnection,
    attempt: &Attempt,
    subject: Digest,
    closing: &Closing,
    step: &str,
) -> Result<bool, StoreError> {
    match closing {
        Closing::End(end, results) => {
            let ended = end_job(connection, attempt, end, step).await?;
            if ended {
                write_training(connection, subject, results).await?;
            }
            Ok(ended)
        }
        Closing::LetGo(taken) => {
            let close = format!(
                "UPDATE job_attempts a SET ended_ms = $1, outcome = $2, seconds = $3, closed_by = $4, reach = {REACH}
                 FROM jobs j WHERE j.id = a.job_id AND a.job_id = $5 AND a.attempt = $6 AND a.ended_ms IS NULL"
            );
            let close = sqlx::query(sqlx::AssertSqlSafe(close)).bind(now_ms()).bind(taken.as_str());
            let close = close.bind(attempt.began.map(|began| began.elapsed().as_secs_f64())).bind(step);
            let close = close.bind(attempt.job.as_str()).bind(i64::from(attempt.number.0));
            close.execute(&mut *connection).await?;
            Ok(true)
        }
    }
}

/// Moves the job of an attempt to the state that its end leads to, if the attempt still holds it, and closes the attempt; `false`: the job
/// was taken over, and the attempt is closed as lost. If more is wanted than the attempt was claimed for, its job is requeued.
async fn end_job(
    connection: &mut PgConnection,
    attempt: &Attempt,
    end: &AttemptEnd,
    step: &str,
) -> Result<bool, StoreError> {
    let transition = end.transition();
    let to = JobState::Running.after(transition).ok();
    let again = JobState::Running.after(Transition::Requeue).ok();
    let (Some(to), Some(again)) = (to, again) else { return Ok(false) };
    let (outcome, reason) = end.outcome();
    let query = format!(
        "WITH moved AS (
             UPDATE jobs SET state = CASE WHEN $1 AND revision <> $2 THEN $3 ELSE $4 END, reason = $5
             WHERE id = $6 AND attempt = $7 AND state = ANY($8) RETURNING id
         ), closed AS (
             UPDATE job_attempts a SET ended_ms = $9, seconds = $10, closed_by = $11, reach = {REACH},
                 outcome = CASE WHEN EXISTS (SELECT 1 FROM moved) THEN $12 ELSE $13 END,
                 reason = CASE WHEN EXISTS (SELECT 1 FROM moved) THEN $5 END
             FROM jobs j WHERE j.id = a.job_id AND a.job_id = $6 AND a.attempt = $7 AND a.ended_ms IS NULL
         )
         SELECT EXISTS (SELECT 1 FROM moved)"
    );
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(query));
    let query = query.bind(*end == AttemptEnd::Finished).bind(attempt.revision).bind(again.as_str());
    let query = query.bind(to.as_str()).bind(reason).bind(attempt.job.as_str());
    let query = query.bind(i64::from(attempt.number.0)).bind(words(transition)).bind(now_ms());
    let query = query.bind(attempt.began.map(|began| began.elapsed().as_secs_f64())).bind(step);
    Ok(query.bind(outcome).bind(Taken::Lost.as_str()).fetch_one(&mut *connection).await?)
}
