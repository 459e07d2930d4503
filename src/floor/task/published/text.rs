//! Columns of a row, and Python's string functions where they differ from Rust's.

use serde_json::Value;

use super::Row;
use crate::python::{is_space, python_str};

/// A column's value. Error: the column is missing.
pub(super) fn value<'a>(row: &'a Row, column: &str) -> Result<&'a Value, String> {
    row.get(column).ok_or_else(|| format!("'{column}' is missing"))
}

/// A column's string. Error: the column is missing or of another type.
pub(super) fn text<'a>(row: &'a Row, column: &str) -> Result<&'a str, String> {
    row.get(column).and_then(Value::as_str).ok_or_else(|| format!("'{column}' must be a string"))
}

/// A column's integer; a string of digits counts, as in `int(…)`.
pub(super) fn integer(row: &Row, column: &str) -> Result<i64, String> {
    let found = match value(row, column)? {
        Value::String(text) => strip(text).parse().ok(),
        other => other.as_i64(),
    };
    found.ok_or_else(|| format!("'{column}' must be an integer"))
}

/// A column as printed in an f-string.
pub(super) fn shown(row: &Row, column: &str) -> Result<String, String> {
    value(row, column).map(python_str)
}

/// A column's list.
pub(super) fn list<'a>(row: &'a Row, column: &str) -> Result<&'a [Value], String> {
    let found = row.get(column).and_then(Value::as_array).map(Vec::as_slice);
    found.ok_or_else(|| format!("'{column}' must be a list"))
}

/// A column's list of strings.
pub(super) fn texts<'a>(row: &'a Row, column: &str) -> Result<Vec<&'a str>, String> {
    strings(row.get(column)).ok_or_else(|| format!("'{column}' must be a list of strings"))
}

/// A column's mapping.
pub(super) fn object<'a>(row: &'a Row, column: &str) -> Result<&'a Row, String> {
    row.get(column).and_then(Value::as_object).ok_or_else(|| format!("'{column}' must be a mapping"))
}

/// A list of strings.
pub(super) fn strings(value: Option<&Value>) -> Option<Vec<&str>> {
    value?.as_array()?.iter().map(Value::as_str).collect()
}

/// The first answer.
pub(super) fn answer(answers: &[Value]) -> Result<&str, String> {
    answers.first().and_then(Value::as_str).ok_or_else(|| "the answer must be a string".to_owned())
}

