//! `loragrid undo`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::UndoArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, local_time, show_table, write_json, write_line};
use crate::job::counted;
use crate::report::{Cell, Column, Table};
use crate::store::{Actor, Operation, OperationKind, Origin, Store};
use crate::workspace::Workspace;

pub(in crate::cli) fn run(arguments: &UndoArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    if arguments.list {
        return list(arguments, workspace);
    }
    let undone = block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let undone = store.undo(&Actor::here(Origin::Command), arguments.number).await?;
        store.close().await;
        Ok(undone)
    })?;
    if is_json() {
        write_json(&json!({ "undone": undone }))?;
        return Ok(ExitCode::Success);
    }
    let Operation { id, kind, subject, .. } = &undone.operation;
    let mut line = format!("undid {id}, {} {subject}: ", kind.as_str());
    match (kind, undone.operation.before.priority) {
        (OperationKind::Priority, Some(priority)) => line.push_str(&format!("its priority is {priority}")),
        // What failed cannot fail again without running.
        (OperationKind::Retry, _) => line.push_str(&format!("{} cancelled", counted(undone.moved, "job"))),
        _ => line.push_str(&counted(undone.moved, "job")),
    }
    if undone.left > 0 {
        line.push_str(&format!("; {} went on since and stay as they are", counted(undone.left, "job")));
    }
    write_line(&line)?;
    Ok(ExitCode::Success)
}

fn list(arguments: &UndoArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let operations = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let operations = store.operations(arguments.limit).await?;
        store.close().await;
        Ok(operations)
    })?;
    if is_json() {
        write_json(&json!({ "operations": operations }))?;
        return Ok(ExitCode::Success);
    }
    let columns = vec![
        Column::number("#", None),
        Column::text("when"),
        Column::text("who"),
        Column::text("from"),
        Column::text("did"),
        Column::number("jobs", None),
        Column::text("undo"),
    ];
    let row = |operation: &Operation| {
        let undo = match (operation.undone_ms, operation.kind.lasting()) {
            (Some(at), _) => format!("undone {}", local_time(at, "%H:%M")),
            (None, None) => "yes".to_owned(),
            (None, Some(_)) => "no".to_owned(),
        };
        let jobs = operation.before.jobs.len() as u64;
        vec![
            Cell::Count(operation.id.max(0) as u64),
            Cell::Text(local_time(operation.at_ms, "%Y-%m-%d %H:%M")),
            Cell::Text(operation.who.clone()),
            Cell::Text(operation.origin.clone()),
            Cell::Text(format!("{} {}", operation.kind.as_str(), operation.subject)),
            if jobs == 0 { Cell::Missing } else { Cell::Count(jobs) },
            Cell::Text(undo),
        ]
    };
    write_line(&show_table(&Table { columns, rows: operations.iter().map(row).collect() }))?;
    Ok(ExitCode::Success)
}
