//! `loragrid clone`: a job again, with some keys changed.

use serde_json::json;

use super::submit::submit;
use crate::cli::ExitCode;
use crate::cli::arguments::CloneArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line};
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
        if is_json() {
            write_json(&json!({ "sweep": name, "job": cell, "queued": queued }))?;
        } else if queued == 0 {
            write_line(&format!("job {cell} of sweep {name} is already done"))?;
        } else {
            write_line(&format!("job {cell} queued in sweep {name}; run it with `loragrid work`"))?;
        }
        Ok(ExitCode::Success)
    })
}
