//! Exports for other programs: rows of named columns in several formats.

mod csv;
mod frames;
mod json;
mod parquet;

pub use csv::frame_csv;
pub use frames::{run_frame, score_frame};
pub use json::{frame_json, frame_jsonl};
pub use parquet::{ParquetError, frame_parquet};

use super::table::{Align, Cell, Column, Table};
use crate::store::{Datum, Frame};

/// A frame as a table.
pub fn frame_table(frame: &Frame) -> Table {
    let numeric = |at: usize| {
        let mut values =
            frame.rows.iter().map(|row| &row[at]).filter(|value| **value != Datum::Null).peekable();
        values.peek().is_some() && values.all(|value| matches!(value, Datum::Integer(_) | Datum::Real(_)))
    };
    let column = |(at, name): (usize, &String)| {
        let align = if numeric(at) { Align::Right } else { Align::Left };
        // If not all columns fit, the last ones are dropped first.
        let weight = 200u8.saturating_sub(u8::try_from(at).unwrap_or(u8::MAX)).max(1);
        Column { align, ..Column::text(name.clone()).weighing(if at == 0 { u8::MAX } else { weight }) }
    };
    let cell = |value: &Datum| match value {
        Datum::Null => Cell::Missing,
        Datum::Real(number) if !number.is_finite() => Cell::Number(*number, 0),
        other => Cell::Text(other.plain()),
    };
    Table {
        columns: frame.columns.iter().enumerate().map(column).collect(),
        rows: frame.rows.iter().map(|row| row.iter().map(cell).collect()).collect(),
    }
}
