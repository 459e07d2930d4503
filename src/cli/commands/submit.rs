//! `loragrid submit`

use serde_json::json;

use super::plan::{rules, summary};
use crate::cli::ExitCode;
use crate::cli::arguments::SweepArguments;
use crate::cli::downloads::EventDisplay;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{write_json, write_line};
use crate::cli::queue_arguments::SubmitArguments;
use crate::plan::Plan;
use crate::scheduler::PACK_MOST;
use crate::store::Store;
use crate::workspace::{Prepared, Workspace};

pub(in crate::cli) fn run(arguments: &SubmitArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        let prepared = prepare(&arguments.sweep, workspace).await?;
        let (store, plan) = submit(prepared, workspace).await?;
        let queued = plan.to_run().count();
        store.close().await;
        if arguments.json {
            write_json(&json!({ "sweep": plan.name, "jobs": plan.jobs.len(), "queued": queued }))?;
        } else {
            write_line(&summary(&plan, rules(PACK_MOST as u64, workspace)))?;
            write_line("queued; `loragrid work` runs it")?;
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
