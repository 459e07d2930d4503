//! `loragrid run`

use super::plan::{dry_run, rules, summary};
use super::submit::{prepare, submit};
use super::top;
use crate::cli::ExitCode;
use crate::cli::arguments::RunArguments;
use crate::cli::downloads::EventDisplay;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, is_quiet, write_line, write_note};
use crate::cli::work::{carry_out, exit_code, stops};
use crate::workspace::{WorkRequest, Workspace};

pub(in crate::cli) fn run(arguments: &RunArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let limits = arguments.working.limits()?;
    block_on(async {
        if arguments.submitting.dry_run {
            return dry_run(&arguments.sweep, workspace).await;
        }
        let mut prepared = prepare(&arguments.sweep, workspace, EventDisplay::of_run()).await?;
        prepared.priority = arguments.submitting.priority;
        if prepared.plan.to_run().next().is_some() {
            workspace.find_engine()?;
        }
        let (store, plan) = submit(prepared, workspace).await?;
        write_note(&summary(&plan, rules(workspace)));
        let (mut stops, patience) = stops();
        let store = store.with(patience);
        let request = WorkRequest::of_plan(&plan, limits, workspace.pack);
        let name = plan.name.as_str();
        let outcome = carry_out(&store, workspace, request, &mut stops).await?;
        top::show_sweep(&store, name).await?;
        if !is_json() && !is_quiet() && exit_code(&outcome) == ExitCode::Success {
            write_line(&next_commands(name, &arguments.sweep.file.display().to_string()))?;
        }
        store.close().await;
        Ok(exit_code(&outcome))
    })
}

fn next_commands(name: &str, file: &str) -> String {
    format!(
        "\nNext:\n  loragrid best {name}   the winner, and what to do with it\n  loragrid report {name} -o report.html   tables and charts\n  loragrid plan {file}   what is done, what would run after an edit\n  loragrid status   every sweep of the database"
    )
}
