//! Tables as JSON.

use serde_json::{Map, Value as Json};

use crate::report::table::{Cell, Table};

/// One JSON object per row, with the columns' headings as names.
pub fn render_json_rows(table: &Table) -> Json {
    let row = |cells: &Vec<Cell>| {
        let members =
            table.columns.iter().zip(cells).map(|(column, cell)| (column.title.clone(), cell.json()));
        Json::Object(members.collect::<Map<_, _>>())
    };
    Json::Array(table.rows.iter().map(row).collect())
}
