//! The queue in SQLite, or, where a server is named, on that. Every change of a job's state is one that [`JobState::after`] allows: each statement lists the states it may
//! start from.

mod attempts;
mod control;
mod heartbeat;
mod leases;
mod operations;
mod orders;
mod removal;
mod sweeps;
#[cfg(test)]
mod tests;
mod usage;

use std::time::Duration;

use sqlx::Row;

use super::error::StoreError;
use super::open::Store;
use super::server::ServerHeartbeat;
use crate::device::SlotUse;
use crate::job::{Digest, JobId, JobState, ScoreKey, Transition};
use crate::orders::JobOrder;
use crate::queue::{
    ActiveJob, Advanced, Attempt, Claim, Closing, Fence, JobProgress, Observer, Owner, Queue, QueueError,
    Record, StoredDocument, Submission, Taken,
};

pub use control::{AttemptRecord, JobExplanation, WorkerRecord};
pub use heartbeat::Heartbeat;
pub(super) use leases::read_attempt;
pub use operations::{Actor, Before, Operation, OperationKind, Origin, Undone};
pub(super) use operations::{led_back, led_to};
pub(super) use orders::{drop_wants, parse_order, put_order, text_of};
pub use removal::SweepRemoval;
pub(super) use removal::delete_sweep;
pub(super) use sweeps::read_digest;
pub use sweeps::{StoredSpecError, StoredSweep, SweepOrigin, SweepVersion};
pub use usage::StoredUse;

impl From<StoreError> for QueueError {
    fn from(error: StoreError) -> Self {
        Self(Box::new(error))
    }
}

/// The heartbeat of a process's attempts, dropped to end it.
pub enum AnyHeartbeat {
    /// In a file.
    File(Heartbeat),
    /// On a server.
    Server(ServerHeartbeat),
}

/// The states from which a transition may start, as an SQL list.
pub(super) fn quoted(transition: Transition) -> String {
    let words: Vec<String> =
        transition.sources().iter().map(|state| format!("'{}'", state.as_str())).collect();
    words.join(", ")
}

impl Queue for Store {
    type Heartbeat = AnyHeartbeat;

    async fn submit(&self, sweep: &str, jobs: &[Submission], dropped: &[JobId]) -> Result<(), QueueError> {
        if let Some(server) = &self.server {
            return server.submit(sweep, jobs, dropped).await;
        }
        let mut tx = self.begin().await?;
        orders::drop_wants(&mut tx, sweep, dropped).await?;
        for submission in jobs {
            orders::insert_bare(&mut tx, submission).await?;
            orders::put_order(&mut tx, submission).await?;
        }
        Ok(tx.commit().await.map_err(StoreError::from)?)
    }

    async fn active(&self) -> Result<Vec<ActiveJob>, QueueError> {
        if let Some(server) = &self.server {
            return server.active().await;
        }
        Ok(self.active_jobs().await?)
    }

    async fn orders(&self, jobs: &[JobId]) -> Result<Vec<(JobOrder, JobProgress)>, QueueError> {
        if let Some(server) = &self.server {
            return server.orders(jobs).await;
        }
        Ok(self.read_orders(jobs).await?)
    }

    async fn progress(&self, order: &JobOrder) -> Result<JobProgress, QueueError> {
        if let Some(server) = &self.server {
            return server.progress(order).await;
        }
        Ok(self.progress_of(order).await?)
    }

    async fn advance(
        &self,
        closings: &[(Attempt, Digest, Closing)],
        claim: Option<Claim<'_>>,
    ) -> Result<Advanced, QueueError> {
        if let Some(server) = &self.server {
            return server.advance(closings, claim).await;
        }
        let mut tx = self.begin().await?;
        let mut advanced = Advanced::default();
        for (attempt, subject, closing) in closings {
            advanced.closed.push(attempts::close(&mut tx, attempt, *subject, closing).await?);
        }
        if let Some(claim) = claim {
            advanced.claimed = attempts::claim(&mut tx, &claim).await?;
        }
        tx.commit().await.map_err(StoreError::from)?;
        Ok(advanced)
    }

    async fn record(&self, attempt: &Attempt, record: &Record) -> Result<Fence, QueueError> {
        if let Some(server) = &self.server {
            return server.record(attempt, record).await;
        }
        match self.write_record(Some(attempt), record).await {
            Ok(()) => Ok(Fence::Held),
            Err(StoreError::Fenced { .. }) => Ok(Fence::Broken),
            Err(error) => Err(error.into()),
        }
    }

    async fn documents(&self, key: ScoreKey) -> Result<Vec<StoredDocument>, QueueError> {
        if let Some(server) = &self.server {
            return server.documents(key).await;
        }
        Ok(Self::documents(self, key).await?)
    }

    async fn fate(&self, attempt: &Attempt) -> Result<Option<Taken>, QueueError> {
        if let Some(server) = &self.server {
            return server.fate(attempt).await;
        }
        let query = sqlx::query("SELECT state, attempt FROM jobs WHERE id = $1");
        let row = query.bind(attempt.job.as_str()).fetch_one(&self.pool).await.map_err(StoreError::from)?;
        let state = crate::store::boards::job_details::read_state(&row, 0)?;
        let number: i64 = row.try_get(1).map_err(StoreError::from)?;
        let held = state == JobState::Running && number == i64::from(attempt.number.0);
        Ok((!held).then(|| Taken::by(state)))
    }

    async fn recover(&self, observer: &mut Observer, lease: Duration) -> Result<usize, QueueError> {
        if let Some(server) = &self.server {
            return server.recover(observer, lease).await;
        }
        Ok(Self::recover(self, observer, lease).await?)
    }

    async fn move_jobs(
        &self,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<JobId>, QueueError> {
        Ok(Self::move_jobs(self, jobs, transition, reason).await?)
    }

    async fn note_waiting(&self, jobs: &[JobId], reason: &str) -> Result<(), QueueError> {
        Ok(Self::note_waiting(self, jobs, reason).await?)
    }

    fn is_shared(&self) -> bool {
        self.server.is_some()
    }

    async fn taken(&self) -> Result<Vec<JobId>, QueueError> {
        match &self.server {
            Some(server) => server.taken().await,
            None => Ok(Vec::new()),
        }
    }

    async fn changes(&self) -> Result<i64, QueueError> {
        if let Some(server) = &self.server {
            return server.changes().await;
        }
        Ok(self.data_version().await?)
    }

    async fn note_use(&self, owner: &Owner, slots: &[SlotUse]) -> Result<(), QueueError> {
        if let Some(server) = &self.server {
            return server.note_use(owner, slots).await;
        }
        Ok(self.write_use(owner, slots).await?)
    }

    async fn reach(&self) -> Result<(), QueueError> {
        if let Some(server) = &self.server {
            return server.reach().await;
        }
        Ok(Self::reach(self).await?)
    }

    fn heartbeat(&self, owner: &Owner) -> Self::Heartbeat {
        match &self.server {
            Some(server) => AnyHeartbeat::Server(server.heartbeat(owner)),
            None => AnyHeartbeat::File(Heartbeat::start(self, owner.clone())),
        }
    }
}
