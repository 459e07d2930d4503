//! `loragrid top`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::TopArguments;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::{terminal_width, write_error, write_json, write_line};
use crate::report::{ErrorKind, board_rows, board_table, render_terminal};
use crate::store::{Leaderboard, Store};

pub(in crate::cli) fn run(arguments: &TopArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let board = board_of(arguments.sweep.as_deref(), environment)?;
    print(&board, arguments.json)?;
    Ok(ExitCode::Success)
}

/// A sweep's leaderboard, or that of the last one submitted, which is then said on standard error.
pub(super) fn board_of(sweep: Option<&str>, environment: &Environment) -> Result<Leaderboard, Failure> {
    let board = block_on(async {
        let store = Store::open_existing(&environment.db).await?;
        let board = store.leaderboard(sweep).await?;
        store.close().await;
        Ok(board)
    })?;
    if sweep.is_none() {
        write_error(&format!("sweep {} (the last one submitted)", board.sweep));
    }
    Ok(board)
}

/// Prints a leaderboard as a table, or as one JSON object.
pub(super) fn print(board: &Leaderboard, json: bool) -> Result<(), Failure> {
    let rows = board_rows(board);
    if json {
        write_json(&json!({
            "sweep": board.sweep,
            "version": board.version,
            "objective": board.objective.as_ref().map(|(task, metric)| json!({ "task": task, "metric": metric })),
            "rows": rows,
        }))?;
        return Ok(());
    }
    write_line(&render_terminal(&board_table(board, &rows), terminal_width()))?;
    let mut notes = Vec::new();
    if rows.iter().any(|row| row.best) {
        let objective = board.objective.as_ref().map_or("the objective", |(task, _)| task.as_str());
        notes.push(format!("* best by {objective}"));
    }
    let errors = rows.iter().flat_map(|row| &row.scores).filter(|score| score.error.is_some());
    let kinds: std::collections::BTreeSet<bool> =
        errors.map(|score| score.error_kind == ErrorKind::Seeds).collect();
    for seeds in kinds {
        notes.push(
            if seeds { "± standard deviation over seeds" } else { "± standard error over documents" }
                .to_owned(),
        );
    }
    if !notes.is_empty() {
        write_line(&notes.join("; "))?;
    }
    Ok(())
}
