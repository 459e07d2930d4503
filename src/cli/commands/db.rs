//! `loragrid db upgrade`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::DbCommand;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line};
use crate::store::Store;
use crate::workspace::Workspace;

pub(in crate::cli) fn run(command: &DbCommand, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let DbCommand::Upgrade(_) = command;
    let copy = block_on(async { Ok(Store::upgrade(&workspace.db).await?) })?;
    if is_json() {
        write_json(&json!({ "upgraded": copy.is_some(), "copy": copy }))?;
        return Ok(ExitCode::Success);
    }
    let db = &workspace.db;
    write_line(&match copy {
        Some(copy) => format!("upgraded {db}; the file as it was is in {}", copy.display()),
        None => format!("{db} is up to date"),
    })?;
    Ok(ExitCode::Success)
}
