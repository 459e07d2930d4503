//! Progress as lines: what happened, and where jobs are at most every ten seconds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::cli::output::{in_one_line, is_quiet, write_error};
use crate::job::JobId;
use crate::queue::AttemptEnd;
use crate::runner::Progress;

/// Lines that only say how far a job is are at least this far apart.
const APART: Duration = Duration::from_secs(10);

/// A line.
pub(super) struct Line {
    pub(super) text: String,
    /// Whether it only says how far a job is.
    pub(super) is_progress: bool,
    /// Whether it is of something that went wrong.
    is_warning: bool,
}

/// What lines need to know of what came before.
#[derive(Default)]
pub(super) struct Lines {
    total: u64,
    done: u64,
    labels: HashMap<JobId, String>,
    /// When a line of progress was made last.
    last: Option<Instant>,
}

/// Writes a line to standard error.
pub(super) fn print(line: &Line) {
    if !is_quiet() || line.is_warning {
        write_error(&line.text);
    }
}

impl Lines {
    /// The line of what happened, if it is worth one.
    pub(super) fn line_of(&mut self, progress: &Progress) -> Option<Line> {
        let plural =
            |count: usize, one: &'static str, many: &'static str| if count == 1 { one } else { many };
        match progress {
            Progress::Loading { device, .. } => self.note(format!("loading the model on {device}")),
            Progress::Started { job, label, trains, device, .. } => {
                self.labels.insert(job.clone(), label.clone());
                let what = if *trains { "training" } else { "scoring" };
                self.note(format!("{} {label}: {what} on {device}", self.count()))
            }
            Progress::Step { job, report } => {
                let rate = report.tokens.0 as f64 / report.seconds.0.max(1e-9);
                let (step, steps, loss) = (report.step, report.steps, report.loss);
                self.progress(job, format!("step {step}/{steps}, loss {loss:.3}, {rate:.0} tokens/s"))
            }
            Progress::Scoring { job, done, total } => {
                self.progress(job, format!("scored {done}/{total} documents"))
            }
            Progress::SweepStarted { sweep, jobs } => {
                self.note(format!("sweep {sweep}: {jobs} {} to run", plural(*jobs, "job", "jobs")))
            }
            Progress::SweepEnded { .. } | Progress::SweepFailed { .. } => None,
            Progress::Total { jobs } => {
                self.total = *jobs as u64;
                None
            }
            Progress::Unavailable { jobs, reason } => {
                self.warning(format!("{jobs} {} queued: {reason}", plural(*jobs, "job stays", "jobs stay")))
            }
            Progress::LetGo { job, label, taken } => {
                self.labels.remove(job);
                self.note(format!("{} {label} {}", self.count(), taken.as_str()))
            }
            Progress::WaitingForMemory { jobs } => {
                let wait = plural(*jobs, "job waits", "jobs wait");
                self.warning(format!("{jobs} {wait} for GPU memory that other programs use"))
            }
            Progress::Waiting { reason, pause } => {
                self.warning(format!("retrying in {} s: {reason}", pause.as_secs().max(1)))
            }
            Progress::LogsLost { folder } => self
                .warning(format!("no space left in {}: jobs continue, log lines are lost", folder.display())),
            Progress::Quarantined { device, reason } => {
                self.warning(format!("quarantined {device}: engines crash on start; last error: {reason}"))
            }
            Progress::Ended { job, label, end } => {
                self.labels.remove(job);
                self.done += u64::from(!matches!(end, AttemptEnd::Requeued(_)));
                let text = |word: String| format!("{} {label} {word}", self.count());
                match end {
                    AttemptEnd::Finished => self.note(text("done".to_owned())),
                    AttemptEnd::Failed(reason) => self.warning(text(format!("failed: {reason}"))),
                    AttemptEnd::Diverged(reason) => self.warning(text(format!("diverged: {reason}"))),
                    AttemptEnd::Requeued(reason) => self.warning(text(format!("requeued: {reason}"))),
                }
            }
        }
    }

    fn count(&self) -> String {
        format!("[{}/{}]", self.done, self.total)
    }

    fn note(&self, text: String) -> Option<Line> {
        Some(line(&text, false, false))
    }

    fn warning(&self, text: String) -> Option<Line> {
        Some(line(&text, false, true))
    }

    fn progress(&mut self, job: &JobId, text: String) -> Option<Line> {
        if self.last.is_some_and(|last| last.elapsed() < APART) {
            return None;
        }
        self.last = Some(Instant::now());
        let label = self.labels.get(job).map_or("", String::as_str);
        Some(line(&format!("{} {label}: {text}", self.count()), true, false))
    }
}

/// Labels come from sweep files and reasons from engines.
fn line(text: &str, is_progress: bool, is_warning: bool) -> Line {
    let text = text.lines().map(in_one_line).collect::<Vec<_>>().join("\n");
    Line { text, is_progress, is_warning }
}
