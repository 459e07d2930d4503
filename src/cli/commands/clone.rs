//! `loragrid clone`: a job again, with some keys changed.

use serde_json::json;

use super::submit::submit;
use crate::cli::ExitCode;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{write_json, write_line};
use crate::cli::queue_arguments::CloneArguments;
use crate::store::Store;
use crate::workspace::{CloneRequest, PreparedClone, Workspace, job_named};

pub(in crate::cli) fn run(arguments: &CloneArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let job = job_named(&store, &arguments.job).await?;
        let request = CloneRequest { job, changes: arguments.set.clone(), name: arguments.name.clone() };
        let PreparedClone { prepared, job: cell } = workspace.prepare_clone(store, &request).await?;
        let (name, queued) = (prepared.plan.name.clone(), prepared.plan.to_run().count());
        let (store, _) = submit(prepared, workspace).await?;
        store.close().await;
        if arguments.json {
            write_json(&json!({ "sweep": name, "job": cell, "queued": queued }))?;
        } else if queued == 0 {
            write_line(&format!("job {cell} of sweep {name} is done already"))?;
        } else {
            write_line(&format!("job {cell} is queued in sweep {name}; `loragrid work` runs it"))?;
        }
        Ok(ExitCode::Success)
    })
}
