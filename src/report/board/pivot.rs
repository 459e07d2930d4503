//! A metric by two keys, like the study's tables of rank and alpha.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::rows::value_order;
use crate::job::{Value, short_name};
use crate::report::render::fitting;
use crate::report::table::{Cell, Column, Mark, SHADES, Table};
use crate::stats::{mean, sample_deviation};
use crate::store::Leaderboard;
use crate::task::MetricName;

/// A metric by the values of two keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pivot {
    /// The key of the rows.
    pub row_key: String,
    /// The key of the columns.
    pub column_key: String,
    /// The metric.
    pub metric: MetricName,
    /// Values of the rows' key.
    pub rows: Vec<Value>,
    /// Values of the columns' key.
    pub columns: Vec<Value>,
    /// The aggregate of the jobs with both values, by row and column; none if no job has a score.
    pub cells: Vec<Vec<Option<PivotCell>>>,
    /// The other axes in which the jobs of a cell differ: the mean is over them.
    pub over: Vec<String>,
    /// The base model's value, if there is exactly one base model.
    pub base: Option<f64>,
}

/// A pivot as a heat map: each value shaded by its position between the worst and the best.
pub fn shaded_pivot(found: &Pivot) -> Table {
    let mut table = pivot_table(found);
    let values = || found.cells.iter().flatten().flatten().map(|cell| cell.value);
    let (low, high) = values()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low >= high {
        return table;
    }
    for (row, cells) in table.rows.iter_mut().zip(&found.cells) {
        // The first column is the row's label.
        for (shown, cell) in row.iter_mut().skip(1).zip(cells) {
            if let Some(cell) = cell {
                let part = (cell.value - low) / (high - low);
                let part = if found.metric.metric.higher_is_better() { part } else { 1.0 - part };
                let inner = std::mem::replace(shown, Cell::Missing);
                *shown = Cell::Shaded(Box::new(inner), (part * f64::from(SHADES - 1)).round() as u8);
            }
        }
    }
    table
}

/// Jobs with the same two values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PivotCell {
    /// Mean of the metric.
    pub value: f64,
    /// Standard deviation over jobs (n − 1).
    pub deviation: Option<f64>,
    /// Jobs that have the metric.
    pub runs: usize,
    /// Jobs of the cell, done or not.
    pub jobs: usize,
    /// The best cell among those in which every job has the metric.
    pub best: bool,
}

/// Grid jobs by two keys; settings and scores must have been read. A job without a finite score counts as missing.
pub fn pivot(board: &Leaderboard, row_key: &str, column_key: &str, metric: &MetricName) -> Pivot {
    let mut found: Vec<(&Value, &Value, Option<f64>)> = Vec::new();
    for job in board.jobs.iter().filter(|job| job.is_cell()) {
        let values = job.settings.get(row_key).zip(job.settings.get(column_key));
        let score = job.ranked_score(&metric.task, metric.metric).map(|score| score.value);
        if let Some((row, column)) = values {
            found.push((row, column, score.filter(|value| value.is_finite())));
        }
    }
    let distinct = |values: Vec<&Value>| {
        let mut values: Vec<Value> = values.into_iter().cloned().collect();
        values.sort_by(value_order);
        values.dedup();
        values
    };
    let rows = distinct(found.iter().map(|(row, ..)| *row).collect());
    let columns = distinct(found.iter().map(|(_, column, _)| *column).collect());
    let cell = |row: &Value, column: &Value| {
        let jobs = found.iter().filter(|job| job.0 == row && job.1 == column);
        let values: Vec<f64> = jobs.clone().filter_map(|job| job.2).collect();
        let deviation = sample_deviation(&values);
        mean(&values).map(|value| PivotCell {
            value,
            deviation,
            runs: values.len(),
            jobs: jobs.count(),
            best: false,
        })
    };
    let mut cells: Vec<Vec<Option<PivotCell>>> =
        rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect();
    let better = |a: f64, b: f64| if metric.metric.higher_is_better() { a > b } else { a < b };
    let best = cells
        .iter()
        .flatten()
        .flatten()
        .filter(|cell| cell.runs == cell.jobs)
        .map(|cell| cell.value)
        .reduce(|a, b| if better(b, a) { b } else { a });
    for cell in cells.iter_mut().flatten().flatten() {
        cell.best = cell.runs == cell.jobs && Some(cell.value) == best;
    }
    let mut bases = board.jobs.iter().filter(|job| job.is_base);
    let base = bases.next().filter(|_| bases.next().is_none());
    let base = base.and_then(|base| Some(base.score(&metric.task, metric.metric)?.value));
    let over = averaged(board, row_key, column_key);
    let (row_key, column_key) = (row_key.to_owned(), column_key.to_owned());
    Pivot { row_key, column_key, metric: metric.clone(), rows, columns, cells, over, base }
}

