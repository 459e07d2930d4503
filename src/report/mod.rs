//! From stored rows to tables, and from tables to text: builders know what a row means, renderers know syntax only.

mod board;
mod comparison;
mod effects;
mod histogram;
mod planned;
mod render;
mod status;
mod stored;
mod table;

pub mod lm_eval;
pub use board::{BoardRow, BoardScoreCell, ErrorKind, board_rows, board_table};
pub use comparison::{
    SettingDifference, TaskDifference, setting_differences, setting_differences_table, task_differences,
    task_differences_table, verdict,
};
pub use effects::{Effects, EffectsError, axis_effects, effects_table, levels_table};
pub use histogram::LengthStats;
pub use planned::{
    LONG_PLAN, folded_table, memory_table, plan_difference, plan_disk, plan_json, plan_table, settings_table,
};
pub use render::{render_json_rows, render_terminal};
pub use status::status_table;
pub use stored::{stored_scores_table, stored_settings_table};
pub use table::{Align, Cell, Column, Table};
