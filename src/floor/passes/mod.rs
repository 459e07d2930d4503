//! What a training run does, without a tensor: which rows make a window, which passes cover it, which random numbers
//! and learning rates belong to a step. Everything is a function of its arguments, so a resumed job continues.

mod order;
mod pack;
mod window;

pub use order::{RowSequence, split_rows};
pub use pack::{PackWindows, plan_passes};
pub use window::{Pass, PlannedRow, token_weights};
