//! Rows of JSON, JSONL, CSV and Parquet files.

use std::fmt;
use std::fs::File;
use std::path::Path;

use parquet::file::reader::SerializedFileReader;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value as Json};

use super::error::DataError;

/// One row: its columns by name, in file order.
pub type Row = Map<String, Json>;

/// The rows of a `.jsonl`, `.json`, `.csv` or `.parquet` file. A byte-order mark and empty lines are skipped. Errors:
/// unreadable, another format, a line that is not a row (named).
pub fn read_rows(path: &Path) -> Result<Vec<Row>, DataError> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("jsonl") => read_lines(path, &read_text(path)?),
        Some("json") => {
            let text = read_text(path)?;
            // JSON lines in a `.json` file: an object instead of a list.
            if text.trim_start().starts_with('{') { read_lines(path, &text) } else { read_list(path, &text) }
        }
        Some("csv") => read_csv(path, &read_text(path)?),
        Some("parquet") => read_parquet(path),
        _ => Err(DataError::Format { path: path.to_owned() }),
    }
}

fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        DataError::Line { path: path.to_owned(), line, reason: "it is not UTF-8".to_owned() }
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// An object with distinct names: with duplicates the choice would be arbitrary.
struct UniqueRow(Row);

impl<'de> Deserialize<'de> for UniqueRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = UniqueRow;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<UniqueRow, A::Error> {
                let mut row = Row::new();
                while let Some((name, value)) = access.next_entry::<String, Json>()? {
                    if row.contains_key(&name) {
                        return Err(A::Error::custom(format!("duplicate column '{name}'")));
                    }
                    row.insert(name, value);
                }
                Ok(UniqueRow(row))
            }
        }
        deserializer.deserialize_map(Unique)
    }
}

/// The library's message without the location, which it counts from the start of the string.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

fn read_lines(path: &Path, text: &str) -> Result<Vec<Row>, DataError> {
    // Only \n ends a line: U+2028 and similar may occur inside JSON.
    let lines = text.split('\n').enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(index, line): (usize, &str)| {
        let bad = |reason: String| DataError::Line { path: path.to_owned(), line: index + 1, reason };
        let parsed: Result<UniqueRow, _> = serde_json::from_str(line);
        parsed.map(|row| row.0).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => bad(without_place(&error)),
            _ => bad(format!("broken JSON at column {}: {}", error.column(), without_place(&error))),
        })
    };
    lines.map(parse).collect()
}

fn read_list(path: &Path, text: &str) -> Result<Vec<Row>, DataError> {
    let parsed: Result<Vec<UniqueRow>, _> = serde_json::from_str(text);
    parsed.map(|rows| rows.into_iter().map(|row| row.0).collect()).map_err(|error| DataError::Line {
        path: path.to_owned(),
        line: error.line(),
        reason: format!("expected a list of objects: {}", without_place(&error)),
    })
}

/// The line where an unterminated quoted field begins; the library would read the rest of the file into it.
fn open_quote(text: &str) -> Option<usize> {
    let (mut line, mut opened, mut at_start) = (1, None, true);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        line += usize::from(byte == b'\n');
        at_start = match (opened, byte) {
            (Some(_), b'"') if bytes.next_if_eq(&b'"').is_none() => {
                opened = None;
                false
            }
            (Some(_), _) => false,
            (None, b'"') if at_start => {
                opened = Some(line);
                false
            }
            (None, byte) => matches!(byte, b',' | b'\n' | b'\r'),
        };
    }
    opened
}

fn read_csv(path: &Path, text: &str) -> Result<Vec<Row>, DataError> {
    if let Some(line) = open_quote(text) {
        let reason = "the quoted field that begins here has no closing quote".to_owned();
        return Err(DataError::Line { path: path.to_owned(), line, reason });
    }
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let bad = |error: csv::Error| {
        let line = error.position().map_or(1, |position| position.line() as usize);
        let reason = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("the record has {len} fields and the header {expected_len}")
            }
            _ => error.to_string(),
        };
        DataError::Line { path: path.to_owned(), line, reason }
    };
    let names: Vec<String> = reader.headers().map_err(bad)?.iter().map(str::to_owned).collect();
    let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
    if let Some((_, name)) = twice {
        let reason = format!("duplicate column '{name}'");
        return Err(DataError::Line { path: path.to_owned(), line: 1, reason });
    }
    let row = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(bad)?;
        Ok(names.iter().cloned().zip(record.iter().map(|field| Json::String(field.to_owned()))).collect())
    };
    reader.records().map(row).collect()
}

