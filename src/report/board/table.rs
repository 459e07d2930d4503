//! The leaderboard as a table, with notes that explain its signs.

use std::collections::BTreeSet;

use super::rows::{BoardRow, BoardScoreCell, ErrorKind, RowKind};
use super::view::{BoardColumn, BoardView};
use crate::job::{JobState, short_name};
use crate::report::table::{Cell, Column, Mark, Table};
use crate::task::Metric;
use crate::task::MetricName;

/// Weight of columns that the user requested by name.
const NAMED: u8 = 200;
/// Weight of the first metric after the ranking one; later ones weigh less.
const METRICS: u8 = 100;

/// Weight of the columns that identify a row.
const HANDLES: u8 = 6;

/// A metric as a heading: the task alone if the metric is accuracy.
pub fn metric_title(name: &MetricName) -> String {
    if name.metric == Metric::Acc { name.task.clone() } else { name.to_string() }
}

/// The leaderboard as a table.
pub fn board_table(view: &BoardView, rows: &[BoardRow]) -> Table {
    let board_columns = view.columns.clone().unwrap_or_else(|| usual_columns(rows));
    let mut columns = vec![Column::text("run")];
    columns.extend(
        board_columns.iter().filter(|column| comes_first(column)).map(|column| heading(column, rows, view)),
    );
    columns.extend(view.metrics.iter().enumerate().map(|(at, name)| {
        let weight = match (Some(name) == view.rank.as_ref(), view.metrics_named) {
            (true, _) => u8::MAX,
            (_, true) => NAMED,
            _ => METRICS.saturating_sub(u8::try_from(at).unwrap_or(u8::MAX)).max(10),
        };
        Column::number(metric_title(name), None).weighing(weight)
    }));
    columns.extend(
        board_columns.iter().filter(|column| !comes_first(column)).map(|column| heading(column, rows, view)),
    );
    let cells = |row: &BoardRow| {
        let mut cells = vec![marked(Cell::Text(row.label.clone()), row)];
        cells.extend(
            board_columns.iter().filter(|column| comes_first(column)).map(|column| cell(column, row, view)),
        );
        cells.extend(row.scores.iter().map(score_cell));
        cells.extend(
            board_columns.iter().filter(|column| !comes_first(column)).map(|column| cell(column, row, view)),
        );
        cells
    };
    Table { columns, rows: rows.iter().map(cells).collect() }
}

/// A leaderboard's table with row identifiers: the number, and the start of a job's id.
pub fn numbered(table: Table, rows: &[BoardRow]) -> Table {
    let Table { mut columns, rows: cells } = table;
    columns.insert(0, Column::number("#", None).weighing(HANDLES));
    columns.push(Column::text("id").weighing(HANDLES));
    let handles = rows.iter().enumerate();
    let numbered = cells.into_iter().zip(handles).map(|(mut cells, (at, row))| {
        cells.insert(0, Cell::Count(at as u64 + 1));
        let id = row.jobs.first().map_or("", String::as_str);
        let more = match row.jobs.len() {
            0 | 1 => String::new(),
            jobs => format!(" +{}", jobs - 1),
        };
        cells.push(Cell::Text(format!("{}{more}", id.get(..8).unwrap_or(id))));
        cells
    });
    Table { columns, rows: numbered.collect() }
}

fn usual_columns(rows: &[BoardRow]) -> Vec<BoardColumn> {
    let mut columns = vec![BoardColumn::Trainable, BoardColumn::Difference];
    if rows.iter().flat_map(|row| &row.scores).any(|score| score.seeds > 1) {
        columns.push(BoardColumn::Seeds);
    }
    columns.extend([BoardColumn::Loss, BoardColumn::Time, BoardColumn::State]);
    columns
}

/// Settings come before measurements.
fn comes_first(column: &BoardColumn) -> bool {
    matches!(column, BoardColumn::Trainable | BoardColumn::Key(_))
}

