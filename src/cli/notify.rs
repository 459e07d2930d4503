//! `[notify]`: telling whom the sweep file names.

use std::io::{Error, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use super::output::write_error;
use crate::job::counted;
use crate::runner::{Progress, RunSummary, Stopped};
use crate::store::Store;
use crate::sweep_file::Notify;

/// How long a command or a server may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a command is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What of a sweep is notified.
#[derive(Debug)]
pub(super) enum SweepEvent {
    Started(String, usize),
    Ended(String, Box<RunSummary>),
    Failed(String, String),
}

impl SweepEvent {
    /// The event of this progress, if it is one.
    pub(super) fn of(progress: &Progress) -> Option<Self> {
        match progress {
            Progress::SweepStarted { sweep, jobs } => Some(Self::Started(sweep.clone(), *jobs)),
            Progress::SweepEnded { sweep, summary } => Some(Self::Ended(sweep.clone(), summary.clone())),
            Progress::SweepFailed { sweep, error, .. } => Some(Self::Failed(sweep.clone(), error.clone())),
            _ => None,
        }
    }

    fn sweep(&self) -> &str {
        match self {
            Self::Started(sweep, _) | Self::Ended(sweep, _) | Self::Failed(sweep, _) => sweep,
        }
    }
}

/// Notifies whom the sweeps' files name, of one event after another.
pub(super) async fn notify(
    mut events: UnboundedReceiver<SweepEvent>,
    store: &Store,
    default: Option<&Notify>,
) {
    while let Some(event) = events.recv().await {
        let Ok(stored) = store.sweep(event.sweep()).await else { continue };
        // Whoever can write into the database must not have commands run as somebody else.
        if stored.submitter != Some(nix::unistd::getuid().as_raw()) {
            continue;
        }
        // The configuration's is this user's own.
        let Ok(named) = stored.spec().map(|spec| spec.notify) else { continue };
        let Some(whom) = named.or_else(|| default.cloned()) else { continue };
        let task = tokio::task::spawn_blocking(move || match &event {
            SweepEvent::Started(sweep, jobs) => tell_start(Some(&whom), sweep, *jobs),
            SweepEvent::Ended(sweep, summary) => tell_end(Some(&whom), sweep, summary),
            SweepEvent::Failed(sweep, error) => tell_failure(Some(&whom), sweep, error),
        });
        // What fails changes nothing.
        let _ = task.await;
    }
}

/// Tells that a sweep's jobs begin to run.
fn tell_start(notify: Option<&Notify>, sweep: &str, jobs: usize) {
    let text = format!("sweep {sweep}: starting {}", counted(jobs as u64, "job"));
    tell(notify, "started", &json!({ "event": "started", "sweep": sweep, "text": text, "jobs": jobs }));
}

/// Tells that a sweep's jobs can no longer run.
fn tell_failure(notify: Option<&Notify>, sweep: &str, message: &str) {
    let text = format!("sweep {sweep} stopped: {message}");
    tell(notify, "failed", &json!({ "event": "failed", "sweep": sweep, "text": text, "error": message }));
}

/// Tells what a sweep's jobs came to: `stopped`, `failed` or `diverged` where any did, or `done`.
fn tell_end(notify: Option<&Notify>, sweep: &str, outcome: &RunSummary) {
    let causes = outcome.causes();
    let event = match outcome {
        RunSummary { stopped: Some(_), .. } => "stopped",
        RunSummary { failed, .. } if !failed.is_empty() => "failed",
        RunSummary { diverged, .. } if !diverged.is_empty() => "diverged",
        _ => "done",
    };
    let why = outcome.stopped.map(|why| match why {
        Stopped::User => "user",
        Stopped::Time => "time",
        Stopped::Failures => "failures",
        Stopped::Disk => "disk",
        Stopped::Environment => "environment",
    });
    let facts = json!({
        "event": event,
        "sweep": sweep,
        "text": format!("sweep {sweep}: {}", outcome.line()),
        "done": outcome.finished,
        "failed": outcome.failed.len(),
        "diverged": outcome.diverged.len(),
        "causes": causes.iter().map(|(reason, jobs)| json!({ "reason": reason, "jobs": jobs })).collect::<Vec<_>>(),
        "stopped": why,
        "seconds": outcome.seconds.0,
        "device_seconds": outcome.device.0,
    });
    tell(notify, event, &facts);
}

/// The command reads the event as JSON, the webhook gets it. What fails is told and changes nothing.
fn tell(notify: Option<&Notify>, event: &str, facts: &serde_json::Value) {
    let Some(notify) = notify else { return };
    if !notify.on.is_empty() && !notify.on.iter().any(|known| known == event) {
        return;
    }
    let body = facts.to_string();
    if let Some(command) = &notify.command
        && let Err(error) = feed(command, &body)
    {
        write_error(&format!("[notify] command: {error}"));
    }
    // The address is a secret: it is never printed.
    match notify.webhook_env.as_ref().map(std::env::var) {
        Some(Ok(address)) => {
            let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build();
            let agent: ureq::Agent = agent.into();
            if agent.post(&address).content_type("application/json").send(&body).is_err() {
                write_error("[notify] webhook: the event could not be sent");
            }
        }
        Some(Err(_)) => write_error("[notify] webhook_env names no variable that is set"),
        None => {}
    }
}

fn feed(command: &str, body: &str) -> std::io::Result<()> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = shell.spawn()?;
    let body = body.to_owned();
    let input = child.stdin.take();
    // A command that does not read must not block the run.
    let writer = std::thread::spawn(move || input.map(|mut input| input.write_all(body.as_bytes())));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(Error::other(format!("it took more than {} s and was killed", PATIENCE.as_secs())));
        }
        std::thread::sleep(LOOK);
    };
    if writer.is_finished() {
        // What it did not read it did not need.
        let _ = writer.join();
    }
    if status.success() { Ok(()) } else { Err(Error::other(format!("it ended with {status}"))) }
}