/// The axes in which jobs with the same two values differ.
fn averaged(board: &Leaderboard, row_key: &str, column_key: &str) -> Vec<String> {
    let cells: Vec<_> = board.jobs.iter().filter(|job| job.is_cell()).map(|job| &job.settings).collect();
    let mut firsts: HashMap<String, &BTreeMap<String, Value>> = HashMap::new();
    let mut over: Vec<String> = Vec::new();
    for settings in cells {
        let place = format!("{:?} {:?}", settings.get(row_key), settings.get(column_key));
        let first = *firsts.entry(place).or_insert(settings);
        let differs = |axis: &&String| first.get(*axis) != settings.get(*axis) && !over.contains(axis);
        let new: Vec<String> = board.axes.iter().filter(differs).cloned().collect();
        over.extend(new);
    }
    over
}

/// Explanations of a pivot's signs.
pub fn pivot_notes(pivot: &Pivot) -> Vec<String> {
    let cells = || pivot.cells.iter().flatten().flatten();
    let mut notes = Vec::new();
    if cells().any(|cell| cell.best) {
        notes.push(format!("{} best", Mark::Best.sign()));
    }
    notes.extend(pivot.base.map(|base| format!("base model {}", Cell::Number(base, 3).show())));
    if cells().any(|cell| cell.runs > 1) {
        let over = if pivot.over.is_empty() { "runs".to_owned() } else { pivot.over.join(", ") };
        notes.push(format!("mean over {over}, ± standard deviation"));
    }
    if cells().any(|cell| cell.runs < cell.jobs) {
        notes.push("(n of m): only so many of a cell's runs have a score".to_owned());
    }
    notes
}

/// A pivot as a table of at most this width in characters, and what was left out to fit: deviations first.
pub fn fitting_pivot(pivot: &Pivot, width: Option<u16>) -> (Table, Vec<String>) {
    let whole = table(pivot, true);
    let has_room = width.is_none_or(|width| fitting(&whole, width.into()).len() == whole.columns.len());
    if has_room || pivot.cells.iter().flatten().flatten().all(|cell| cell.deviation.is_none()) {
        return (whole, Vec::new());
    }
    (table(pivot, false), vec!["not shown the deviations: --json has them".to_owned()])
}

/// A pivot as a table; the best cell is starred.
pub fn pivot_table(pivot: &Pivot) -> Table {
    table(pivot, true)
}

fn table(pivot: &Pivot, with_deviations: bool) -> Table {
    let corner = format!("{} \\ {}", short_name(&pivot.row_key), short_name(&pivot.column_key));
    let mut columns = vec![Column::text(corner)];
    // If not all columns fit, the last ones are dropped first.
    let weight = |at: usize| 200u8.saturating_sub(u8::try_from(at).unwrap_or(u8::MAX)).max(1);
    columns.extend(
        pivot
            .columns
            .iter()
            .enumerate()
            .map(|(at, value)| Column::number(value.to_string(), None).weighing(weight(at))),
    );
    let show = |cell: &Option<PivotCell>| match cell {
        None => Cell::Missing,
        Some(cell) => {
            let shown = match cell.deviation.filter(|_| with_deviations) {
                Some(deviation) => Cell::Uncertain(cell.value, deviation, 3),
                None => Cell::Number(cell.value, 3),
            };
            if cell.runs < cell.jobs {
                return Cell::Text(format!("{} ({} of {})", shown.show(), cell.runs, cell.jobs));
            }
            if cell.best { shown.marked(Mark::Best) } else { shown }
        }
    };
    let row = |(value, cells): (&Value, &Vec<Option<PivotCell>>)| {
        let mut row = vec![Cell::Text(value.to_string())];
        row.extend(cells.iter().map(show));
        row
    };
    Table { columns, rows: pivot.rows.iter().zip(&pivot.cells).map(row).collect() }
}
