//! Progress as a stream of JSON objects, one a line. docs/json.md describes them.

use serde_json::{Value as Json, json};

use crate::cli::output::write_event;
use crate::queue::AttemptEnd;
use crate::runner::Progress;

/// Writes an event. A reader that is gone misses it.
pub(super) fn write(progress: &Progress) {
    let _ = write_event(&event(progress));
}

fn event(progress: &Progress) -> Json {
    match progress {
        Progress::SweepStarted { sweep, jobs } => {
            json!({ "event": "sweep_started", "sweep": sweep, "jobs": jobs })
        }
        Progress::SweepEnded { sweep, summary } => {
            json!({ "event": "sweep_ended", "sweep": sweep, "summary": summary })
        }
        Progress::SweepFailed { sweep, jobs, error } => {
            json!({ "event": "sweep_failed", "sweep": sweep, "jobs": jobs, "error": error })
        }
        Progress::Total { jobs } => json!({ "event": "total", "jobs": jobs }),
        Progress::Unavailable { jobs, reason } => {
            json!({ "event": "unavailable", "jobs": jobs, "reason": reason })
        }
        Progress::Loading { slot, device } => json!({ "event": "loading", "slot": slot.0, "device": device }),
        Progress::Started { job, label, trains, slot, device } => {
            json!({ "event": "started", "job": job, "label": label, "trains": trains, "slot": slot.0, "device": device })
        }
        Progress::Step { job, report } => {
            json!({
                "event": "step", "job": job, "step": report.step, "steps": report.steps,
                "loss": report.loss, "validation_loss": report.validation_loss,
                "learning_rate": report.learning_rate, "tokens": report.tokens.0, "seconds": report.seconds.0,
            })
        }
        Progress::Scoring { job, done, total } => {
            json!({ "event": "scoring", "job": job, "documents": done, "of": total })
        }
        Progress::LetGo { job, label, taken } => {
            json!({ "event": "taken", "job": job, "label": label, "as": taken.as_str() })
        }
        Progress::WaitingForMemory { jobs } => json!({ "event": "waiting_for_memory", "jobs": jobs }),
        Progress::Waiting { reason, pause } => {
            json!({ "event": "waiting", "reason": reason, "seconds": pause.as_secs_f64() })
        }
        Progress::LogsLost { folder } => json!({ "event": "logs_lost", "folder": folder }),
        Progress::Quarantined { device, reason } => {
            json!({ "event": "quarantined", "device": device, "reason": reason })
        }
        Progress::Ended { job, label, end } => {
            let (state, reason) = match end {
                AttemptEnd::Finished => ("done", None),
                AttemptEnd::Failed(reason) => ("failed", Some(reason)),
                AttemptEnd::Diverged(reason) => ("diverged", Some(reason)),
                AttemptEnd::Requeued(reason) => ("requeued", Some(reason)),
            };
            json!({ "event": "ended", "job": job, "label": label, "state": state, "reason": reason })
        }
    }
}