/// Python's truth of a value.
pub(super) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(bool) => *bool,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// `str.strip()`.
pub(in crate::task) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split()`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `" ".join(text.split())`.
pub(super) fn squeezed(text: &str) -> String {
    words(text).collect::<Vec<_>>().join(" ")
}

/// Whether a character is `\w` in Python: a letter, a number or the underscore, but no combining mark.
pub(super) fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    super::expression::matches_word(c)
}

/// A text with each of its whole words in `removed` replaced by a space, as by `re.sub(r"\b(…)\b", " ", text)`.
pub(super) fn without_words(text: &str, removed: &[&str]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        out += before;
        out += if removed.contains(&word) { " " } else { word };
        rest = after;
    }
    out + rest
}

/// Python's `float(text)`.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let digits: Option<String> = strip(text).chars().map(ascii_digit).collect();
    let digits = digits?;
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(&digits);
    let word = unsigned.to_ascii_lowercase();
    if matches!(word.as_str(), "inf" | "infinity" | "nan") {
        let value = if word == "nan" { f64::NAN } else { f64::INFINITY };
        return Some(if digits.starts_with('-') { -value } else { value });
    }
    let between_digits = |at: usize| {
        let bytes = unsigned.as_bytes();
        at > 0 && bytes[at - 1].is_ascii_digit() && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
    };
    let plain = unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-_".contains(&byte));
    if !plain || !unsigned.match_indices('_').all(|(at, _)| between_digits(at)) {
        return None;
    }
    digits.replace('_', "").parse().ok()
}

/// `str(int(text))`, if the text is an integer.
pub(super) fn integer_text(text: &str) -> Option<String> {
    let digits: Option<String> = strip(text).chars().map(ascii_digit).collect();
    let digits = digits?;
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(&digits);
    let grouped =
        unsigned.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    if !grouped {
        return None;
    }
    let plain = unsigned.replace('_', "");
    let plain = plain.trim_start_matches('0');
    Some(match (plain, digits.starts_with('-')) {
        ("", _) => "0".to_owned(),
        (plain, true) => format!("-{plain}"),
        (plain, false) => plain.to_owned(),
    })
}

/// An ASCII character as it is, a decimal digit of any script as its ASCII digit.
fn ascii_digit(c: char) -> Option<char> {
    if c.is_ascii() {
        return Some(c);
    }
    let is_digit = |code: u32| char::from_u32(code).is_some_and(super::expression::matches_digit);
    if !is_digit(c as u32) {
        return None;
    }
    // Unicode encodes the ten digits of a script in order, so the value is the distance from the run's start.
    let mut start = c as u32;
    while is_digit(start - 1) {
        start -= 1;
    }
    char::from_digit((c as u32 - start) % 10, 10)
}

/// Python's `capitalize`: the first character in title case, all others lower.
pub(in crate::task) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(title).unwrap_or_default();
    first + &lower_after(text, chars.as_str())
}

/// A character in title case, which differs from upper case for a few digraphs, ligatures and Georgian.
fn title(c: char) -> String {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".to_owned(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".to_owned(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".to_owned(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".to_owned(),
        'ა'..='ჿ' => c.to_string(),
        _ => {
            let mut upper = c.to_uppercase();
            let first: String = upper.next().into_iter().collect();
            first + &upper.flat_map(char::to_lowercase).collect::<String>()
        }
    }
}

/// The end of a text in lower case. A capital sigma's form depends on what precedes it, so the whole is lowered.
fn lower_after(text: &str, rest: &str) -> String {
    let head: String = text[..text.len() - rest.len()].to_lowercase();
    text.to_lowercase().split_off(head.len())
}

/// A text with its first character lower. Error: an empty text.
pub(in crate::task) fn uncapitalized(text: &str) -> Option<String> {
    let mut chars = text.chars();
    let first = chars.next()?;
    Some(first.to_lowercase().collect::<String>() + chars.as_str())
}

/// Removes `\[.*?\]`: brackets with what is inside, on one line.
pub(super) fn without_brackets(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let (before, from) = rest.split_at(open);
        out += before;
        match from.find([']', '\n']).filter(|&at| from[at..].starts_with(']')) {
            Some(close) => rest = &from[close + 1..],
            None => {
                out.push('[');
                rest = &from[1..];
            }
        }
    }
    out + rest
}

/// The cleaning that HellaSwag, ARC and TruthfulQA share: titles end a sentence, other brackets are removed, double
/// spaces become one.
pub(in crate::task) fn cleaned(text: &str) -> String {
    without_brackets(&strip(text).replace(" [title]", ". ")).replace("  ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_is_read_as_python_reads_it() {
        for (text, value) in [
            ("1_000.5", Some(1000.5)),
            (" -7 ", Some(-7.0)),
            ("٣٫", None),
            ("٣", Some(3.0)),
            ("1e3", Some(1000.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("Infinity", Some(f64::INFINITY)),
            ("_1", None),
            ("1__0", None),
            ("", None),
            ("1,000", None),
        ] {
            assert_eq!(parse_float(text), value, "{text}");
        }
        assert!(parse_float("-nan").unwrap().is_nan());
    }

    #[test]
    fn a_capital_is_in_title_case() {
        for (text, capital) in
            [("hE iS", "He is"), ("ßA", "Ssa"), ("ǆ", "ǅ"), ("აბ", "აბ"), ("ΣΑΣ", "Σας"), ("", "")]
        {
            assert_eq!(capitalized(text), capital);
        }
    }

    #[test]
    fn only_whole_words_are_removed() {
        assert_eq!(without_words("the theme, a an-a", &["a", "an", "the"]), "  theme,    - ");
        assert_eq!(without_words("éa a_ aé", &["a"]), "éa a_ aé");
    }

    #[test]
    fn brackets_are_removed_on_one_line() {
        assert_eq!(without_brackets("a [b] c [d\n] [[e]] f"), "a  c [d\n] ] f");
    }
}
