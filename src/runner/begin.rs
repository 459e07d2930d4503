//! How jobs begin on a slot: they are claimed together, and get their first order.

use std::path::{Path, PathBuf};

use super::Progress;
use super::error::RunError;
use super::job::{JobFiles, RunningJob};
use super::pack::RunningPack;
use super::run::Running;
use crate::job::{AttemptNumber, JobId};
use crate::plan::{PlannedJob, Work};
use crate::scheduler::SlotId;
use crate::store::{Attempt, Writing};

/// Jobs that were claimed and have not begun.
pub(super) struct Claimed<'a> {
    jobs: Vec<(&'a PlannedJob, Attempt)>,
    /// Most tokens of a pass.
    budget: usize,
    /// The log of all of them.
    log: PathBuf,
}

/// Whether the disk of a file that is to be written has no room at all.
fn is_full(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    nix::sys::statvfs::statvfs(folder).is_ok_and(|disk| disk.blocks_available() == 0)
}

impl<'a> Running<'a, '_> {
    /// Claims jobs and sends their first order. `false`: none of them is queued any more.
    pub(super) async fn start_jobs(&mut self, slot: SlotId, jobs: &[JobId]) -> Result<bool, RunError> {
        let mut writing = self.runner.store.write().await?;
        let claimed = self.claim(&mut writing, slot, jobs).await?;
        writing.commit().await?;
        let Some(claimed) = claimed else { return Ok(false) };
        self.begin(slot, claimed).await?;
        Ok(true)
    }

    fn log(&self, id: &JobId, number: AttemptNumber) -> PathBuf {
        self.runner.results.join("logs").join(format!("{id}-{number}.log"))
    }

    /// Claims jobs that are to run together, one lease each. `None`: none of them is queued any more.
    pub(super) async fn claim(
        &self,
        writing: &mut Writing<'_>,
        slot: SlotId,
        ids: &[JobId],
    ) -> Result<Option<Claimed<'a>>, RunError> {
        let here = &self.runner.slots[slot.0];
        let smallest = ids.iter().filter_map(|id| self.budgets.get(id)).min();
        let budget = smallest.copied().unwrap_or(here.token_budget);
        let mut log: Option<PathBuf> = None;
        let mut jobs = Vec::new();
        for id in ids {
            let Some(&job) = self.jobs.get(id) else { continue };
            let path = |number| log.clone().unwrap_or_else(|| self.log(id, number));
            // From the folder of the database, which can be moved.
            let text = |number| {
                let path = path(number);
                path.strip_prefix(&self.runner.results).unwrap_or(&path).display().to_string()
            };
            let Some(attempt) = writing.claim(id, &self.owner, here, budget, text).await? else { continue };
            log = Some(path(attempt.number));
            jobs.push((job, attempt));
        }
        Ok(log.map(|log| Claimed { jobs, budget, log }))
    }

    /// Sends the first order of attempts.
    pub(super) async fn begin(&mut self, slot: SlotId, claimed: Claimed<'a>) -> Result<(), RunError> {
        let Claimed { jobs, budget, log } = claimed;
        let log = std::path::absolute(&log).unwrap_or(log);
        let mut members = Vec::new();
        for (job, attempt) in jobs {
            let subject = job.subject.digest().to_string();
            let files = JobFiles {
                adapter: self.runner.results.join("adapters").join(&subject),
                tokens: self.tokens(job)?,
                checkpoints: self.runner.results.join("checkpoints").join(&subject),
                keeps_less: self.keep_less.contains(&job.id),
            };
            let mut running = RunningJob::new(self.plan, job, attempt, files);
            running.look_up(self.runner.store).await?;
            (self.watch)(running.started());
            members.push(running);
        }
        if !self.logs_are_lost && is_full(&log) {
            self.logs_are_lost = true;
            (self.watch)(Progress::LogsLost { folder: log.parent().unwrap_or(&log).to_owned() });
        }
        if let Some(engine) = self.engines.get_mut(&slot) {
            engine.log.send_replace(Some(log.clone()));
            engine.give();
        }
        self.working.insert(slot, RunningPack::new(self.plan, members, log, budget));
        self.send_next(slot).await
    }

    /// The file of a job's encoded rows.
    fn tokens(&self, job: &PlannedJob) -> Result<PathBuf, RunError> {
        match &job.work {
            Work::Train { data, .. } if job.train_missing => {
                let folder = self.runner.results.join("cache");
                let cached = self.plan.data[*data].cache_in(&folder);
                cached.map_err(|source| RunError::Folder { path: folder, source })
            }
            _ => Ok(PathBuf::new()),
        }
    }
}