fn read_parquet(path: &Path) -> Result<Vec<Row>, DataError> {
    let file = File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    let bad = |error: parquet::errors::ParquetError| DataError::File {
        path: path.to_owned(),
        reason: format!("as Parquet: {error}"),
    };
    let reader = SerializedFileReader::new(file).map_err(bad)?;
    let row = |row: Result<parquet::record::Row, parquet::errors::ParquetError>| match row
        .map_err(bad)?
        .to_json_value()
    {
        Json::Object(row) => Ok(row),
        _ => Err(DataError::File { path: path.to_owned(), reason: "a row must be an object".to_owned() }),
    };
    reader.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extension: &str, bytes: impl AsRef<[u8]>) -> Result<Vec<Row>, String> {
        let file = tempfile::Builder::new().suffix(extension).tempfile().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let name = file.path().display().to_string();
        read_rows(file.path()).map_err(|error| error.to_string().replace(&name, "FILE"))
    }

    #[test]
    fn a_mark_line_ends_of_windows_and_a_line_separator_inside_a_text_are_rows_as_meant() {
        let rows = read(".jsonl", "\u{feff}{\"a\": \"x\u{2028}y\"}\r\n\r\n{\"a\": \"z\"}").unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["a"], "x\u{2028}y");
    }

    #[test]
    fn what_is_no_row_is_told_with_its_line() {
        let error = |text: &str| read(".jsonl", text).unwrap_err();
        assert_eq!(error("{\"a\": 1}\n[1]"), "FILE:2: invalid type: sequence, expected a JSON object");
        assert_eq!(error("{\"a\": 1, \"a\": 2}"), "FILE:1: duplicate column 'a'");
        assert_eq!(error("{\"a\": NaN}"), "FILE:1: broken JSON at column 7: expected value");
        assert_eq!(read(".jsonl", b"{}\n\xFF").unwrap_err(), "FILE:2: it is not UTF-8");
        assert_eq!(read(".csv", "a,b\n1\n").unwrap_err(), "FILE:2: the record has 1 fields and the header 2");
        assert_eq!(read(".csv", "a,a\n").unwrap_err(), "FILE:1: duplicate column 'a'");
        let error = |text: &str| read(".csv", text).unwrap_err();
        let open = "the quoted field that begins here has no closing quote";
        assert_eq!(error("a,b\n1,2\n3,\"4\n5,6\n"), format!("FILE:3: {open}"));
        assert_eq!(error("a,b\n1,\"2\"\"\n"), format!("FILE:2: {open}"));
        assert_eq!(read(".csv", "a,b\n5\" pipe,\"x \"\"y\"\"\"\n").unwrap()[0]["a"], "5\" pipe");
        assert!(read(".parquet", "PAR1").unwrap_err().starts_with("FILE: as Parquet"));
        assert_eq!(read(".pkl", "").unwrap_err(), "FILE: unsupported file format");
    }

    #[test]
    fn json_lines_may_be_named_json() {
        assert_eq!(read(".json", "{\"a\": 1}\n{\"a\": 2}\n").unwrap().len(), 2);
        assert_eq!(read(".json", "[{\"a\": 1}, {\"a\": 2}]").unwrap().len(), 2);
        assert!(read(".json", "{\"a\": 1}\n[1]").unwrap_err().starts_with("FILE:2: "));
    }

    #[test]
    fn csv_fields_may_hold_commas_quotes_and_line_ends() {
        let rows = read(".csv", "instruction,output\n\"a, \"\"b\"\"\",\"c\nd\"\n").unwrap();
        assert_eq!(
            (&rows[0]["instruction"], &rows[0]["output"]),
            (&Json::from("a, \"b\""), &Json::from("c\nd"))
        );
    }

    #[test]
    fn a_parquet_file_has_the_rows_that_were_written() {
        use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
        use parquet::file::writer::SerializedFileWriter;
        let schema = "message rows { required binary instruction (utf8); required binary output (utf8); optional int64 n; }";
        let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
        let file = tempfile::Builder::new().suffix(".parquet").tempfile().unwrap();
        let mut writer =
            SerializedFileWriter::new(file.reopen().unwrap(), schema, std::sync::Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for texts in [["a", "b"], ["c é", "d\n"]] {
            let mut column = group.next_column().unwrap().unwrap();
            let values = texts.map(ByteArray::from);
            column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            column.close().unwrap();
        }
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[7], Some(&[1, 0]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let rows = read_rows(file.path()).unwrap();
        let shown = serde_json::to_string(&rows).unwrap();
        assert_eq!(
            shown,
            r#"[{"instruction":"a","output":"c é","n":7},{"instruction":"b","output":"d\n","n":null}]"#
        );
    }

    #[test]
    fn a_json_file_is_a_list_of_objects() {
        assert_eq!(read(".json", "[{\"a\": 1}, {\"a\": 2}]").unwrap().len(), 2);
        assert!(read(".json", "7").unwrap_err().starts_with("FILE:1: expected a list of objects"));
    }
}
