//! The leaderboard: jobs grouped into rows, rows ranked, ties with the best found, and the result as a table.

mod filter;
mod join;
mod pivot;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod ties;
mod view;

pub use filter::{Condition, FilterError};
pub use join::join_boards;
pub use pivot::{Pivot, PivotCell, fitting_pivot, pivot, pivot_notes, pivot_table, shaded_pivot};
pub use rows::{
    BoardRow, BoardScoreCell, ErrorKind, RowKind, best_cell, cells_of, count_competing, rank_cells, rows_of,
};
pub(super) use rows::{base_of, value_order};
pub use table::{board_notes, board_table, metric_title, numbered};
pub use ties::mark_ties;
pub use view::{BoardColumn, BoardView, Sort, UnknownMetric};

use crate::store::Leaderboard;

/// The rows of a leaderboard in its default view: base models first, then cells, best first by the objective; cells without a score of it
/// last, in the plan's order.
pub fn board_rows(board: &Leaderboard) -> Vec<BoardRow> {
    let view = BoardView::of(board);
    let cells = rank_cells(board, &view, cells_of(board, &view.keys));
    rows_of(board, &view, &cells)
}
