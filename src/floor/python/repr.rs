//! How Python prints values.

use std::sync::LazyLock;

use serde_json::Value;

/// `str(value)`: strings unchanged, everything else as [`python_repr`].
pub fn python_str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => python_repr(other),
    }
}

/// `repr(value)`.
pub fn python_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => python_float(float),
            None => number.to_string(),
        },
        Value::String(text) => python_quoted(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(python_repr).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{}: {}", python_quoted(key), python_repr(value)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
    }
}

/// The shortest round-trip digits, with an exponent outside 1e-4 … 1e16 as in Python.
pub fn python_float(float: f64) -> String {
    if !float.is_finite() {
        let sign = if float < 0.0 { "-" } else { "" };
        return if float.is_nan() { "nan".to_owned() } else { format!("{sign}inf") };
    }
    let magnitude = float.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, number) = match exponent.strip_prefix('-') {
            Some(number) => ('-', number),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{number:0>2}");
    }
    if float == float.trunc() { format!("{float:.1}") } else { float.to_string() }
}

/// Characters that Python escapes: controls, formats, unassigned ones, and separators other than the space.
static ESCAPED: LazyLock<Option<regex::Regex>> = LazyLock::new(|| regex::Regex::new(r"^[\p{C}\p{Z}]$").ok());

/// `str.isprintable` of a character.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let mut buffer = [0; 4];
    !ESCAPED.as_ref().is_some_and(|escaped| escaped.is_match(c.encode_utf8(&mut buffer)))
}

/// `repr` of a string: single quotes, unless it contains some and no double ones.
pub fn python_quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            '\r' => out += "\\r",
            '\\' => out += "\\\\",
            c if c == quote => out.extend(['\\', c]),
            c if !is_printable(c) => {
                out += &match c as u32 {
                    code @ ..0x100 => format!("\\x{code:02x}"),
                    code @ ..0x1_0000 => format!("\\u{code:04x}"),
                    code => format!("\\U{code:08x}"),
                };
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_spelled_as_python_does() {
        for (value, text) in [
            (json!(["a0", "The b."]), "['a0', 'The b.']"),
            (json!({ "a": true, "b": null }), "{'a': True, 'b': None}"),
            (json!("it's"), "\"it's\""),
            (json!("it's \"x\"\n\u{1}"), "'it\\'s \"x\"\\n\\x01'"),
            (json!("a\u{a0}b\u{200b}é"), "'a\\xa0b\\u200bé'"),
            (json!([1.0, 0.1, 1e20, 1e-7, 3]), "[1.0, 0.1, 1e+20, 1e-07, 3]"),
        ] {
            assert_eq!(python_repr(&value), text);
        }
        assert_eq!(python_str(&json!("x")), "x");
    }
}
