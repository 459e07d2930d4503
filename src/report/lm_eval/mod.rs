//! Results as lm_eval 0.4.13 writes them: its table, `results_*.json` and `samples_*.jsonl`.

mod files;
mod table;

pub use files::{Evaluation, TaskResult, results_json, samples_jsonl};
pub use table::markdown;
