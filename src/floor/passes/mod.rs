//! The plan of a training run, without tensors: rows per window, passes per window, random numbers and learning rates
//! per step. Everything is a function of its arguments, so a resumed job continues identically.

mod order;
mod pack;
mod window;

pub use order::{RowSequence, split_rows};
pub use pack::{PackWindows, plan_passes};
pub use window::{Pass, PlannedRow, token_weights};
