//! Claiming jobs and ending attempts.

use std::time::Instant;

use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};

use super::error::StoreError;
use super::now_ms;
use super::open::Store;
use super::owner::Owner;
use super::results::{Harvest, write_harvest};
use crate::device::Slot;
use crate::job::{AttemptNumber, Digest, JobId, JobState, Transition};

/// A claimed try at a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// Its number.
    pub number: AttemptNumber,
    /// When this process claimed it; none of another process's.
    pub began: Option<Instant>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// All that was wanted is there.
    Finished,
    /// Trying again will not mend it.
    Failed(String),
    /// A loss or log-likelihood was not finite.
    Diverged(String),
    /// No fault of the job; it goes back.
    Requeued(String),
}

impl AttemptEnd {
    fn transition(&self) -> Transition {
        match self {
            Self::Finished => Transition::Finish,
            Self::Failed(_) => Transition::Fail,
            Self::Diverged(_) => Transition::Diverge,
            Self::Requeued(_) => Transition::Requeue,
        }
    }

    fn outcome(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Finished => ("finished", None),
            Self::Failed(reason) => ("failed", Some(reason)),
            Self::Diverged(reason) => ("diverged", Some(reason)),
            Self::Requeued(reason) => ("requeued", Some(reason)),
        }
    }
}

/// The states from which a transition may start, as an SQL list.
pub(super) fn quoted(transition: Transition) -> String {
    let words: Vec<String> =
        transition.sources().iter().map(|state| format!("'{}'", state.as_str())).collect();
    words.join(", ")
}

/// Changes that are there together, once they are committed, or not at all.
pub struct Writing<'a>(Transaction<'a, Sqlite>);

impl Writing<'_> {
    /// Takes a queued job. `None`: it is not queued any more.
    pub async fn claim(
        &mut self,
        job: &JobId,
        owner: &Owner,
        slot: &Slot,
        token_budget: usize,
        log: impl Fn(AttemptNumber) -> String,
    ) -> Result<Option<Attempt>, StoreError> {
        let sources = quoted(Transition::Claim);
        let claim = format!(
            "UPDATE jobs SET state = $1, attempt = attempt + 1, reason = NULL
             WHERE id = $2 AND state IN ({sources}) RETURNING attempt"
        );
        let claim = sqlx::query(AssertSqlSafe(claim)).bind(JobState::Running.as_str()).bind(job.as_str());
        let Some(row) = claim.fetch_optional(&mut *self.0).await? else { return Ok(None) };
        let attempt: i64 = row.try_get(0)?;
        let number = AttemptNumber(u32::try_from(attempt).unwrap_or(u32::MAX));
        let insert = sqlx::query(
            "INSERT INTO job_attempts (job_id, attempt, owner, device, threads, token_budget, log, started_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        );
        insert
            .bind(job.as_str())
            .bind(attempt)
            .bind(owner.as_str())
            .bind(slot.device.to_string())
            .bind(slot.threads as i64)
            .bind(token_budget as i64)
            .bind(log(number))
            .bind(now_ms())
            .execute(&mut *self.0)
            .await?;
        Ok(Some(Attempt { job: job.clone(), number, began: Some(Instant::now()) }))
    }

    /// Ends an attempt, and takes in what it has done and the store has not. Error: [`StoreError::Fenced`] if the job is no
    /// longer this attempt's; nothing is changed then.
    pub async fn end(
        &mut self,
        attempt: &Attempt,
        end: &AttemptEnd,
        (subject, harvest): (Digest, &Harvest),
    ) -> Result<(), StoreError> {
        let transition = end.transition();
        let to = JobState::Running.after(transition).unwrap_or(JobState::Failed);
        let (outcome, reason) = end.outcome();
        let sources = quoted(transition);
        let update = format!(
            "UPDATE jobs SET state = $1, reason = $2 WHERE id = $3 AND attempt = $4 AND state IN ({sources})"
        );
        let changed = sqlx::query(AssertSqlSafe(update))
            .bind(to.as_str())
            .bind(reason)
            .bind(attempt.job.as_str())
            .bind(i64::from(attempt.number.0))
            .execute(&mut *self.0)
            .await?
            .rows_affected();
        if changed == 0 {
            return Err(StoreError::Fenced { job: attempt.job.clone(), attempt: attempt.number });
        }
        self.close_attempt(attempt, outcome, reason).await?;
        write_harvest(&mut self.0, subject, harvest).await
    }

    /// Closes an attempt whose job was taken from it: paused, cancelled, or given to another. One that is closed stays.
    pub async fn let_go(&mut self, attempt: &Attempt, outcome: &str) -> Result<(), StoreError> {
        self.close_attempt(attempt, outcome, None).await
    }

    async fn close_attempt(
        &mut self,
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
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    /// Makes the changes last, through a power cut too.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }
}

impl Store {
    /// Begins changes; other processes wait with theirs until they are committed, or dropped and undone.
    pub async fn write(&self) -> Result<Writing<'_>, StoreError> {
        Ok(Writing(self.begin().await?))
    }

    /// [`Writing::end`] alone.
    pub async fn end(
        &self,
        attempt: &Attempt,
        end: &AttemptEnd,
        harvest: (Digest, &Harvest),
    ) -> Result<(), StoreError> {
        let mut writing = self.write().await?;
        writing.end(attempt, end, harvest).await?;
        writing.commit().await
    }

    /// [`Writing::let_go`] alone.
    pub async fn let_go(&self, attempt: &Attempt, outcome: &str) -> Result<(), StoreError> {
        let mut writing = self.write().await?;
        writing.let_go(attempt, outcome).await?;
        writing.commit().await
    }
}
