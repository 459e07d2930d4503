//! `loragrid export --to`: sending a tracker what it has not received yet.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::{ExportArguments, TrackerKind};
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line};
use crate::job::counted;
use crate::store::{Store, StoredSweep};
use crate::track::{Mlflow, TensorBoard, Tracker, Trackio};
use crate::workspace::{Workspace, forget_tracked, track_sweep, trackers_of};

pub(super) fn run(
    arguments: &ExportArguments,
    kind: TrackerKind,
    workspace: &Workspace,
) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let sweep = match &arguments.sweep {
            Some(sweep) => sweep.clone(),
            None => store.last_sweep().await?,
        };
        let stored = store.sweep(&sweep).await?;
        let tracker = tracker(arguments, kind, (&stored, &sweep))?;
        let (word, target) = (tracker.word(), tracker.target());
        let tracker = Arc::new(Mutex::new(tracker));
        if arguments.again {
            forget_tracked(&store, &sweep, &tracker).await?;
        }
        let summary = track_sweep(&store, &sweep, &tracker).await?;
        store.close().await;
        if is_json() {
            write_json(&json!({
                "sweep": sweep, "tracker": word, "target": target, "sent": summary.sent, "jobs": summary.jobs,
            }))?;
        } else {
            let (sent, jobs) = (summary.sent, counted(summary.jobs as u64, "job"));
            write_line(&format!("{sweep}: sent {sent} of {jobs} to {word} at {target}"))?;
        }
        Ok(ExitCode::Success)
    })
}

/// The tracker that is asked for, with its place by the arguments, the environment, or the sweep file. Error: none is known.
fn tracker(
    arguments: &ExportArguments,
    kind: TrackerKind,
    (stored, sweep): (&StoredSweep, &str),
) -> Result<Tracker, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let named = match kind {
        TrackerKind::Mlflow => {
            let uri = arguments.uri.clone().or_else(|| variable("MLFLOW_TRACKING_URI"));
            uri.map(|uri| Tracker::Mlflow(Mlflow::new(&uri, &variable)))
        }
        TrackerKind::Tensorboard => {
            arguments.output.as_ref().map(|folder| Tracker::TensorBoard(TensorBoard::new(folder)))
        }
        TrackerKind::Trackio => {
            arguments.project.as_ref().map(|project| Tracker::Trackio(Trackio::new(project, &variable)))
        }
    };
    let word = match kind {
        TrackerKind::Mlflow => "mlflow",
        TrackerKind::Tensorboard => "tensorboard",
        TrackerKind::Trackio => "trackio",
    };
    let in_file = || trackers_of(stored).into_iter().find(|tracker| tracker.word() == word);
    let usual = || (kind == TrackerKind::Trackio).then(|| Tracker::Trackio(Trackio::new(sweep, &variable)));
    named.or_else(in_file).or_else(usual).ok_or_else(|| {
        let help = match kind {
            TrackerKind::Mlflow => {
                "name its server with --uri, MLFLOW_TRACKING_URI, or [track] mlflow in the sweep file"
            }
            _ => "name a folder with --output, or [track] tensorboard in the sweep file",
        };
        Failure::new(ExitCode::Usage, format!("it is not known where {word} is"), help.to_owned())
    })
}
