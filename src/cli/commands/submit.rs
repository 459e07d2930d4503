//! `loragrid submit`

use serde_json::json;

use super::plan::{dry_run, rules, summary};
use crate::cli::ExitCode;
use crate::cli::arguments::{SubmitArguments, SweepArguments};
use crate::cli::downloads::EventDisplay;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line};
use crate::plan::Plan;
use crate::store::Store;
use crate::workspace::{Prepared, Workspace};

pub(in crate::cli) fn run(arguments: &SubmitArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        if arguments.submitting.dry_run {
            return dry_run(&arguments.sweep, workspace).await;
        }
        let mut prepared = prepare(&arguments.sweep, workspace).await?;
        prepared.priority = arguments.submitting.priority;
        let (store, plan) = submit(prepared, workspace).await?;
        let queued = plan.to_run().count();
        store.close().await;
        if is_json() {
            write_json(&json!({ "sweep": plan.name, "jobs": plan.jobs.len(), "queued": queued }))?;
        } else {
            write_line(&summary(&plan, rules(workspace)))?;
            write_line("queued; run it with `loragrid work`")?;
        }
        Ok(ExitCode::Success)
    })
}

/// Plans a sweep file to submit it; what is reported meanwhile is shown. Errors: see [`Workspace::prepare`].
pub(in crate::cli) async fn prepare(
    sweep: &SweepArguments,
    workspace: &Workspace,
) -> Result<Prepared, Failure> {
    let mut display = EventDisplay::default();
    Ok(workspace.prepare(&sweep.request(), &mut |event| display.show(event)).await?)
}

/// Queues what a plan is missing. Errors: see [`Workspace::submit`].
pub(in crate::cli) async fn submit(
    prepared: Prepared,
    workspace: &Workspace,
) -> Result<(Store, Plan), Failure> {
    let mut display = EventDisplay::default();
    Ok(workspace.submit(prepared, &mut |event| display.show(event)).await?)
}
