//! Claiming jobs and ending attempts.

use std::path::Path;

use sqlx::Row;

use super::error::StoreError;
use super::now_ms;
use super::open::Store;
use crate::device::Slot;
use crate::job::{AttemptNumber, JobId, JobState, Transition};

/// Who holds an attempt: host, process, and the process's start time, so that a reused number is not taken for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner(String);

impl Owner {
    /// This process.
    pub fn this_process() -> Self {
        let host =
            nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let pid = std::process::id();
        Self(format!("{host}/{pid}/{}", start_time(pid).unwrap_or_default()))
    }

    /// Whether the process is known to be gone: it was on this host, and no process with its number and start time is
    /// there now.
    pub fn is_dead(&self) -> bool {
        let parts: Vec<&str> = self.0.split('/').collect();
        let [host, pid, started] = parts.as_slice() else { return true };
        let here = nix::unistd::gethostname().is_ok_and(|name| name.to_string_lossy() == *host);
        let Ok(pid) = pid.parse() else { return true };
        here && start_time(pid).is_none_or(|now| now.to_string() != *started)
    }
}

/// Start of a process in clock ticks since boot; `None` if there is none of that number.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name in parentheses may hold spaces; the start time is the 20th field after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A claimed try at a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// Its number.
    pub number: AttemptNumber,
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

impl Store {
    /// Takes a queued job. `None`: it is not queued any more.
    pub async fn claim(
        &self,
        job: &JobId,
        owner: &Owner,
        slot: Slot,
        log: impl Fn(AttemptNumber) -> String,
    ) -> Result<Option<Attempt>, StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let sources = quoted(Transition::Claim);
        let claim = format!(
            "UPDATE jobs SET state = $1, attempt = attempt + 1, reason = NULL
             WHERE id = $2 AND state IN ({sources}) RETURNING attempt"
        );
        let claim = sqlx::query(&claim).bind(JobState::Running.as_str()).bind(job.as_str());
        let Some(row) = claim.fetch_optional(&mut *tx).await? else { return Ok(None) };
        let attempt: i64 = row.try_get(0)?;
        let number = AttemptNumber(u32::try_from(attempt).unwrap_or(u32::MAX));
        let insert = sqlx::query(
            "INSERT INTO attempts (job_id, attempt, owner, device, threads, token_budget, log, started_ms)
             VALUES ($1, $2, $3, 'cpu', $4, $5, $6, $7)",
        );
        insert
            .bind(job.as_str())
            .bind(attempt)
            .bind(&owner.0)
            .bind(slot.threads as i64)
            .bind(slot.token_budget as i64)
            .bind(log(number))
            .bind(now_ms())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(Some(Attempt { job: job.clone(), number }))
    }

    /// Ends an attempt. Error: [`StoreError::Fenced`] if the job is no longer this attempt's.
    pub async fn end(&self, attempt: &Attempt, end: &AttemptEnd) -> Result<(), StoreError> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let transition = end.transition();
        let to = JobState::Running.after(transition).unwrap_or(JobState::Failed);
        let (outcome, reason) = end.outcome();
        let sources = quoted(transition);
        let update = format!(
            "UPDATE jobs SET state = $1, reason = $2 WHERE id = $3 AND attempt = $4 AND state IN ({sources})"
        );
        let changed = sqlx::query(&update)
            .bind(to.as_str())
            .bind(reason)
            .bind(attempt.job.as_str())
            .bind(i64::from(attempt.number.0))
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if changed == 0 {
            return Err(StoreError::Fenced { job: attempt.job.clone(), attempt: attempt.number });
        }
        sqlx::query(
            "UPDATE attempts SET ended_ms = $1, outcome = $2, reason = $3 WHERE job_id = $4 AND attempt = $5",
        )
        .bind(now_ms())
        .bind(outcome)
        .bind(reason)
        .bind(attempt.job.as_str())
        .bind(i64::from(attempt.number.0))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Puts back running jobs whose process is gone. Returns how many.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let running = sqlx::query(
            "SELECT a.job_id, a.attempt, a.owner FROM attempts a
             JOIN jobs j ON j.id = a.job_id AND j.attempt = a.attempt WHERE j.state = 'running'",
        );
        let mut recovered = 0;
        for row in running.fetch_all(&self.pool).await? {
            let number: i64 = row.try_get(1)?;
            let attempt = Attempt {
                job: JobId::from_store(row.try_get(0)?),
                number: AttemptNumber(u32::try_from(number).unwrap_or(u32::MAX)),
            };
            if Owner(row.try_get(2)?).is_dead() {
                let end = AttemptEnd::Requeued("the process that ran it is gone".to_owned());
                self.end(&attempt, &end).await?;
                recovered += 1;
            }
        }
        Ok(recovered)
    }
}
