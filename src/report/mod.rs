//! From stored rows to tables, and from tables to text: builders know what a row means, renderers know syntax only.

mod board;
mod planned;
mod render;
mod status;
mod table;

pub use board::{BoardRow, BoardScoreCell, ErrorKind, board_rows, board_table};
pub use planned::{plan_json, plan_table};
pub use render::{render_json_rows, render_terminal};
pub use status::status_table;
pub use table::{Align, Cell, Column, Table};
