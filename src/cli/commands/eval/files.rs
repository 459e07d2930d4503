//! lm_eval's files.

use std::path::Path;

use serde_json::Value;

use crate::cli::failure::Failure;
use crate::cli::output::write_error;
use crate::report::lm_eval::{Evaluation, pretty, samples_jsonl, sanitised, single_line};

/// Writes `results_*.json` and a `samples_TASK_*.jsonl` for each task: in a folder of the model's name below `output`, or
/// beside `output` where that ends in .json. Error: the system's.
pub(in crate::cli::commands) fn write_files(
    output: &Path,
    evaluation: &Evaluation,
    value: &Value,
) -> Result<(), Failure> {
    let stamp = stamp(evaluation.date);
    let (folder, name) = match output.extension().is_some_and(|end| end == "json") {
        true => {
            let folder = output.parent().unwrap_or(Path::new("")).to_owned();
            (folder, format!("{}_{stamp}.json", output.file_stem().unwrap_or_default().to_string_lossy()))
        }
        false => (output.join(sanitised(evaluation.name())), format!("results_{stamp}.json")),
    };
    if !folder.as_os_str().is_empty() {
        std::fs::create_dir_all(&folder)?;
    }
    let path = folder.join(name);
    std::fs::write(&path, pretty(value))?;
    for result in &evaluation.results {
        let lines: String = samples_jsonl(result)?.iter().map(|line| single_line(line) + "\n").collect();
        std::fs::write(
            folder.join(format!("samples_{}_{stamp}.jsonl", sanitised(&result.task.name))),
            lines,
        )?;
    }
    write_error(&format!("results are in {}", path.display()));
    Ok(())
}

/// Local time as Python's `isoformat` has it, with dashes for colons: `2026-01-31T23-59-59.123456`.
fn stamp(date: f64) -> String {
    let time = jiff::Timestamp::from_microsecond((date * 1e6) as i64).unwrap_or_default();
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%dT%H-%M-%S%.6f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_a_date_and_microseconds_and_no_colon() {
        let stamp = stamp(1_795_623_244.150_682);
        assert!(stamp.starts_with("2026-11-") && stamp.ends_with(".150682"), "{stamp}");
        assert!(!stamp.contains(':'));
    }
}
