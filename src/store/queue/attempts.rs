//! Claiming jobs and closing attempts, within a transaction.

use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};
use tokio::time::Instant;

use super::quoted;
use crate::job::{AttemptNumber, Digest, JobState, Transition};
use crate::queue::{Attempt, AttemptEnd, Claim, Closing, Taken};
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::results::attempt_results::write_training;

/// Claims those of the jobs that are queued.
pub(super) async fn claim(
    tx: &mut Transaction<'_, Sqlite>,
    claim: &Claim<'_>,
) -> Result<Vec<Attempt>, StoreError> {
    let sources = quoted(Transition::Claim);
    let update = format!(
        "UPDATE jobs SET state = $1, attempt = attempt + 1, reason = NULL
         WHERE id = $2 AND state IN ({sources}) AND wanted > 0 RETURNING attempt, revision"
    );
    let mut claimed: Vec<Attempt> = Vec::new();
    for job in claim.jobs {
        let update = sqlx::query(AssertSqlSafe(update.as_str()));
        let update = update.bind(JobState::Running.as_str()).bind(job.as_str());
        let Some(row) = update.fetch_optional(&mut **tx).await? else { continue };
        let number: i64 = row.try_get(0)?;
        let attempt = Attempt {
            job: job.clone(),
            number: AttemptNumber(u32::try_from(number).unwrap_or(u32::MAX)),
            revision: row.try_get(1)?,
            began: Some(Instant::now()),
        };
        // Attempts that share passes share a log.
        let log = claimed.first().unwrap_or(&attempt).log();
        let insert = sqlx::query(
            "INSERT INTO job_attempts (job_id, attempt, owner, device, threads, token_budget, log, started_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        );
        insert
            .bind(job.as_str())
            .bind(number)
            .bind(claim.owner.as_str())
            .bind(claim.slot.device.to_string())
            .bind(claim.slot.threads.map_or(0, |threads| threads as i64))
            .bind(claim.token_budget as i64)
            .bind(log)
            .bind(now_ms())
            .execute(&mut **tx)
            .await?;
        claimed.push(attempt);
    }
    Ok(claimed)
}

/// Closes an attempt. `false`: its job was taken over; the attempt is closed as lost.
pub(super) async fn close(
    tx: &mut Transaction<'_, Sqlite>,
    attempt: &Attempt,
    subject: Digest,
    closing: &Closing,
) -> Result<bool, StoreError> {
    match closing {
        Closing::End(end, results) => {
            let ended = end_job(tx, attempt, end).await?;
            if ended {
                let (outcome, reason) = end.outcome();
                close_attempt(tx, attempt, outcome, reason).await?;
                write_training(tx, subject, results, now_ms()).await?;
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
    tx: &mut Transaction<'_, Sqlite>,
    attempt: &Attempt,
    end: &AttemptEnd,
) -> Result<bool, StoreError> {
    let transition = end.transition();
    if *end == AttemptEnd::Finished {
        // If more is wanted than the attempt was claimed for, the job is requeued.
        return Ok(move_from_attempt(tx, attempt, (transition, None), Some("=")).await?
            || move_from_attempt(tx, attempt, (Transition::Requeue, None), Some("<>")).await?);
    }
    move_from_attempt(tx, attempt, (transition, end.outcome().1), None).await
}

/// Moves the job of an attempt by a transition, if the attempt still holds it and the revision of its order compares in this way with
/// that at the claim. Returns whether it moved.
async fn move_from_attempt(
    tx: &mut Transaction<'_, Sqlite>,
    attempt: &Attempt,
    (transition, reason): (Transition, Option<&str>),
    revision: Option<&str>,
) -> Result<bool, StoreError> {
    let Ok(to) = JobState::Running.after(transition) else { return Ok(false) };
    let (sources, compared) =
        (quoted(transition), revision.map_or_else(String::new, |how| format!("AND revision {how} $5")));
    let update = format!(
        "UPDATE jobs SET state = $1, reason = $2 WHERE id = $3 AND attempt = $4 AND state IN ({sources}) {compared}"
    );
    let update = sqlx::query(AssertSqlSafe(update)).bind(to.as_str()).bind(reason);
    let mut update = update.bind(attempt.job.as_str()).bind(i64::from(attempt.number.0));
    if revision.is_some() {
        update = update.bind(attempt.revision);
    }
    Ok(update.execute(&mut **tx).await?.rows_affected() > 0)
}

/// Closes an open attempt; a closed one is not changed.
async fn close_attempt(
    tx: &mut Transaction<'_, Sqlite>,
    attempt: &Attempt,
    outcome: &str,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let close = sqlx::query(
        "UPDATE job_attempts SET ended_ms = $1, outcome = $2, reason = $3, seconds = $6, reach =
             (SELECT COALESCE(MAX(c.step), 0) FROM curve_points c JOIN jobs j ON j.subject = c.subject
              WHERE j.id = $4)
             + (SELECT COUNT(*) FROM scored_documents d JOIN wanted_scores w ON w.score_key = d.score_key
                WHERE w.job_id = $4)
         WHERE job_id = $4 AND attempt = $5 AND ended_ms IS NULL",
    );
    close
        .bind(now_ms())
        .bind(outcome)
        .bind(reason)
        .bind(attempt.job.as_str())
        .bind(i64::from(attempt.number.0))
        .bind(attempt.began.map(|began| began.elapsed().as_secs_f64()))
        .execute(&mut **tx)
        .await?;
    Ok(())
}
