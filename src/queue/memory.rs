//! A queue in memory: for evaluations outside of sweeps, and for tests of code that runs jobs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::suspicion::{PastAttempt, end_of_lost, end_of_silent, is_suspect};
use super::{
    ActiveJob, Advanced, Attempt, AttemptResults, Claim, Closing, Fence, JobProgress, Observer, Owner, Queue,
    QueueError, Record, ScoreRecord, StoredDocument, StoredSample, Submission, Taken,
};
use crate::device::SlotUse;
use crate::job::{AttemptNumber, Digest, JobId, JobState, ScoreKey, Transition};
use crate::orders::JobOrder;
use crate::protocol::DocumentScore;

/// A queue in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryQueue(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// In order of submission.
    jobs: Vec<QueuedJob>,
    results: MemoryResults,
    changes: i64,
}

/// Recorded results of attempts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryResults {
    /// By subject.
    pub trainings: BTreeMap<Digest, AttemptResults>,
    /// By key, then by number.
    pub documents: BTreeMap<ScoreKey, BTreeMap<usize, StoredDocument>>,
    /// By key.
    pub scores: BTreeMap<ScoreKey, ScoreRecord>,
    /// By subject and sample.
    pub samples: BTreeMap<(Digest, Digest), StoredSample>,
}

#[derive(Debug)]
struct QueuedJob {
    order: JobOrder,
    state: JobState,
    reason: Option<String>,
    revision: i64,
    attempts: Vec<PastOrOpen>,
}

#[derive(Debug)]
struct PastOrOpen {
    owner: Owner,
    beat: i64,
    /// How it ended; none while it is open.
    past: Option<PastAttempt>,
}

impl MemoryQueue {
    /// The state, even if a thread panicked while holding it: every change leaves it consistent.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// All recorded results so far.
    pub fn results(&self) -> MemoryResults {
        self.state().results.clone()
    }

    /// Adds documents that were scored before.
    pub fn add_documents(&self, key: ScoreKey, documents: impl IntoIterator<Item = StoredDocument>) {
        let mut state = self.state();
        let known = state.results.documents.entry(key).or_default();
        known.extend(documents.into_iter().map(|document| (document.document, document)));
    }

    /// A heartbeat for every open attempt of an owner.
    pub fn beat(&self, owner: &Owner) {
        let mut state = self.state();
        let attempts = state.jobs.iter_mut().flat_map(|job| &mut job.attempts);
        attempts.filter(|open| open.past.is_none() && open.owner == *owner).for_each(|open| open.beat += 1);
    }

    /// The state of a job, and its reason.
    pub fn job(&self, id: &JobId) -> Option<(JobState, Option<String>)> {
        let state = self.state();
        state.jobs.iter().find(|job| job.order.id == *id).map(|job| (job.state, job.reason.clone()))
    }
}

impl State {
    fn job(&mut self, id: &JobId) -> Option<&mut QueuedJob> {
        self.jobs.iter_mut().find(|job| job.order.id == *id)
    }

    /// The job of an attempt that still holds it; a job that was paused or cancelled keeps the results of its last attempt.
    fn fenced(&mut self, attempt: &Attempt) -> Option<&mut QueuedJob> {
        self.job(&attempt.job).filter(|job| {
            job.attempts.len() == attempt.number.0 as usize
                && matches!(job.state, JobState::Running | JobState::Paused | JobState::Cancelled)
        })
    }

    fn progress(&self, order: &JobOrder) -> JobProgress {
        let results = &self.results;
        JobProgress {
            trained: results.trainings.get(&order.key()).is_some_and(|known| known.training.is_some()),
            weights: None,
            removed: false,
            scored: order
                .tasks()
                .map(|task| task.key)
                .filter(|key| results.scores.contains_key(key))
                .collect(),
            documents: HashMap::new(),
            sampled: results
                .samples
                .keys()
                .filter(|(subject, _)| *subject == order.key())
                .map(|(_, key)| *key)
                .collect(),
        }
    }

    fn reach(&self, order: &JobOrder) -> i64 {
        let training = self.results.trainings.get(&order.key());
        let step = training.and_then(|training| training.steps.iter().map(|point| point.step).max());
        let documents = order.tasks().filter_map(|task| self.results.documents.get(&task.key));
        step.unwrap_or_default() as i64 + documents.map(|documents| documents.len() as i64).sum::<i64>()
    }

    /// Ends an attempt. `false`: its job was taken over.
    fn end(&mut self, attempt: &Attempt, end: &super::AttemptEnd) -> bool {
        let order = self.job(&attempt.job).map(|job| job.order.clone());
        let reach = order.map_or(0, |order| self.reach(&order));
        let Some(job) = self.job(&attempt.job) else { return false };
        let is_last = job.attempts.len() == attempt.number.0 as usize;
        let (Ok(to), true) = (job.state.after(end.transition()), is_last) else { return false };
        let reason = end.outcome().1.map(str::to_owned);
        // More is wanted now than when the attempt was claimed.
        let is_stale = *end == super::AttemptEnd::Finished && job.revision != attempt.revision;
        job.state = if is_stale { job.state.after(Transition::Requeue).unwrap_or(to) } else { to };
        job.reason.clone_from(&reason);
        if let Some(open) = job.attempts.last_mut().filter(|open| open.past.is_none()) {
            open.past = Some(PastAttempt { reason, reach });
        }
        true
    }

