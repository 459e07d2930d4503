//! Results as lm_eval 0.4.13 writes them: its tables, `results_*.json` and `samples_*.jsonl`, written and read.

mod json;
mod outcome;
mod read;
mod results;
mod samples;
mod table;

pub use json::{pretty, single_line};
pub use outcome::{Evaluation, TaskResult};
pub use read::{ReadError, read_results};
pub use results::{results_json, sanitised};
pub use samples::{samples_jsonl, task_hash};
pub use table::markdown;