fn heading(column: &BoardColumn, rows: &[BoardRow], view: &BoardView) -> Column {
    let named =
        |column: Column, weight: u8| column.weighing(if view.columns.is_some() { NAMED } else { weight });
    match column {
        BoardColumn::Key(key) => named(Column::number(short_name(key), None), NAMED),
        BoardColumn::Trainable => named(Column::number("trainable", None), 4),
        BoardColumn::Difference => named(Column::number("vs. base", None), 9),
        BoardColumn::Loss => named(Column::number("loss", None), 3),
        BoardColumn::Time => named(Column::number("time", Some("s")), 2),
        BoardColumn::Memory => named(Column::number("memory", Some("GB")), 2),
        BoardColumn::Seeds => named(Column::number("n", None), 5),
        // If every row is done, the state is redundant.
        BoardColumn::State => {
            let is_notable =
                rows.iter().any(|row| row.state != JobState::Done || row.converged == Some(false));
            named(Column::text("state"), if is_notable { METRICS + 1 } else { 1 })
        }
        BoardColumn::Reason => named(Column::text("reason"), NAMED),
        BoardColumn::Jobs => named(Column::text("jobs"), NAMED),
    }
}

fn cell(column: &BoardColumn, row: &BoardRow, view: &BoardView) -> Cell {
    let ranked = || row.score(view.rank.as_ref()?);
    match column {
        BoardColumn::Key(key) => {
            row.settings.get(key).map_or(Cell::Missing, |value| Cell::Text(value.to_string()))
        }
        BoardColumn::Trainable => {
            row.trainable.filter(|_| row.kind() == RowKind::Cell).map_or(Cell::Missing, Cell::Count)
        }
        BoardColumn::Difference => Cell::maybe_signed(ranked().and_then(|score| score.difference), 3),
        BoardColumn::Loss => Cell::maybe_number(row.last_loss, 3),
        BoardColumn::Time => Cell::maybe_number(row.seconds, 1),
        BoardColumn::Memory => Cell::maybe_number(row.peak_memory.map(|bytes| bytes / 1e9), 2),
        BoardColumn::Seeds => ranked().or(row.scores.first()).map_or(Cell::Missing, |score| {
            if score.scored == score.seeds {
                Cell::Count(score.seeds as u64)
            } else {
                Cell::Text(format!("{}/{}", score.scored, score.seeds))
            }
        }),
        BoardColumn::State => {
            let doubt = if row.converged == Some(false) { ", not converged" } else { "" };
            Cell::Text(format!("{}{doubt}", row.state.as_str()))
        }
        BoardColumn::Reason if row.reasons.is_empty() => Cell::Missing,
        BoardColumn::Reason => Cell::Text(row.reasons.join("; ")),
        BoardColumn::Jobs => Cell::Text(row.jobs.join(" ")),
    }
}

fn score_cell(score: &BoardScoreCell) -> Cell {
    match (score.value, score.error) {
        (Some(value), Some(error)) => Cell::Uncertain(value, error, 3),
        (value, _) => Cell::maybe_number(value, 3),
    }
}

fn marked(cell: Cell, row: &BoardRow) -> Cell {
    match (row.best, row.tied) {
        (true, _) => cell.marked(Mark::Best),
        (_, true) => cell.marked(Mark::Tied),
        _ => cell,
    }
}

/// Explanations of a leaderboard's signs.
pub fn board_notes(view: &BoardView, rows: &[BoardRow]) -> Vec<String> {
    let mut notes = Vec::new();
    if rows.iter().any(|row| row.best) {
        let rank = view.rank.as_ref().map(metric_title).unwrap_or_default();
        notes.push(format!("{} best by {rank}", Mark::Best.sign()));
    }
    if rows.iter().any(|row| row.tied) {
        notes.push(format!(
            "{} statistically tied with the best (paired by document or seed, 5 %, Holm-corrected)",
            Mark::Tied.sign()
        ));
    }
    let errors = rows.iter().flat_map(|row| &row.scores).filter(|score| score.error.is_some());
    let kinds: BTreeSet<ErrorKind> = errors.map(|score| score.error_kind).collect();
    notes.extend(kinds.into_iter().map(|kind| {
        let what = match kind {
            ErrorKind::Documents => "standard error over documents",
            ErrorKind::Seeds => "standard deviation over seeds",
            ErrorKind::Runs => "standard deviation over runs",
        };
        format!("± {what}")
    }));
    notes
}
