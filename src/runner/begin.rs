//! Starting jobs on a slot: they are claimed together and get their first order.

use std::path::{Path, PathBuf};

use super::Progress;
use super::error::RunError;
use super::job::RunningJob;
use super::pack::RunningPack;
use super::run::Running;
use crate::job::{Digest, JobId, SlotId};
use crate::queue::{Attempt, AttemptEnd, Claim, Closing, Queue};
use crate::scheduler::Event;

/// Whether the disk of a file to be written is full.
fn is_full(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    nix::sys::statvfs::statvfs(folder).is_ok_and(|disk| disk.blocks_available() == 0)
}

impl<Q: Queue> Running<'_, '_, '_, Q> {
    /// Claims jobs and sends their first order. `false`: none of them is still queued.
    pub(super) async fn start_jobs(&mut self, slot: SlotId, jobs: &[JobId]) -> Result<bool, RunError> {
        let advanced = self.runner.queue.advance(&[], Some(self.claim(slot, jobs))).await?;
        if advanced.claimed.is_empty() {
            return Ok(false);
        }
        self.begin(slot, advanced.claimed).await?;
        Ok(true)
    }

    /// A claim of jobs that are to run together.
    pub(super) fn claim<'c>(&'c self, slot: SlotId, jobs: &'c [JobId]) -> Claim<'c> {
        let token_budget = self.token_budget(slot, jobs.iter());
        Claim { jobs, owner: &self.owner, slot: &self.runner.slots[slot.0], token_budget }
    }

    /// The token budget of a pass for jobs on a slot.
    fn token_budget<'j>(&self, slot: SlotId, jobs: impl Iterator<Item = &'j JobId>) -> usize {
        let smallest = jobs.filter_map(|id| self.budgets.get(id)).min();
        smallest.copied().unwrap_or(self.runner.slots[slot.0].token_budget)
    }

    /// Requeues claimed jobs that do not begin, each with why: their orders are read again.
    async fn put_back(&mut self, slot: SlotId, attempts: Vec<(Attempt, String)>) -> Result<(), RunError> {
        let nothing = Digest::of(b"");
        let closing = |reason: &String| Closing::of_end(AttemptEnd::Requeued(reason.clone()));
        let closings: Vec<_> =
            attempts.iter().map(|(attempt, reason)| (attempt.clone(), nothing, closing(reason))).collect();
        if !closings.is_empty() {
            self.runner.queue.advance(&closings, None).await?;
        }
        for (attempt, _) in attempts {
            self.scheduler.on(Event::Left { slot, job: attempt.job.clone() });
            self.forget(&attempt.job);
        }
        Ok(())
    }

    /// Sends the first order of attempts.
    pub(super) async fn begin(&mut self, slot: SlotId, claimed: Vec<Attempt>) -> Result<(), RunError> {
        let budget = self.token_budget(slot, claimed.iter().map(|attempt| &attempt.job));
        let log = claimed.first().map(Attempt::log).unwrap_or_default();
        let log = self.runner.results.join(log);
        let log: PathBuf = std::path::absolute(&log).unwrap_or(log);
        let (mut members, mut idle, mut stale, mut away) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for attempt in claimed {
            let known = self.jobs.get(&attempt.job).filter(|known| known.revision == attempt.revision);
            let Some(job) = known else {
                stale.push((attempt, "its order changed".to_owned()));
                continue;
            };
            let progress = self.runner.queue.progress(&job.order).await?;
            let keeps_less = self.keep_less.contains(&attempt.job);
            let (order, inputs) = (job.order.clone(), job.inputs.clone());
            let weights = progress.weights;
            let mut member =
                RunningJob::new(order, inputs, attempt, progress, (&self.runner.results, keeps_less));
            if let Err(error) = member.bring(weights, &self.runner.artifacts).await {
                away.push((member.attempt, error.to_string()));
                continue;
            }
            if !member.has_work() {
                idle.push(member.id().clone());
            }
            self.tally.start(member.sweep(), member.id(), self.watch);
            (self.watch)(member.started(slot, self.runner.slots[slot.0].device.to_string()));
            members.push(member);
        }
        let waits: Vec<(JobId, i64, String)> = away
            .iter()
            .map(|(attempt, reason): &(Attempt, String)| {
                (attempt.job.clone(), attempt.revision, reason.clone())
            })
            .collect();
        self.put_back(slot, stale.into_iter().chain(away).collect()).await?;
        // They are tried again later.
        self.unavailable.extend(waits.into_iter().map(|(job, revision, reason)| (job, (revision, reason))));
        if !self.logs_are_lost && is_full(&log) {
            self.logs_are_lost = true;
            (self.watch)(Progress::LogsLost { folder: log.parent().unwrap_or(&log).to_owned() });
        }
        if let Some(engine) = self.engines.get_mut(&slot) {
            engine.log.send_replace(Some(log.clone()));
            engine.give();
        }
        let is_empty = members.is_empty();
        self.working.insert(slot, RunningPack::new(members, log, budget, self.runner.artifacts.clone()));
        if idle.is_empty() && !is_empty {
            return self.send_next(slot).await;
        }
        // Another attempt, or an evaluation, has done the missing work.
        let ends = idle.into_iter().map(|job| (job, AttemptEnd::Finished)).collect();
        Box::pin(self.end_members(slot, ends)).await
    }
}
