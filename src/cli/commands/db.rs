//! `loragrid db upgrade`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::{write_json, write_line};
use crate::cli::queue_arguments::DbCommand;
use crate::store::Store;

pub(in crate::cli) fn run(command: &DbCommand, environment: &Environment) -> Result<ExitCode, Failure> {
    let DbCommand::Upgrade(arguments) = command;
    let copy = block_on(async { Ok(Store::upgrade(&environment.db).await?) })?;
    if arguments.json {
        write_json(&json!({ "upgraded": copy.is_some(), "copy": copy }))?;
        return Ok(ExitCode::Success);
    }
    let db = environment.db.display();
    write_line(&match copy {
        Some(copy) => format!("upgraded {db}; the file as it was is in {}", copy.display()),
        None => format!("{db} is up to date"),
    })?;
    Ok(ExitCode::Success)
}
