//! Two keys against each other, as the study's tables of rank and alpha.

use serde::Serialize;

use super::rows::value_order;
use super::view::MetricName;
use crate::job::{Value, short_name};
use crate::report::table::{Cell, Column, Mark, Table};
use crate::stats::{mean, sample_deviation};
use crate::store::Leaderboard;

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
    /// What the jobs with both values come to, by row and column.
    pub cells: Vec<Vec<Option<PivotCell>>>,
    /// The base model's value, where there is one base model.
    pub base: Option<f64>,
}

/// Jobs that have the same two values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PivotCell {
    /// Mean of the metric.
    pub value: f64,
    /// Standard deviation over jobs (n − 1).
    pub deviation: Option<f64>,
    /// Jobs.
    pub runs: usize,
    /// The best cell.
    pub best: bool,
}

/// Jobs of the grid by two keys, whose settings and scores have been read; what has no finite score is left out.
pub fn pivot(board: &Leaderboard, row_key: &str, column_key: &str, metric: &MetricName) -> Pivot {
    let mut found: Vec<(Value, Value, f64)> = Vec::new();
    for job in board.jobs.iter().filter(|job| job.is_cell()) {
        let values = job.settings.get(row_key).zip(job.settings.get(column_key));
        let score = job.score(&metric.task, metric.metric).filter(|score| score.value.is_finite());
        if let (Some((row, column)), Some(score)) = (values, score) {
            found.push((row.clone(), column.clone(), score.value));
        }
    }
    let distinct = |values: Vec<&Value>| {
        let mut values: Vec<Value> = values.into_iter().cloned().collect();
        values.sort_by(value_order);
        values.dedup();
        values
    };
    let rows = distinct(found.iter().map(|(row, ..)| row).collect());
    let columns = distinct(found.iter().map(|(_, column, _)| column).collect());
    let cell = |row: &Value, column: &Value| {
        let own: Vec<f64> =
            found.iter().filter(|own| own.0 == *row && own.1 == *column).map(|own| own.2).collect();
        let deviation = sample_deviation(&own);
        mean(&own).map(|value| PivotCell { value, deviation, runs: own.len(), best: false })
    };
    let mut cells: Vec<Vec<Option<PivotCell>>> =
        rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect();
    let better = |a: f64, b: f64| if metric.metric.higher_is_better() { a > b } else { a < b };
    let best = cells
        .iter()
        .flatten()
        .flatten()
        .map(|cell| cell.value)
        .reduce(|a, b| if better(b, a) { b } else { a });
    for cell in cells.iter_mut().flatten().flatten() {
        cell.best = Some(cell.value) == best;
    }
    let mut bases = board.jobs.iter().filter(|job| job.is_base);
    let base = bases.next().filter(|_| bases.next().is_none());
    let base = base.and_then(|base| Some(base.score(&metric.task, metric.metric)?.value));
    let (row_key, column_key) = (row_key.to_owned(), column_key.to_owned());
    Pivot { row_key, column_key, metric: metric.clone(), rows, columns, cells, base }
}

/// A pivot as a table; the best cell has a star.
pub fn pivot_table(pivot: &Pivot) -> Table {
    let corner = format!("{} \\ {}", short_name(&pivot.row_key), short_name(&pivot.column_key));
    let mut columns = vec![Column::text(corner)];
    columns.extend(pivot.columns.iter().map(|value| Column::number(value.to_string(), None)));
    let show = |cell: &Option<PivotCell>| match cell {
        None => Cell::Missing,
        Some(cell) => {
            let own = match cell.deviation {
                Some(deviation) => Cell::Uncertain(cell.value, deviation, 3),
                None => Cell::Number(cell.value, 3),
            };
            if cell.best { own.marked(Mark::Best) } else { own }
        }
    };
    let row = |(value, cells): (&Value, &Vec<Option<PivotCell>>)| {
        let mut row = vec![Cell::Text(value.to_string())];
        row.extend(cells.iter().map(show));
        row
    };
    Table { columns, rows: pivot.rows.iter().zip(&pivot.cells).map(row).collect() }
}
