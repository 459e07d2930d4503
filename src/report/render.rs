//! Tables as text.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table as TextTable, TableComponent};
use serde_json::{Map, Value as Json};

use super::table::{Align, Table};

/// For a terminal of `width` columns; no bound where it is not known.
pub fn render_terminal(table: &Table, width: Option<u16>) -> String {
    let mut text = TextTable::new();
    text.load_preset(NOTHING);
    use TableComponent::*;
    for line in [
        TopBorder,
        TopBorderIntersections,
        HeaderLines,
        MiddleHeaderIntersections,
        BottomBorder,
        BottomBorderIntersections,
    ] {
        text.set_style(line, '─');
    }
    if let Some(width) = width {
        text.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    text.set_header(table.columns.iter().map(|column| match column.unit {
        Some(unit) => format!("{} [{unit}]", column.title),
        None => column.title.clone(),
    }));
    for row in &table.rows {
        text.add_row(row.iter().map(super::table::Cell::show));
    }
    for (column, of) in text.column_iter_mut().zip(&table.columns) {
        column.set_cell_alignment(match of.align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    text.to_string()
}

/// One JSON object a row, with the columns' headings as names.
pub fn render_json_rows(table: &Table) -> Json {
    let row = |cells: &Vec<super::table::Cell>| {
        let members =
            table.columns.iter().zip(cells).map(|(column, cell)| (column.title.clone(), cell.json()));
        Json::Object(members.collect::<Map<_, _>>())
    };
    Json::Array(table.rows.iter().map(row).collect())
}
