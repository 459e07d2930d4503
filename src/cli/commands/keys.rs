//! `loragrid keys`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, show_table, write_json, write_line};
use crate::job::KEYS;
use crate::report::{Cell, Column, Table, render_json_rows};

pub(in crate::cli) fn run() -> Result<ExitCode, Failure> {
    let columns =
        vec![Column::text("key"), Column::text("default"), Column::text("values"), Column::text("meaning")];
    let text = |text: &str| Cell::Text(text.to_owned());
    let row = |key: &crate::job::Key| {
        let default = key.default.map_or(Cell::Missing, text);
        vec![text(key.path), default, Cell::Text(key.kind.expected()), text(key.help)]
    };
    let table = Table { columns, rows: KEYS.iter().map(row).collect() };
    if is_json() {
        write_json(&json!({ "keys": render_json_rows(&table) }))?;
    } else {
        write_line(&show_table(&table))?;
    }
    Ok(ExitCode::Success)
}
