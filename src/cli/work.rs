//! Carrying out plans, for `run` and `work` alike.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{SigHandler, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::arguments::WorkingArguments;
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::notify::{SweepEvent, notify};
use super::output::{is_json, write_error, write_event, write_note};
use super::progress::Display;
use super::time::{TIME_HELP, duration, until};
use crate::engine_process::{continue_engines, stop_engines};
use crate::job::Seconds;
use crate::runner::{Limits, Progress, RunSummary, Stopped};
use crate::store::{Patience, Store};
use crate::workspace::{SIGNAL_BEFORE_END, TrackLoop, WorkRequest, Workspace};

impl WorkingArguments {
    /// How long to go on, from now. Error: not a time.
    pub(super) fn limits(&self) -> Result<Limits, Failure> {
        let wrong = |text: &str, help: &str| {
            Failure::new(ExitCode::Usage, format!("'{text}' is not a time"), help.to_owned())
        };
        let now = tokio::time::Instant::now();
        let mut limits = Limits { max_failures: self.max_failures, ..Limits::from_environment() };
        if self.budget.is_none() && self.until.is_none() {
            limits.until = end_of_allocation().and_then(|left| now.checked_add(left));
        }
        if let Some(text) = &self.budget {
            let time = duration(text).ok_or_else(|| wrong(text, TIME_HELP))?;
            limits.until = Some(now.checked_add(time).ok_or_else(|| wrong(text, TIME_HELP))?);
        }
        if let Some(text) = &self.until {
            let wait = until(text, &jiff::Zoned::now())
                .ok_or_else(|| wrong(text, "write a time of day such as 07:00"))?;
            let at = now + wait;
            limits.until = Some(limits.until.map_or(at, |earlier| earlier.min(at)));
        }
        Ok(limits)
    }
}

/// The time until jobs must stop in a Slurm allocation: its end, less what its own signal leaves and a minute for checkpoints, but at
/// least half of what is left. None outside of an allocation.
fn end_of_allocation() -> Option<Duration> {
    let end: u64 = std::env::var("SLURM_JOB_END_TIME").ok()?.parse().ok()?;
    let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end))?;
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    // Without a limit Slurm names a day a year from now.
    if left > Duration::from_secs(60 * 24 * 3600) {
        return None;
    }
    let margin = Duration::from_secs(SIGNAL_BEFORE_END + 60).min(left / 2);
    write_note(&format!(
        "the Slurm allocation ends in {}; jobs stop {} before",
        Seconds(left.as_secs_f64()),
        Seconds(margin.as_secs_f64())
    ));
    Some(left - margin)
}

