//! Rows of JSON files.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::error::DataError;

/// One row: its columns by name, in the file's order.
pub type Row = Map<String, Json>;

/// The rows of a `.jsonl` or `.json` file. A byte-order mark and empty lines are passed over. Errors: unreadable,
/// another format, a line that is no object (named).
pub fn read_rows(path: &Path) -> Result<Vec<Row>, DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        DataError::Line { path: path.to_owned(), line, reason: "it is not UTF-8".to_owned() }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match path.extension().and_then(|e| e.to_str()) {
        Some("jsonl") => read_lines(path, text),
        Some("json") => read_list(path, text),
        _ => Err(DataError::Format { path: path.to_owned() }),
    }
}

fn read_lines(path: &Path, text: &str) -> Result<Vec<Row>, DataError> {
    // Only \n ends a line: U+2028 and its like may stand inside a JSON text.
    let lines = text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(index, line): (usize, &str)| {
        let bad = |reason: String| DataError::Line { path: path.to_owned(), line: index + 1, reason };
        match serde_json::from_str(line) {
            Ok(Json::Object(row)) => Ok(row),
            Ok(_) => Err(bad("the line is not a JSON object".to_owned())),
            Err(error) => {
                // The library counts lines from the row's own start.
                let text = error.to_string();
                let what = text.split(" at line ").next().unwrap_or_default();
                Err(bad(format!("broken JSON at column {}: {what}", error.column())))
            }
        }
    };
    lines.map(parse).collect()
}

fn read_list(path: &Path, text: &str) -> Result<Vec<Row>, DataError> {
    serde_json::from_str::<Vec<Row>>(text).map_err(|error| DataError::Line {
        path: path.to_owned(),
        line: error.line(),
        reason: format!("expected a list of objects: {error}"),
    })
}