    fn let_go(&mut self, attempt: &Attempt) {
        let Some(job) = self.job(&attempt.job) else { return };
        let open = job.attempts.get_mut((attempt.number.0 as usize).saturating_sub(1));
        if let Some(open) = open.filter(|open| open.past.is_none()) {
            open.past = Some(PastAttempt { reason: None, reach: 0 });
        }
    }

    fn claim(&mut self, claim: &Claim<'_>) -> Vec<Attempt> {
        let mut claimed = Vec::new();
        for id in claim.jobs {
            let Some(job) = self.job(id) else { continue };
            let Ok(to) = job.state.after(Transition::Claim) else { continue };
            if job.order.sweeps.is_empty() {
                continue;
            }
            job.state = to;
            job.reason = None;
            job.attempts.push(PastOrOpen { owner: claim.owner.clone(), beat: 0, past: None });
            let number = AttemptNumber(job.attempts.len() as u32);
            let (revision, began) = (job.revision, Some(Instant::now()));
            claimed.push(Attempt { job: id.clone(), number, revision, began });
        }
        claimed
    }

    fn take_training(&mut self, subject: Digest, results: &AttemptResults) {
        let known = self.results.trainings.entry(subject).or_default();
        for point in &results.steps {
            known.steps.retain(|other| other.step != point.step);
            known.steps.push(*point);
        }
        if let Some(training) = &results.training {
            known.training.get_or_insert_with(|| training.clone());
        }
    }
}

impl Queue for MemoryQueue {
    type Heartbeat = ();

    async fn submit(&self, sweep: &str, jobs: &[Submission], dropped: &[JobId]) -> Result<(), QueueError> {
        let mut state = self.state();
        state.changes += 1;
        for id in dropped {
            if let Some(job) = state.job(id) {
                job.order.sweeps.remove(sweep);
                job.revision += 1;
            }
        }
        for Submission { order, is_done } in jobs {
            let Some(job) = state.job(&order.id) else {
                let job_state = if *is_done { JobState::Done } else { JobState::Queued };
                let (order, attempts) = (order.clone(), Vec::new());
                state.jobs.push(QueuedJob { order, state: job_state, reason: None, revision: 1, attempts });
                continue;
            };
            let joined = order.clone().joined(job.order.clone());
            job.revision += i64::from(joined != job.order);
            job.order = joined;
            if let (false, Ok(to)) = (*is_done, job.state.after(Transition::Reopen)) {
                (job.state, job.reason) = (to, None);
            }
        }
        Ok(())
    }

    async fn active(&self) -> Result<Vec<ActiveJob>, QueueError> {
        let state = self.state();
        let active = state.jobs.iter().filter(|job| {
            matches!(job.state, JobState::Queued | JobState::Running) && !job.order.sweeps.is_empty()
        });
        let active = active.map(|job| {
            let last = job.attempts.last().and_then(|attempt| attempt.past.as_ref());
            let reason = last.and_then(|past| past.reason.as_deref());
            let suspect = job.state == JobState::Queued && reason.is_some_and(is_suspect);
            ActiveJob {
                id: job.order.id.clone(),
                state: job.state,
                revision: job.revision,
                suspect,
                priority: 0,
            }
        });
        Ok(active.collect())
    }

    async fn orders(&self, jobs: &[JobId]) -> Result<Vec<(JobOrder, JobProgress)>, QueueError> {
        let state = self.state();
        let wanted: HashSet<&JobId> = jobs.iter().collect();
        let known = state.jobs.iter().filter(|job| wanted.contains(&job.order.id));
        Ok(known.map(|job| (job.order.clone(), state.progress(&job.order))).collect())
    }

    async fn progress(&self, order: &JobOrder) -> Result<JobProgress, QueueError> {
        let state = self.state();
        let mut progress = state.progress(order);
        for task in order.tasks().filter(|task| !state.results.scores.contains_key(&task.key)) {
            let documents = state.results.documents.get(&task.key).into_iter().flat_map(BTreeMap::keys);
            progress.documents.insert(task.key, documents.copied().collect());
        }
        Ok(progress)
    }

    async fn advance(
        &self,
        closings: &[(Attempt, Digest, Closing)],
        claim: Option<Claim<'_>>,
    ) -> Result<Advanced, QueueError> {
        let mut state = self.state();
        state.changes += 1;
        let mut advanced = Advanced::default();
        for (attempt, subject, closing) in closings {
            advanced.closed.push(match closing {
                Closing::End(end, results) => {
                    let ended = state.end(attempt, end);
                    if ended {
                        state.take_training(*subject, results);
                    } else {
                        state.let_go(attempt);
                    }
                    ended
                }
                Closing::LetGo(_) => {
                    state.let_go(attempt);
                    true
                }
            });
        }
        if let Some(claim) = claim {
            advanced.claimed = state.claim(&claim);
        }
        Ok(advanced)
    }

