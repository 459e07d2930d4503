//! lm_eval's task files: YAML with its extensions, task keys, known functions, index of all tasks.

pub(in crate::task) mod build;
pub(in crate::task) mod check;
pub mod function;
mod generated;
pub(in crate::task) mod index;
pub(in crate::task) mod shipped;
pub(in crate::task) mod task_file;
pub(in crate::task) mod yaml;

pub use check::Check;
pub use index::TaskIndex;
pub use task_file::{Field, Refusal, TaskSpec};
