//! Carrying out plans, for `run` and `work` alike.

use std::path::{Path, PathBuf};

use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use nix::sys::signal::{SigHandler, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::exit_code::ExitCode;
use super::failure::Failure;
use super::notify::{SweepEvent, notify};
use super::output::write_error;
use super::progress::Display;
use crate::engine_process::{continue_engines, stop_engines};
use crate::runner::{Limits, Progress, RunSummary, Stopped};
use crate::scheduler::PACK_MOST;
use crate::store::{Patience, Store};
use crate::workspace::{WorkRequest, Workspace};

/// How and for how long jobs are run.
#[derive(Debug, Args)]
pub(super) struct WorkingArguments {
    /// Where engines run: auto, cpu (all cores as one), cpu:N (N shares of them), or cuda:0,2
    #[arg(long, value_name = "DEVICES", default_value = "auto")]
    pub(super) devices: String,
    /// Stop at this time of day, such as 07:00; jobs go back with what they have done
    #[arg(long, value_name = "HH:MM")]
    pub(super) until: Option<String>,
    /// Stop after this time, such as 8h, 90m or 45s
    #[arg(long, value_name = "TIME")]
    pub(super) budget: Option<String>,
    /// Stop when this many jobs have failed or diverged
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) max_failures: Option<u64>,
    /// Most jobs that share passes over one base; 1: each alone, the same to the bit at every run
    #[arg(long, env = "LORAGRID_PACK", hide_env_values = true, value_name = "N", default_value_t = PACK_MOST as u64, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(super) pack: u64,
    /// The engine [default: loragrid-engine beside this program, or in PATH]
    #[arg(long, env = "LORAGRID_ENGINE", hide_env_values = true, value_name = "FILE")]
    pub(super) engine: Option<PathBuf>,
}

impl WorkingArguments {
    /// How long to go on, from now. Error: a time that is none.
    pub(super) fn limits(&self) -> Result<Limits, Failure> {
        let wrong = |text: &str, help: &str| {
            Failure::new(ExitCode::Usage, format!("'{text}' is no time"), help.to_owned())
        };
        let now = std::time::Instant::now();
        let mut limits = Limits { max_failures: self.max_failures, ..Limits::from_environment() };
        if let Some(text) = &self.budget {
            let time = duration(text).ok_or_else(|| wrong(text, "write 8h, 90m or 45s"))?;
            limits.until = Some(now.checked_add(time).ok_or_else(|| wrong(text, "write 8h, 90m or 45s"))?);
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

/// A time such as 8h, 90m or 45s.
fn duration(text: &str) -> Option<std::time::Duration> {
    let split = text.char_indices().next_back()?.0;
    let (number, unit) = text.split_at_checked(split)?;
    let factor = match unit {
        "h" => 3600.0,
        "m" => 60.0,
        "s" => 1.0,
        _ => return None,
    };
    let seconds = number.parse::<f64>().ok()? * factor;
    std::time::Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

/// From a local time to the next time of day that a text names.
fn until(text: &str, now: &jiff::Zoned) -> Option<std::time::Duration> {
    let time = jiff::civil::Time::strptime("%H:%M", text).ok()?;
    let on = |date: jiff::civil::Date| date.to_datetime(time).to_zoned(now.time_zone().clone()).ok();
    let today = on(now.date())?;
    let at = if today > *now { today } else { on(now.date().tomorrow().ok()?)? };
    // The clock of the zone may be changed in between: what passes is what counts.
    at.timestamp().duration_since(now.timestamp()).try_into().ok()
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
    let (outcome, ()) = tokio::join!(run, notify(sweeps, store));
    let lost = display.finish();
    if lost > 0 {
        tracing::debug!(lost, "progress that the terminal did not take");
    }
    let outcome = outcome?;
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
        Some(Stopped::User) => write_error("stopped; the same command goes on where this one ended"),
        Some(Stopped::Time) => {
            write_error("stopped, the time was up; the same command goes on where this one ended")
        }
        Some(Stopped::Failures) => write_error("stopped, too many jobs have failed"),
        Some(Stopped::Disk) => write_error(
            "stopped, the sweep holds more than [keep] max_disk allows and nothing of it may go; raise it, or lower adapters",
        ),
        Some(Stopped::Environment) => write_error(&format!(
            "stopped: {}; the jobs stay queued, and the same command continues them",
            outcome.trouble
        )),
        None => {}
    }
    if !outcome.failed.is_empty() {
        write_error(&format!("logs are in {}", results.join("logs").display()));
    }
    let causes = outcome.causes();
    if causes.iter().any(|(_, count)| *count > 1) {
        causes.iter().for_each(|(cause, count)| write_error(&format!("  {count} x {cause}")));
    }
    if *outcome != RunSummary::default() && (outcome.finished > 0 || outcome.stopped.is_some()) {
        write_error(&outcome.line());
    }
}

/// The exit code of what runs came to.
pub(super) fn exit_code(outcome: &RunSummary) -> ExitCode {
    if outcome.stopped == Some(Stopped::User) {
        ExitCode::Interrupted
    } else if outcome.stopped == Some(Stopped::Disk) {
        ExitCode::Disk
    } else if outcome.stopped == Some(Stopped::Environment) {
        ExitCode::Blocked
    } else if !outcome.failed.is_empty() || !outcome.diverged.is_empty() {
        ExitCode::JobsFailed
    } else if !outcome.waiting.is_empty() {
        ExitCode::Blocked
    } else {
        ExitCode::Success
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(duration("8h"), Some(Duration::from_secs(28_800)));
        assert_eq!(duration("0.5m"), Some(Duration::from_secs(30)));
        for text in ["8", "h", "", "-1h", "8d", "é", "1e30h", "infs", "nanh", "0h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_of_day_that_is_past_is_tomorrows() {
        let now: jiff::Zoned = "2026-01-02T22:30:00+01:00[Europe/Berlin]".parse().unwrap();
        assert_eq!(until("23:00", &now), Some(Duration::from_secs(1800)));
        assert_eq!(until("07:00", &now), Some(Duration::from_secs(8 * 3600 + 1800)));
        assert_eq!(until("25:00", &now), None);
    }

    #[test]
    fn a_time_of_day_after_the_clocks_are_changed_is_as_far_as_time_passes() {
        let now: jiff::Zoned = "2026-03-28T22:00:00+01:00[Europe/Berlin]".parse().unwrap();
        assert_eq!(until("07:00", &now), Some(Duration::from_secs(8 * 3600)));
    }
}
