//! Results as lm_eval 0.4.13 writes them: its tables, `results_*.json` and `samples_*.jsonl`.

mod json;
mod outcome;
mod results;
mod samples;
mod table;

pub use json::{pretty, single_line};
pub use outcome::{Evaluation, TaskResult};
pub use results::{results_json, sanitised};
pub use samples::{samples_jsonl, task_hash};
pub use table::markdown;
