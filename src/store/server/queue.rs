//! The queue's operations.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sqlx::Row;

use super::connection::{Server, reading, transaction};
use super::heartbeat::ServerHeartbeat;
use super::orders::{drop_wants, ids, put_jobs};
use crate::device::SlotUse;
use crate::job::{Digest, JobId, JobState, ScoreKey, Transition};
use crate::orders::JobOrder;
use crate::queue::{
    ActiveJob, Advanced, Attempt, Claim, Closing, Fence, JobProgress, Observer, Owner, Queue, QueueError,
    Record, StoredDocument, Submission, Taken,
};
use crate::store::boards::job_details::state_of;
use crate::store::error::StoreError;
use crate::store::now_ms;

/// How often a client looks whether something changed of which nobody told it: ends of other workers' jobs.
const POLL: Duration = Duration::from_secs(5);

impl Queue for Server {
    type Heartbeat = ServerHeartbeat;

    async fn submit(&self, sweep: &str, jobs: &[Submission], dropped: &[JobId]) -> Result<(), QueueError> {
        let jobs: Vec<_> = jobs.iter().map(|job| (job.clone(), None)).collect();
        let submitted = transaction!(self, |tx| {
            drop_wants(tx, sweep, dropped).await?;
            put_jobs(tx, &jobs).await
        });
        Ok(submitted?)
    }

    async fn active(&self) -> Result<Vec<ActiveJob>, QueueError> {
        Ok(self.active_jobs().await?)
    }

    async fn orders(&self, jobs: &[JobId]) -> Result<Vec<(JobOrder, JobProgress)>, QueueError> {
        Ok(self.read_orders(jobs).await?)
    }

    async fn progress(&self, order: &JobOrder) -> Result<JobProgress, QueueError> {
        Ok(self.progress_of(order).await?)
    }

    async fn advance(
        &self,
        closings: &[(Attempt, Digest, Closing)],
        claim: Option<Claim<'_>>,
    ) -> Result<Advanced, QueueError> {
        Ok(self.step(closings, claim).await?)
    }

    async fn record(&self, attempt: &Attempt, record: &Record) -> Result<Fence, QueueError> {
        match self.write_record(Some(attempt), record).await {
            Ok(()) => Ok(Fence::Held),
            Err(StoreError::Fenced { .. }) => Ok(Fence::Broken),
            Err(error) => Err(error.into()),
        }
    }

    async fn documents(&self, key: ScoreKey) -> Result<Vec<StoredDocument>, QueueError> {
        Ok(self.documents_of(key).await?)
    }

    async fn fate(&self, attempt: &Attempt) -> Result<Option<Taken>, QueueError> {
        let read = reading!(self, |pool| {
            let query = sqlx::query("SELECT state, attempt FROM jobs WHERE id = $1");
            let row = query.bind(attempt.job.as_str()).fetch_one(pool).await?;
            Ok((state_of(row.try_get(0)?)?, row.try_get::<i64, _>(1)?))
        });
        let (state, number) = read?;
        let held = state == JobState::Running && number == i64::from(attempt.number.0);
        Ok((!held).then(|| Taken::by(state)))
    }

    async fn recover(&self, observer: &mut Observer, lease: Duration) -> Result<usize, QueueError> {
        Ok(self.recover_lost(observer, lease).await?)
    }

    async fn move_jobs(
        &self,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<JobId>, QueueError> {
        let moved = self.moved(jobs, transition, reason).await?;
        Ok(moved.into_iter().map(|(job, _)| job).collect())
    }

    async fn note_waiting(&self, jobs: &[JobId], reason: &str) -> Result<(), QueueError> {
        let noted = transaction!(self, |tx| {
            // In one order; and what is so already is not news for anybody.
            let update = sqlx::query(
                "WITH waiting AS (SELECT id FROM jobs WHERE id = ANY($2) AND state = 'queued'
                     AND reason IS DISTINCT FROM $1 ORDER BY id FOR UPDATE)
                 UPDATE jobs SET reason = $1 FROM waiting WHERE jobs.id = waiting.id",
            );
            update.bind(reason).bind(ids(jobs)).execute(&mut **tx).await?;
            Ok(())
        });
        Ok(noted?)
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn taken(&self) -> Result<Vec<JobId>, QueueError> {
        Ok(self.jobs_taken().await?)
    }

    async fn changes(&self) -> Result<i64, QueueError> {
        let is_due = {
            let mut polled = self.shared.polled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let is_due = polled.is_none_or(|polled| polled.elapsed() > POLL);
            if is_due {
                *polled = Some(Instant::now());
            }
            is_due
        };
        if is_due {
            self.shared.news.fetch_add(i64::from(self.take_changes().await?), Ordering::Relaxed);
        }
        Ok(self.shared.news.load(Ordering::Relaxed))
    }

    async fn note_use(&self, owner: &Owner, slots: &[SlotUse]) -> Result<(), QueueError> {
        let noted = transaction!(self, |tx| {
            let remove = sqlx::query("DELETE FROM slot_use WHERE owner = $1");
            remove.bind(owner.as_str()).execute(&mut **tx).await?;
            for slot in slots {
                let insert = sqlx::query(
                    "INSERT INTO slot_use (owner, device, sampled_ms, used, memory, total_memory, temperature, power)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                );
                let insert = insert.bind(owner.as_str()).bind(&slot.device).bind(now_ms()).bind(slot.used);
                let insert = insert.bind(slot.memory.0 as i64).bind(slot.total_memory.0 as i64);
                insert.bind(slot.temperature).bind(slot.power).execute(&mut **tx).await?;
            }
            Ok(())
        });
        Ok(noted?)
    }

    async fn reach(&self) -> Result<(), QueueError> {
        let reached = reading!(self, |pool| { Ok(sqlx::query("SELECT 1").execute(pool).await.map(drop)?) });
        Ok(reached?)
    }

    fn heartbeat(&self, owner: &Owner) -> Self::Heartbeat {
        // Whoever sends heartbeats also waits for news.
        self.listen();
        ServerHeartbeat::start(self, owner.clone())
    }
}
