//! JSON: a list of objects, or one object per line.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::store::{Datum, Frame};

/// A row with the frame's names.
struct Object<'a>(&'a [String], &'a [Datum]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0.iter().zip(self.1) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

struct List<'a>(&'a Frame);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.rows.len()))?;
        for row in &self.0.rows {
            list.serialize_element(&Object(&self.0.columns, row))?;
        }
        list.end()
    }
}

/// A list with one object per row. Non-finite numbers are `null`. A repeated name gets a number.
pub fn frame_json(frame: &Frame) -> String {
    let frame = distinct(frame);
    serde_json::to_string_pretty(&List(&frame)).unwrap_or_default() + "\n"
}

/// One object per line.
pub fn frame_jsonl(frame: &Frame) -> String {
    let frame = distinct(frame);
    let line =
        |row: &Vec<Datum>| serde_json::to_string(&Object(&frame.columns, row)).unwrap_or_default() + "\n";
    frame.rows.iter().map(line).collect()
}

/// The same rows with unique names: a JSON object has each name once.
fn distinct(frame: &Frame) -> std::borrow::Cow<'_, Frame> {
    let mut seen: BTreeMap<&String, usize> = BTreeMap::new();
    let mut names = Vec::new();
    for name in &frame.columns {
        let times = seen.entry(name).or_default();
        *times += 1;
        names.push(if *times == 1 { name.clone() } else { format!("{name}_{times}") });
    }
    if names == frame.columns {
        return std::borrow::Cow::Borrowed(frame);
    }
    std::borrow::Cow::Owned(Frame { columns: names, rows: frame.rows.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_what_is_none_is_null() {
        let columns = ["a\"b", "n", "x", "a\"b"].map(str::to_owned).to_vec();
        let row = vec![
            Datum::Text("é\u{7}".into()),
            Datum::Integer(i64::MIN),
            Datum::Real(f64::NAN),
            Datum::Bool(true),
        ];
        let lines = frame_jsonl(&Frame { columns, rows: vec![row] });
        let read: serde_json::Value = serde_json::from_str(&lines).unwrap();
        assert_eq!(read, serde_json::json!({ "a\"b": "é\u{7}", "n": i64::MIN, "x": null, "a\"b_2": true }));
    }
}
