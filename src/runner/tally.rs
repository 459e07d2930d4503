//! Summaries of a run by sweep.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::Progress;
use super::summary::{RunSummary, Stopped};
use crate::job::{JobId, Seconds};
use crate::queue::AttemptEnd;

/// Outcomes of each sweep's jobs so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sweeps: BTreeMap<String, SweepTally>,
}

#[derive(Debug)]
struct SweepTally {
    /// Jobs that have not ended here.
    left: BTreeSet<JobId>,
    /// When its first job started.
    began: Option<Instant>,
    summary: RunSummary,
    /// Whether its end was reported.
    ended: bool,
}

impl Tally {
    /// Adds a queued job of a sweep. `true`: it is new.
    pub(super) fn add(&mut self, sweep: &str, job: &JobId) -> bool {
        let tally = self.sweeps.entry(sweep.to_owned()).or_insert_with(|| SweepTally {
            left: BTreeSet::new(),
            began: None,
            summary: RunSummary::default(),
            ended: false,
        });
        tally.left.insert(job.clone())
    }

    /// Records the start of a job; the first one of a sweep is reported.
    pub(super) fn start(&mut self, sweep: &str, job: &JobId, watch: &mut dyn FnMut(Progress)) {
        self.add(sweep, job);
        let Some(tally) = self.sweeps.get_mut(sweep) else { return };
        if tally.began.is_none() {
            tally.began = Some(Instant::now());
            watch(Progress::SweepStarted { sweep: sweep.to_owned(), jobs: tally.left.len() });
        }
    }

    /// Records the end of an attempt.
    pub(super) fn end(&mut self, sweep: &str, job: &JobId, label: &str, end: &AttemptEnd) {
        let Some(tally) = self.sweeps.get_mut(sweep) else { return };
        let summary = &mut tally.summary;
        match end {
            AttemptEnd::Finished => summary.finished += 1,
            AttemptEnd::Failed(reason) => summary.failed.push((label.to_owned(), reason.clone())),
            AttemptEnd::Diverged(reason) => summary.diverged.push((label.to_owned(), reason.clone())),
            AttemptEnd::Requeued(_) => {
                summary.requeued += 1;
                return;
            }
        }
        tally.left.remove(job);
    }

    /// Records that a job was taken over.
    pub(super) fn let_go(&mut self, sweep: &str, job: &JobId) {
        if let Some(tally) = self.sweeps.get_mut(sweep) {
            tally.summary.let_go += 1;
            tally.left.remove(job);
        }
    }

    /// Adds device time to a sweep, in seconds.
    pub(super) fn work(&mut self, sweep: &str, seconds: f64) {
        if let Some(tally) = self.sweeps.get_mut(sweep) {
            tally.summary.device.0 += seconds;
        }
    }

    /// Keeps only active jobs among the remaining ones.
    pub(super) fn retain(&mut self, is_active: impl Fn(&JobId) -> bool) {
        self.sweeps.values_mut().for_each(|tally| tally.left.retain(&is_active));
    }

    /// Reports sweeps without remaining jobs.
    pub(super) fn report(&mut self, watch: &mut dyn FnMut(Progress)) {
        for (sweep, tally) in &mut self.sweeps {
            if tally.left.is_empty() && !tally.ended {
                tally.close(sweep, None, watch);
            } else if !tally.left.is_empty() {
                tally.ended = false;
            }
        }
    }

    /// The summary of the whole run; reports sweeps that started and have not ended.
    pub(super) fn close(
        &mut self,
        stopped: Option<Stopped>,
        trouble: &str,
        watch: &mut dyn FnMut(Progress),
    ) -> RunSummary {
        let mut all = RunSummary { stopped, trouble: trouble.to_owned(), ..RunSummary::default() };
        for (sweep, tally) in &mut self.sweeps {
            trouble.clone_into(&mut tally.summary.trouble);
            if !tally.ended {
                tally.close(sweep, stopped, watch);
            }
            all.finished += tally.summary.finished;
            all.failed.extend(tally.summary.failed.iter().cloned());
            all.diverged.extend(tally.summary.diverged.iter().cloned());
            all.requeued += tally.summary.requeued;
            all.let_go += tally.summary.let_go;
            all.device.0 += tally.summary.device.0;
        }
        all
    }

    /// Reports every sweep as failed.
    pub(super) fn fail(&mut self, error: &str, watch: &mut dyn FnMut(Progress)) {
        for (sweep, tally) in self.sweeps.iter().filter(|(_, tally)| tally.began.is_some() && !tally.ended) {
            watch(Progress::SweepFailed {
                sweep: sweep.clone(),
                jobs: tally.left.len(),
                error: error.to_owned(),
            });
        }
    }

    /// Remaining jobs of all sweeps.
    pub(super) fn jobs_left(&self) -> impl Iterator<Item = &JobId> {
        self.sweeps.values().flat_map(|tally| &tally.left)
    }

    /// Jobs of all sweeps, including ended ones.
    pub(super) fn jobs(&self) -> usize {
        let ended =
            |summary: &RunSummary| summary.finished as usize + summary.failed.len() + summary.diverged.len();
        self.sweeps.values().map(|tally| tally.left.len() + ended(&tally.summary)).sum()
    }

    /// Jobs that failed or diverged, of all sweeps.
    pub(super) fn failures(&self) -> usize {
        self.sweeps.values().map(|tally| tally.summary.failed.len() + tally.summary.diverged.len()).sum()
    }
}

impl SweepTally {
    fn close(&mut self, sweep: &str, stopped: Option<Stopped>, watch: &mut dyn FnMut(Progress)) {
        self.ended = true;
        let Some(began) = self.began else { return };
        self.summary.seconds = Seconds(began.elapsed().as_secs_f64());
        self.summary.stopped = stopped;
        watch(Progress::SweepEnded { sweep: sweep.to_owned(), summary: Box::new(self.summary.clone()) });
    }
}
