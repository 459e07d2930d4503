//! `loragrid submit`

use serde_json::json;

use super::plan::{dry_run, rules, summary};
use crate::cli::ExitCode;
use crate::cli::arguments::{SubmitArguments, SweepArguments};
use crate::cli::downloads::EventDisplay;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line, write_verbatim};
use crate::plan::Plan;
use crate::store::Store;
use crate::sweep_file::Slurm;
use crate::workspace::{BatchScript, Prepared, Workspace, WorkspaceError, send_batch};

pub(in crate::cli) fn run(arguments: &SubmitArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    if arguments.slurm && arguments.submitting.dry_run {
        let spec = arguments.sweep.request().read()?;
        write_verbatim(script(spec.name.as_str(), spec.slurm, workspace)?.text().trim_end())?;
        return Ok(ExitCode::Success);
    }
    block_on(async {
        if arguments.submitting.dry_run {
            return dry_run(&arguments.sweep, workspace).await;
        }
        let mut prepared = prepare(&arguments.sweep, workspace, EventDisplay::default()).await?;
        prepared.priority = arguments.submitting.priority;
        let slurm = prepared.slurm.clone();
        let (store, plan) = submit(prepared, workspace).await?;
        let queued = plan.to_run().count();
        store.close().await;
        let slurm_job = if arguments.slurm && queued > 0 {
            let logs = workspace.results().join("logs");
            std::fs::create_dir_all(logs)?;
            let script = script(plan.name.as_str(), slurm, workspace)?.text();
            Some(send_batch(&script).map_err(WorkspaceError::from)?)
        } else {
            None
        };
        if is_json() {
            let submitted = json!({
                "sweep": plan.name, "jobs": plan.jobs.len(), "queued": queued, "slurm_job": slurm_job,
            });
            write_json(&submitted)?;
        } else {
            write_line(&summary(&plan, rules(workspace)))?;
            write_line(&match (slurm_job, queued) {
                (Some(id), _) => format!("queued; Slurm runs it as job {id}"),
                (None, 0) if arguments.slurm => "nothing to run: no job was sent to Slurm".to_owned(),
                (None, _) => "queued; run it with `loragrid work`".to_owned(),
            })?;
        }
        Ok(ExitCode::Success)
    })
}

/// The batch script of a sweep. Errors: settings that exclude each other, a path that no script can hold.
fn script(sweep: &str, slurm: Option<Slurm>, workspace: &Workspace) -> Result<BatchScript, Failure> {
    let slurm = slurm.unwrap_or_default().over(workspace.slurm.clone().unwrap_or_default());
    if let Some((key, wanted)) = slurm.problem() {
        let message = format!("slurm.{key} of the sweep file and of loragrid.toml together: {wanted}");
        return Err(Failure::new(ExitCode::Usage, message, None));
    }
    let db = workspace.db.argument()?;
    let engine = workspace.engine.as_deref().map(std::path::absolute).transpose()?;
    let folder = std::env::current_dir()?;
    // A line feed would begin another line of the script.
    if [&db, &*folder.to_string_lossy()].iter().any(|text| text.chars().any(char::is_control)) {
        let message = format!("{db} or {} cannot stand in a batch script", folder.display());
        return Err(Failure::new(
            ExitCode::Usage,
            message,
            "use paths without control characters".to_owned(),
        ));
    }
    Ok(BatchScript {
        sweep: sweep.to_owned(),
        slurm,
        program: std::env::current_exe()?,
        db,
        results: workspace.results(),
        artifacts: workspace.db.artifacts().map(ToString::to_string),
        devices: workspace.devices.clone(),
        gpus_per_job: workspace.gpus_per_job,
        engine,
        folder,
        time_up: ExitCode::TimeUp as u8,
    })
}

/// Plans a sweep file to submit it; what is reported meanwhile is shown. Errors: see [`Workspace::prepare`].
pub(in crate::cli) async fn prepare(
    sweep: &SweepArguments,
    workspace: &Workspace,
    mut display: EventDisplay,
) -> Result<Prepared, Failure> {
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
