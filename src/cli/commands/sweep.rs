//! `loragrid sweep history`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::{HistoryArguments, SweepCommand};
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, local_time, show_table, write_json, write_line};
use crate::report::{Cell, Column, Table};
use crate::store::{Store, SweepVersion};
use crate::workspace::Workspace;

pub(in crate::cli) fn run(command: &SweepCommand, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let SweepCommand::History(arguments) = command;
    history(arguments, workspace)
}

fn history(arguments: &HistoryArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let versions = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let versions = store.history(&arguments.name).await?;
        store.close().await;
        Ok(versions)
    })?;
    if is_json() {
        write_json(&json!({ "sweep": arguments.name, "versions": versions }))?;
        return Ok(ExitCode::Success);
    }
    let columns = vec![
        Column::number("version", None),
        Column::text("submitted"),
        Column::number("jobs", None),
        Column::number("added", None),
        Column::number("dropped", None),
    ];
    let row = |version: &SweepVersion| {
        let submitted = local_time(version.created_ms, "%Y-%m-%d %H:%M");
        let count = |number: i64| Cell::Count(number.max(0) as u64);
        let (jobs, added, dropped) = (count(version.jobs), count(version.added), count(version.dropped));
        vec![count(version.version), Cell::Text(submitted), jobs, added, dropped]
    };
    let table = Table { columns, rows: versions.iter().map(row).collect() };
    write_line(&show_table(&table))?;
    Ok(ExitCode::Success)
}
