//! `loragrid rm`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::RmArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{confirmed, is_json, write_json, write_line};
use crate::store::{Store, SweepRemoval};
use crate::workspace::{Workspace, remove_sweep};

pub(in crate::cli) fn run(arguments: &RmArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let removal = store.sweep_removal(&arguments.sweep).await?;
        let text = words(&removal);
        let removes = !arguments.dry_run && (arguments.yes || confirmed(&format!("Remove {text}?"))?);
        if removes {
            remove_sweep(&store, &removal).await?;
        }
        store.close().await;
        if is_json() {
            write_json(&json!({ "dry_run": !removes, "removal": removal }))?;
        } else if removes {
            write_line(&format!("removed {text}; a minute from now `loragrid gc` can delete its adapters"))?;
        } else {
            write_line(&format!("would remove {text}"))?;
        }
        Ok(ExitCode::Success)
    })
}

fn words(removal: &SweepRemoval) -> String {
    let SweepRemoval { sweep, versions, jobs, shared, active, .. } = removal;
    let count = |number: u64, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let mut text = format!("sweep {sweep} ({}, {}", count(*versions, "version"), count(*jobs, "job"));
    if *shared > 0 {
        text.push_str(&format!(", {shared} of them shared with other sweeps"));
    }
    if !active.is_empty() {
        text.push_str(&format!(", {} not ended yet", active.len()));
    }
    text + ")"
}