/// A channel that gets a message at each SIGINT, SIGTERM and SIGHUP, and the patience for a database that is locked or away:
/// a user who wants to stop does not wait for it.
pub(super) fn stops() -> (mpsc::Receiver<()>, Patience) {
    let (sender, receiver) = mpsc::channel(4);
    let patience = Patience::endless();
    let waiting = patience.clone();
    let ignores_hangup = ignores(nix::libc::SIGHUP);
    stop_with_terminal();
    tokio::spawn(async move {
        let streams = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        let [Ok(mut interrupt), Ok(mut terminate)] = streams else { return };
        // A hangup that was ignored when the program started (nohup) stays ignored.
        let mut hangup = if ignores_hangup { None } else { signal(SignalKind::hangup()).ok() };
        let mut hung_up = async || match &mut hangup {
            Some(hangup) => drop(hangup.recv().await),
            None => std::future::pending().await,
        };
        loop {
            let signal = tokio::select! {
                _ = interrupt.recv() => Signal::SIGINT,
                _ = terminate.recv() => Signal::SIGTERM,
                () = hung_up() => Signal::SIGHUP,
            };
            STOPPED_BY.store(signal as i32, Ordering::SeqCst);
            if IS_PLANNING.load(Ordering::SeqCst) {
                end_by(signal);
            }
            waiting.lose();
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    (receiver, patience)
}

/// Stops engines with this program when a terminal stops it (Ctrl-Z), and lets them go on with it.
fn stop_with_terminal() {
    let Ok(mut stop) = signal(SignalKind::from_raw(nix::libc::SIGTSTP)) else { return };
    tokio::spawn(async move {
        while stop.recv().await.is_some() {
            stop_engines();
            // This returns when the program is continued.
            let _ = nix::sys::signal::raise(Signal::SIGSTOP);
            continue_engines();
        }
    });
}

/// The last signal that asked this program to stop; 0: none did.
static STOPPED_BY: AtomicI32 = AtomicI32::new(0);

/// Whether a sweep is being planned, which may take minutes and can be broken off at any place.
static IS_PLANNING: AtomicBool = AtomicBool::new(false);

/// Plans on this thread. A wish to stop ends the process meanwhile: nothing runs yet, and nothing is lost.
pub(super) fn plan_interruptibly<T>(plan: impl FnOnce() -> T) -> T {
    IS_PLANNING.store(true, Ordering::SeqCst);
    let planned = plan();
    IS_PLANNING.store(false, Ordering::SeqCst);
    planned
}

/// The same for a call that reads the database meanwhile.
pub(super) async fn planning<T>(call: impl Future<Output = T>) -> T {
    IS_PLANNING.store(true, Ordering::SeqCst);
    let planned = call.await;
    IS_PLANNING.store(false, Ordering::SeqCst);
    planned
}

/// Ends this process as the signal would, had nobody listened to it.
fn end_by(signal: Signal) {
    // SAFETY: the default action of a signal runs no code of this process.
    let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    let _ = nix::sys::signal::raise(signal);
}

/// Whether this process ignores a signal.
fn ignores(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

/// Runs jobs, shows progress, and reports how they ended. Error: the run's.
pub(super) async fn carry_out(
    store: &Store,
    workspace: &Workspace,
    request: WorkRequest,
    stops: &mut mpsc::Receiver<()>,
) -> Result<RunSummary, Failure> {
    let mut display = Display::new();
    let (news, sweeps) = mpsc::unbounded_channel();
    let shown = &mut display;
    let run = async {
        // Dropped at the end of the run, which ends the notifications.
        let news = news;
        let mut watch = |progress: Progress| {
            // The other end lives as long as this one.
            let _ = SweepEvent::of(&progress).map(|event| news.send(event));
            shown.show(progress);
        };
        let open = |open: &mut dyn FnMut()| plan_interruptibly(open);
        workspace.work(store, request, open, &mut watch, stops).await
    };
    let tracking = TrackLoop::start(&workspace.db);
    let (outcome, ()) = tokio::join!(run, notify(sweeps, store, workspace.notify.as_ref()));
    let untold = tracking.finish().await;
    let lost = display.finish();
    if lost > 0 {
        tracing::debug!(lost, "progress that the terminal did not take");
    }
    untold.iter().for_each(|line| write_error(line));
    let outcome = outcome?;
    if is_json() {
        write_event(&serde_json::json!({ "event": "summary", "summary": outcome }))?;
    }
    tell(&outcome, &workspace.results());
    Ok(outcome)
}

/// What a run came to, on standard error.
fn tell(outcome: &RunSummary, results: &Path) {
    for (word, jobs) in [("failed", &outcome.failed), ("diverged", &outcome.diverged)] {
        for (label, reason) in jobs {
            write_error(&format!("{label} {word}: {reason}"));
        }
    }
    match outcome.stopped {
        Some(Stopped::User) => write_error("stopped; run the same command to continue"),
        Some(Stopped::Time) => write_error("time limit reached; run the same command to continue"),
        Some(Stopped::Failures) => write_error("stopped: too many jobs failed"),
        Some(Stopped::Disk) => write_error(
            "stopped: the sweep exceeds [keep] max_disk and no adapter may be deleted; raise max_disk, or keep fewer adapters",
        ),
        Some(Stopped::Environment) => write_error(&format!(
            "stopped: {}; jobs stay queued, run the same command to continue",
            outcome.trouble
        )),
        None => {}
    }
    if !outcome.failed.is_empty() {
        write_error(&format!("logs: {}", results.join("logs").display()));
    }
    let causes = outcome.causes();
    if causes.iter().any(|(_, count)| *count > 1) {
        causes.iter().for_each(|(cause, count)| write_error(&format!("  {count} x {cause}")));
    }
    if *outcome != RunSummary::default() && (outcome.finished > 0 || outcome.stopped.is_some()) {
        write_note(&outcome.line());
    }
}

/// The exit code of the signal that stopped this program.
pub(super) fn stopped_by() -> ExitCode {
    match Signal::try_from(STOPPED_BY.load(Ordering::SeqCst)) {
        Ok(Signal::SIGTERM) => ExitCode::Terminated,
        Ok(Signal::SIGHUP) => ExitCode::HungUp,
        Ok(_) | Err(_) => ExitCode::Interrupted,
    }
}

/// The exit code of what runs came to.
pub(super) fn exit_code(outcome: &RunSummary) -> ExitCode {
    let by_stop = outcome.stopped.and_then(|stopped| match stopped {
        Stopped::User => Some(stopped_by()),
        Stopped::Time => Some(ExitCode::TimeUp),
        Stopped::Disk => Some(ExitCode::Disk),
        Stopped::Environment => Some(ExitCode::Blocked),
        // Jobs failed.
        Stopped::Failures => None,
    });
    if let Some(code) = by_stop {
        code
    } else if !outcome.failed.is_empty() || !outcome.diverged.is_empty() {
        ExitCode::JobsFailed
    } else if !outcome.waiting.is_empty() {
        ExitCode::Blocked
    } else {
        ExitCode::Success
    }
}
