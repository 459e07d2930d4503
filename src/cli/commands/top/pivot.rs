//! Two keys against each other.

use serde_json::json;

use super::board_query::{BoardQuery, key, named};
use crate::cli::ExitCode;
use crate::cli::arguments::TopArguments;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, show_table, terminal_width, write_json, write_line};
use crate::report::{fitting_pivot, metric_title, pivot, pivot_notes};
use crate::store::{ScoresOf, Store};
use crate::task::MetricName;

pub(super) async fn show_pivot(
    store: &Store,
    BoardQuery { mut board, sweeps, .. }: BoardQuery,
    (rows, columns): (&str, &str),
    arguments: &TopArguments,
) -> Result<(), Failure> {
    let (rows, columns) = (key(rows, "--pivot")?, key(columns, "--pivot")?);
    let metric = match (&arguments.metric, &board.objective) {
        (Some(name), _) => board.metric_named(name)?,
        (None, Some((task, metric))) => MetricName::new(task, *metric),
        (None, None) => board.metric_named("")?,
    };
    if sweeps.is_empty() {
        let metrics = named(std::slice::from_ref(&metric));
        store.read_scores(&mut board, ScoresOf { metrics: Some(&metrics), jobs: None }).await?;
    }
    let found = pivot(&board, &rows, &columns, &metric);
    if found.cells.iter().flatten().flatten().next().is_none() {
        let message = format!("no job has {rows}, {columns} and a score of {metric}");
        return Err(Failure::new(ExitCode::NotFound, message, "wait for more results".to_owned()));
    }
    if is_json() {
        write_json(&json!(found))?;
        return Ok(());
    }
    write_line(&format!("{} by {rows} (down) and {columns} (across)", metric_title(&metric)))?;
    let (table, mut notes) = fitting_pivot(&found, terminal_width());
    write_line(&show_table(&table))?;
    notes.splice(0..0, pivot_notes(&found));
    write_line(&notes.join("; "))?;
    Ok(())
}
