//! Live progress: a bar on a terminal, plain lines elsewhere. A thread of its own writes it, so that a terminal which takes nothing
//! (Ctrl-S, a pipe that nobody reads) holds nobody up.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{in_one_line, write_error};
use crate::job::JobId;
use crate::queue::AttemptEnd;
use crate::runner::Progress;

/// Plain lines are written at each of this many equal parts of a training.
const LINES_PER_TRAINING: u64 = 4;
/// They are at least this far apart.
const APART: Duration = Duration::from_secs(1);

/// News that wait for a terminal; what comes after them while it takes nothing is not shown.
const WAITING: usize = 1024;
/// How long the end of a run waits for a terminal that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows progress on standard error, from a thread of its own.
pub(super) struct Display {
    news: SyncSender<Progress>,
    /// Ends when everything is written.
    written: Receiver<()>,
    /// News that were not shown.
    lost: u64,
}

impl Display {
    /// For jobs of which the number is not known yet.
    pub(super) fn new() -> Self {
        let (news, receiver) = sync_channel(WAITING);
        let (writing, written) = channel::<()>();
        std::thread::spawn(move || {
            let mut screen = Screen::new();
            receiver.into_iter().for_each(|progress| screen.show(progress));
            screen.finish();
            drop(writing);
        });
        Self { news, written, lost: 0 }
    }

    /// Shows what happened, or forgets it where nobody reads.
    pub(super) fn show(&mut self, progress: Progress) {
        if let Err(TrySendError::Full(_)) = self.news.try_send(progress) {
            self.lost += 1;
        }
    }

    /// Waits until everything is written, but not long for a terminal that takes nothing. Returns how many news were not shown.
    pub(super) fn finish(self) -> u64 {
        drop(self.news);
        match self.written.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => self.lost + 1,
            _ => self.lost,
        }
    }
}

/// What is on standard error.
struct Screen {
    bar: Option<ProgressBar>,
    total: u64,
    done: u64,
    /// Labels of the jobs that are being worked at.
    labels: HashMap<JobId, String>,
    /// When a plain line of progress was written last.
    last_line: Instant,
}

impl Screen {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            let template = "{prefix} [{bar:24}] {msg}  {elapsed}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, total: 0, done: 0, labels: HashMap::new(), last_line: Instant::now() }
    }

    fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Loading => self.announce("loading the model".to_owned()),
            Progress::Started { job, label, trains } => {
                let what = if trains { "training" } else { "scoring" };
                self.announce(format!("{label} {what}"));
                self.labels.insert(job, label);
            }
            Progress::Step { job, report } => {
                let rate = report.tokens.0 as f64 / report.seconds.0.max(1e-9);
                let text = format!(
                    "{} step {}/{} loss {:.3} {rate:.0} tokens/s",
                    self.label(&job),
                    report.step,
                    report.steps,
                    report.loss
                );
                let part = report.steps.div_ceil(LINES_PER_TRAINING).max(1);
                self.position(report.step, report.steps, text, report.step.is_multiple_of(part));
            }
            Progress::Scoring { job, done, total } => {
                let text = format!("{} scored {done}/{total} documents", self.label(&job));
                self.position(done, total, text, done == total);
            }
            Progress::SweepStarted { sweep, jobs } => {
                let s = if jobs == 1 { "" } else { "s" };
                self.line(&format!("sweep {sweep}: {jobs} job{s} to run"));
            }
            Progress::SweepEnded { .. } | Progress::SweepFailed { .. } => {}
            Progress::Total { jobs } => self.total = jobs as u64,
            Progress::Unavailable { jobs, reason } => {
                let stay = if jobs == 1 { "job stays" } else { "jobs stay" };
                self.line(&format!("{jobs} {stay} queued: {reason}"));
            }
            Progress::LetGo { label, taken } => {
                let taken = taken.as_str();
                self.line(&format!("[{}/{}] {label} {taken}", self.done, self.total));
            }
            Progress::WaitingForMemory { jobs } => {
                let wait = if jobs == 1 { "job waits" } else { "jobs wait" };
                self.line(&format!("{jobs} {wait} for memory that other programs hold on the cards"));
            }
            Progress::Waiting { reason, pause } => {
                self.line(&format!("waiting {} s: {reason}", pause.as_secs().max(1)));
            }
            Progress::LogsLost { folder } => {
                let folder = folder.display();
                self.line(&format!(
                    "the disk of {folder} is full: jobs go on, and lines of their logs are lost"
                ));
            }
            Progress::Quarantined { device, reason } => {
                self.line(&format!("quarantined {device}: engines crash on start; last error: {reason}"));
            }
            Progress::Ended { job, label, end } => {
                self.labels.remove(&job);
                self.done += u64::from(!matches!(end, AttemptEnd::Requeued(_)));
                let word = match end {
                    AttemptEnd::Finished => "done".to_owned(),
                    AttemptEnd::Failed(reason) => format!("failed: {reason}"),
                    AttemptEnd::Diverged(reason) => format!("diverged: {reason}"),
                    AttemptEnd::Requeued(reason) => format!("requeued: {reason}"),
                };
                self.line(&format!("[{}/{}] {label} {word}", self.done, self.total));
            }
        }
    }

    /// Clears the bar.
    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn label(&self, job: &JobId) -> &str {
        self.labels.get(job).map_or("", String::as_str)
    }

    fn announce(&mut self, text: String) {
        match &self.bar {
            Some(_) => self.position(0, 1, text, false),
            None => self.line(&format!("[{}/{}] {text}", self.done, self.total)),
        }
    }

    fn position(&mut self, at: u64, of: u64, text: String, worth_a_line: bool) {
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(format!("[{}/{}]", self.done, self.total));
                bar.set_length(of);
                bar.set_position(at);
                bar.set_message(text);
            }
            None if worth_a_line && self.last_line.elapsed() > APART => {
                self.last_line = Instant::now();
                self.line(&format!("[{}/{}] {text}", self.done, self.total));
            }
            None => {}
        }
    }

    fn line(&self, text: &str) {
        // Labels come from sweep files and reasons from engines.
        let text = text.lines().map(in_one_line).collect::<Vec<_>>().join("\n");
        match &self.bar {
            Some(bar) => bar.println(text),
            None => write_error(&text),
        }
    }
}
