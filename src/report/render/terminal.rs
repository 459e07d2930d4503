//! Tables for a terminal.

use crate::report::table::{Align, Table};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table as TextTable, TableComponent};

/// For a terminal of `width` columns; unbounded if the width is unknown. Columns that do not fit are left out and listed below the table.
pub fn render_terminal(table: &Table, width: Option<u16>) -> String {
    let kept = width.map_or_else(|| (0..table.columns.len()).collect(), |width| fitting(table, width.into()));
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
    text.set_header(kept.iter().map(|&at| plain(table.columns[at].heading())));
    for row in &table.rows {
        text.add_row(kept.iter().map(|&at| plain(row[at].show())));
    }
    for (column, &at) in text.column_iter_mut().zip(&kept) {
        column.set_cell_alignment(match table.columns[at].align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    let without = (0..table.columns.len()).filter(|at| !kept.contains(at));
    let names: Vec<&str> = without.map(|at| table.columns[at].title.as_str()).collect();
    match (names.as_slice(), width) {
        ([], _) | (_, None) => text.to_string(),
        (names, Some(width)) => format!("{text}\n{}", left_out(names, width.into())),
    }
}

/// Longest line of a string outside of the first column.
const BROKEN: usize = 28;

/// The columns that fit into `width`; the lightest are left out first.
pub(in crate::report) fn fitting(table: &Table, width: usize) -> Vec<usize> {
    // Each column has a space on both sides and one character between it and the next.
    let first_text = table.columns.iter().position(|column| column.align == Align::Left);
    let natural = |at: usize| {
        let cells = table.rows.iter().map(|row| row[at].show().chars().count());
        let longest = cells.max().unwrap_or_default();
        // A string outside of the first text column is broken into lines.
        let broken = Some(at) != first_text && table.columns[at].align == Align::Left;
        let longest = if broken { longest.min(BROKEN) } else { longest };
        longest.max(table.columns[at].heading().chars().count()) + 3
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(natural).collect();
    let mut kept: Vec<usize> = (0..table.columns.len()).collect();
    while kept.iter().map(|&at| widths[at]).sum::<usize>() > width {
        let lightest = kept.iter().copied().filter(|&at| table.columns[at].weight < u8::MAX);
        match lightest.min_by_key(|&at| table.columns[at].weight) {
            Some(lightest) => kept.retain(|&at| at != lightest),
            None => break,
        }
    }
    kept
}

/// The columns left out: as many names as fit.
fn left_out(names: &[&str], width: usize) -> String {
    let mut text = format!("not shown: {}", names[0]);
    for (at, name) in names.iter().enumerate().skip(1) {
        let rest = format!(" and {} more", names.len() - at);
        if text.chars().count() + name.chars().count() + 2 + rest.len() > width {
            return text + &rest;
        }
        text.push_str(", ");
        text.push_str(name);
    }
    text
}

/// A string without characters that move the cursor or change colors.
pub fn plain(text: String) -> String {
    if text.chars().any(moves) { text.replace(moves, "\u{fffd}") } else { text }
}

/// Whether a terminal acts on this character instead of showing it: controls, and changes of the writing direction.
fn moves(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Cell, Column};

    #[test]
    fn what_moves_a_terminals_cursor_or_turns_its_text_is_shown_as_a_sign() {
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c".to_owned()), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(plain("é 北 🙂".to_owned()), "é 北 🙂");
    }

    #[test]
    fn columns_without_room_are_left_out_and_named() {
        let columns = vec![
            Column::text("run"),
            Column::number("score", None),
            Column::number("loss", None).weighing(1),
        ];
        let cells = vec![Cell::Text("rank = 8".into()), Cell::Number(0.5, 3), Cell::Number(1.25, 3)];
        let table = Table { columns, rows: vec![cells] };
        assert!(render_terminal(&table, Some(40)).contains("1.250"));
        let narrow = render_terminal(&table, Some(22));
        assert!(!narrow.contains("1.250") && narrow.ends_with("not shown: loss"), "{narrow}");
        assert!(narrow.lines().all(|line| line.chars().count() <= 22), "{narrow}");
    }
}
