//! Regular expressions of Python's `re`, compiled for Rust.

use std::sync::LazyLock;

use fancy_regex::Regex;

/// `\w` in Python: unlike in Rust, without combining marks and joiners.
const WORD: &str = r"\p{L}\p{N}_";
/// `\s` in Python.
const SPACE: &str = r"\s\x1c-\x1f";

static IS_WORD: LazyLock<regex::Regex> = LazyLock::new(|| constant(r"\A[\p{L}\p{N}]\z"));
static IS_DIGIT: LazyLock<regex::Regex> = LazyLock::new(|| constant(r"\A\p{Nd}\z"));
static IS_PUNCTUATION: LazyLock<regex::Regex> = LazyLock::new(|| constant(r"\A\p{P}\z"));

/// A pattern of this program.
pub(super) fn constant(pattern: &str) -> regex::Regex {
    // The tests compile each.
    regex::Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether a non-ASCII character is `\w`.
pub(super) fn matches_word(c: char) -> bool {
    IS_WORD.is_match(c.encode_utf8(&mut [0; 4]))
}

/// Whether a character is a decimal digit of any script.
pub(super) fn matches_digit(c: char) -> bool {
    IS_DIGIT.is_match(c.encode_utf8(&mut [0; 4]))
}

/// Whether a character's Unicode category starts with P.
pub(super) fn is_punctuation(c: char) -> bool {
    IS_PUNCTUATION.is_match(c.encode_utf8(&mut [0; 4]))
}

/// Compiles a pattern of Python's `re`. Error: one that does not compile.
pub(super) fn python_regex(pattern: &str, flags: &str) -> Result<Regex, String> {
    let translated = format!("{flags}{}", translated(pattern, flags.contains('m')));
    Regex::new(&translated).map_err(|error| format!("the pattern '{pattern}' does not compile: {error}"))
}

/// A pattern with Python's meaning of `\w`, `\s`, `\b`, `$` and of brackets inside a class.
fn translated(pattern: &str, multiline: bool) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let escaped = chars.next().unwrap_or('\\');
                out += &escape(escaped, in_class);
            }
            '[' if in_class => out += "\\[",
            '[' => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that closes at once is a member.
                if chars.next_if_eq(&']').is_some() {
                    out += "\\]";
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.extend(['\\', c]),
            '$' if !in_class && !multiline => out += r"(?=\n?\z)",
            other => out.push(other),
        }
    }
    out
}

fn escape(escaped: char, in_class: bool) -> String {
    match (escaped, in_class) {
        ('w', true) => WORD.to_owned(),
        ('w', false) => format!("[{WORD}]"),
        ('W', false) => format!("[^{WORD}]"),
        ('s', true) => SPACE.to_owned(),
        ('s', false) => format!("[{SPACE}]"),
        ('S', false) => format!("[^{SPACE}]"),
        ('b', false) => format!("(?:(?<=[{WORD}])(?![{WORD}])|(?<![{WORD}])(?=[{WORD}]))"),
        ('B', false) => format!("(?:(?<=[{WORD}])(?=[{WORD}])|(?<![{WORD}])(?![{WORD}]))"),
        ('Z', false) => r"\z".to_owned(),
        // Python accepts a backslash before any character that is not an ASCII letter or digit.
        (other, _) if !other.is_ascii() => other.to_string(),
        (other, _) => format!("\\{other}"),
    }
}

/// `re.findall` with what Python gives per match: the only group, or the groups as a tuple, or the whole match.
pub(super) fn find_all(regex: &Regex, text: &str) -> Result<Vec<Found>, String> {
    let group = |found: &fancy_regex::Captures<'_>, number: usize| {
        found.get(number).map(|part| part.as_str().to_owned()).unwrap_or_default()
    };
    let mut out = Vec::new();
    let mut at = 0;
    // Python lets an empty match follow a match at once; the iterator of Rust's crate would skip it.
    while at <= text.len() {
        let found = regex.captures_from_pos(text, at);
        let Some(found) = found.map_err(|error| format!("a pattern failed on a text: {error}"))? else {
            break;
        };
        let (start, end) = found.get(0).map_or((at, at), |whole| (whole.start(), whole.end()));
        at = if end > start { end } else { end + text[end..].chars().next().map_or(1, char::len_utf8) };
        out.push(match found.len() {
            1 => Found::Text(group(&found, 0)),
            2 => Found::Text(group(&found, 1)),
            groups => Found::Tuple((1..groups).map(|number| group(&found, number)).collect()),
        });
    }
    Ok(out)
}

/// One match of `re.findall`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The whole match or its only group.
    Text(String),
    /// Several groups.
    Tuple(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> Vec<Found> {
        find_all(&python_regex(pattern, "").unwrap(), text).unwrap()
    }

    #[test]
    fn a_dollar_matches_before_a_final_newline() {
        assert_eq!(found(r"\.$", "a.b.\n").len(), 1);
        assert_eq!(found(r"\.$", "a.\nb").len(), 0);
    }

    #[test]
    fn a_word_has_no_combining_marks() {
        assert_eq!(found(r"\w+", "हिन्दी").len(), 3);
        assert_eq!(found(r"\bहि", "हि").len(), 1);
    }

    #[test]
    fn brackets_and_escapes_in_a_class_are_members() {
        assert_eq!(found(r"[^\n^(]*", "a^b").first(), Some(&Found::Text("a".to_owned())));
        assert_eq!(found(r"[[\]&]+", "x[]&&"), [Found::Text("[]&&".to_owned())]);
        assert_eq!(found(r"[]a]+", "]a"), [Found::Text("]a".to_owned())]);
    }

    #[test]
    fn several_groups_are_a_tuple() {
        assert_eq!(found("(a)|(b)", "b"), [Found::Tuple(vec![String::new(), "b".to_owned()])]);
    }
}
