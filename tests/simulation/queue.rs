//! The queue in memory as a worker reaches it: each call takes time, and some fail before or after they had their effect.

use std::rc::Rc;
use std::time::Duration;

use loragrid::device::SlotUse;
use loragrid::job::{Digest, JobId, JobState, ScoreKey, Transition};
use loragrid::orders::JobOrder;
use loragrid::queue::{
    ActiveJob, Advanced, Attempt, AttemptEnd, Claim, Closing, Fence, JobProgress, MemoryResults, Observer,
    Owner, Queue, QueueError, Record, StoredDocument, Submission,
};

use crate::world::World;

/// Most milliseconds of a call's way there, and back.
const WAY: u64 = 40;

pub(crate) struct SimQueue(Rc<World>);

impl SimQueue {
    pub(crate) fn new(world: &Rc<World>) -> Self {
        Self(Rc::clone(world))
    }

    /// The way to the queue, or back from it. Error: the connection broke.
    async fn travel(&self) -> Result<(), QueueError> {
        let mut time = self.0.dice.millis(WAY);
        if self.0.strikes("queue locked", 400) {
            time += self.0.dice.millis(20_000);
        }
        tokio::time::sleep(time).await;
        if self.0.strikes("queue unreachable", 3000) {
            return Err(QueueError("the connection broke".into()));
        }
        Ok(())
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, QueueError>>) -> Result<T, QueueError> {
        self.travel().await?;
        let answer = call.await?;
        self.travel().await?;
        Ok(answer)
    }
}

/// Panics unless a job that has just become done has its training and every score that is wanted.
fn require_whole(world: &World, results: &MemoryResults, attempt: &Attempt) {
    let order = world.orders.iter().find(|order| order.id == attempt.job).unwrap();
    if !matches!(world.queue.job(&order.id), Some((JobState::Done, _))) {
        return;
    }
    let trained = results.trainings.get(&order.key()).is_some_and(|known| known.training.is_some());
    assert!(trained || order.config().is_none(), "job {} became done without its training", order.id);
    for task in order.tasks() {
        assert!(results.scores.contains_key(&task.key), "job {} became done without its score", order.id);
    }
}

impl Queue for SimQueue {
    type Heartbeat = ();

    async fn submit(&self, sweep: &str, jobs: &[Submission], dropped: &[JobId]) -> Result<(), QueueError> {
        self.call(self.0.queue.submit(sweep, jobs, dropped)).await
    }

    async fn active(&self) -> Result<Vec<ActiveJob>, QueueError> {
        self.call(self.0.queue.active()).await
    }

    async fn orders(&self, jobs: &[JobId]) -> Result<Vec<(JobOrder, JobProgress)>, QueueError> {
        self.call(self.0.queue.orders(jobs)).await
    }

    async fn progress(&self, order: &JobOrder) -> Result<JobProgress, QueueError> {
        self.call(self.0.queue.progress(order)).await
    }

    async fn advance(
        &self,
        closings: &[(Attempt, Digest, Closing)],
        claim: Option<Claim<'_>>,
    ) -> Result<Advanced, QueueError> {
        self.travel().await?;
        let advanced = self.0.queue.advance(closings, claim).await?;
        let results = self.0.queue.results();
        for ((attempt, _, closing), closed) in closings.iter().zip(&advanced.closed) {
            if let (Closing::End(end, _), true) = (closing, closed) {
                self.0.require_newest(attempt);
                if *end == AttemptEnd::Finished {
                    require_whole(&self.0, &results, attempt);
                }
            }
        }
        // What was known when an attempt began.
        for attempt in &advanced.claimed {
            self.0.newest.borrow_mut().insert(attempt.job.clone(), attempt.number.0);
            let order = self.0.orders.iter().find(|order| order.id == attempt.job).unwrap();
            let known = results.trainings.get(&order.key());
            if known.is_some_and(|known| known.training.is_some()) {
                self.0.trained_before.borrow_mut().insert((order.key(), attempt.number.0));
            }
        }
        self.travel().await?;
        Ok(advanced)
    }

    async fn record(&self, attempt: &Attempt, record: &Record) -> Result<Fence, QueueError> {
        self.travel().await?;
        let fence = self.0.queue.record(attempt, record).await?;
        if fence == Fence::Held {
            self.0.require_newest(attempt);
        }
        self.travel().await?;
        Ok(fence)
    }

    async fn documents(&self, key: ScoreKey) -> Result<Vec<StoredDocument>, QueueError> {
        self.call(self.0.queue.documents(key)).await
    }

    async fn fate(&self, attempt: &Attempt) -> Result<Option<loragrid::queue::Taken>, QueueError> {
        self.call(self.0.queue.fate(attempt)).await
    }

    async fn recover(&self, observer: &mut Observer, lease: Duration) -> Result<usize, QueueError> {
        self.call(self.0.queue.recover(observer, lease)).await
    }

    async fn move_jobs(
        &self,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<JobId>, QueueError> {
        self.call(self.0.queue.move_jobs(jobs, transition, reason)).await
    }

    async fn note_waiting(&self, jobs: &[JobId], reason: &str) -> Result<(), QueueError> {
        self.call(self.0.queue.note_waiting(jobs, reason)).await
    }

    async fn changes(&self) -> Result<i64, QueueError> {
        self.0.queue.changes().await
    }

    async fn note_use(&self, owner: &Owner, slots: &[SlotUse]) -> Result<(), QueueError> {
        self.0.queue.note_use(owner, slots).await
    }

    async fn reach(&self) -> Result<(), QueueError> {
        self.call(self.0.queue.reach()).await
    }

    fn heartbeat(&self, owner: &Owner) -> Self::Heartbeat {
        // The worker's own task beats, so that it stands still with the worker.
        self.0.queue.heartbeat(owner)
    }
}