    async fn record(&self, attempt: &Attempt, record: &Record) -> Result<Fence, QueueError> {
        let mut state = self.state();
        if state.fenced(attempt).is_none() {
            return Ok(Fence::Broken);
        }
        match record {
            Record::Training(subject, results) => state.take_training(*subject, results),
            Record::Documents(documents) => {
                for (key, score) in documents {
                    let known = state.results.documents.entry(*key).or_default();
                    let DocumentScore { document, requests, metrics, answers, .. } = score.clone();
                    known.insert(document, StoredDocument { document, requests, metrics, answers });
                }
            }
            Record::Scores(_, scores) => {
                state.results.scores.extend(scores.iter().map(|record| (record.key, record.clone())));
            }
            Record::Sample(subject, sample) => {
                state.results.samples.insert((*subject, sample.key), sample.clone());
            }
        }
        Ok(Fence::Held)
    }

    async fn documents(&self, key: ScoreKey) -> Result<Vec<StoredDocument>, QueueError> {
        Ok(self.state().results.documents.get(&key).into_iter().flat_map(BTreeMap::values).cloned().collect())
    }

    async fn fate(&self, attempt: &Attempt) -> Result<Option<Taken>, QueueError> {
        let mut state = self.state();
        let Some(job) = state.job(&attempt.job) else { return Ok(Some(Taken::Lost)) };
        let is_last = job.attempts.len() == attempt.number.0 as usize;
        Ok((job.state != JobState::Running || !is_last).then(|| Taken::by(job.state)))
    }

    async fn recover(&self, observer: &mut Observer, lease: Duration) -> Result<usize, QueueError> {
        let mut state = self.state();
        let running: Vec<(Attempt, Owner, i64)> = state
            .jobs
            .iter()
            .filter(|job| job.state == JobState::Running)
            .filter_map(|job| {
                let last = job.attempts.last()?;
                let number = AttemptNumber(job.attempts.len() as u32);
                let attempt =
                    Attempt { job: job.order.id.clone(), number, revision: job.revision, began: None };
                Some((attempt, last.owner.clone(), last.beat))
            })
            .collect();
        let mut recovered = 0;
        for (attempt, owner, beat) in &running {
            let end = if observer.is_dead(owner) {
                let alone = running.iter().filter(|(_, other, _)| other == owner).count() == 1;
                let Some(job) = state.job(&attempt.job) else { continue };
                let past: Vec<PastAttempt> =
                    job.attempts.iter().rev().skip(1).filter_map(|attempt| attempt.past.clone()).collect();
                let order = job.order.clone();
                end_of_lost(alone, state.reach(&order), &past)
            } else if !observer.is_me(owner)
                && observer.is_still(attempt.job.as_str(), i64::from(attempt.number.0), *beat, lease)
            {
                end_of_silent()
            } else {
                continue;
            };
            recovered += usize::from(state.end(attempt, &end));
        }
        Ok(recovered)
    }

    async fn move_jobs(
        &self,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<JobId>, QueueError> {
        let mut state = self.state();
        state.changes += 1;
        let mut moved = Vec::new();
        for id in jobs {
            let Some(job) = state.job(id) else { continue };
            if let Ok(to) = job.state.after(transition) {
                (job.state, job.reason) = (to, reason.map(str::to_owned));
                moved.push(id.clone());
            }
        }
        Ok(moved)
    }

    async fn note_waiting(&self, jobs: &[JobId], reason: &str) -> Result<(), QueueError> {
        let mut state = self.state();
        for id in jobs {
            if let Some(job) = state.job(id).filter(|job| job.state == JobState::Queued) {
                job.reason = Some(reason.to_owned());
            }
        }
        Ok(())
    }

    async fn changes(&self) -> Result<i64, QueueError> {
        Ok(self.state().changes)
    }

    async fn note_use(&self, _: &Owner, _: &[SlotUse]) -> Result<(), QueueError> {
        Ok(())
    }

    async fn reach(&self) -> Result<(), QueueError> {
        Ok(())
    }

    fn heartbeat(&self, _: &Owner) -> Self::Heartbeat {}
}

#[cfg(test)]
mod tests {
    use super::super::suite;
    use super::*;

    #[tokio::test]
    async fn the_suite_holds() {
        suite::transitions(async || (MemoryQueue::default(), ())).await;
        suite::records(&MemoryQueue::default()).await;
        suite::wants(&MemoryQueue::default()).await;
        suite::growing(&MemoryQueue::default()).await;
        suite::claims(&MemoryQueue::default()).await;
        suite::recovery(&MemoryQueue::default()).await;
    }

    proptest::proptest! {
        #[test]
        fn along_any_way_it_stays_with_the_function_and_late_ends_change_nothing(steps in suite::steps()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(suite::any_way(&MemoryQueue::default(), &steps));
        }
    }
}
