//! JSON as Python's `json.dumps` formats it.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// With indent 2.
pub fn pretty(value: &Value) -> String {
    spelled(value, PrettyFormatter::with_indent(b"  "))
}

/// On one line, with a space after each comma and colon.
pub fn single_line(value: &Value) -> String {
    spelled(value, Spaced)
}

fn spelled(value: &Value, formatter: impl Formatter) -> String {
    let mut bytes = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
    // JSON is UTF-8, and writing to memory cannot fail.
    written.ok().and_then(|()| String::from_utf8(bytes).ok()).unwrap_or_default()
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spaces_are_where_python_has_them() {
        assert_eq!(single_line(&json!({ "a": [1, 2.5, "é"], "b": {} })), r#"{"a": [1, 2.5, "é"], "b": {}}"#);
        assert_eq!(pretty(&json!({ "a": [] , "b": [1] })), "{\n  \"a\": [],\n  \"b\": [\n    1\n  ]\n}");
    }
}
