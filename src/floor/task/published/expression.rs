//! Regular expressions and classes of characters for published functions.

use std::sync::LazyLock;

pub(super) use crate::python::Found;
use crate::python::PythonRegex;

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

/// Compiles a pattern of Python's `re` after flags such as `(?i)`. Error: one that does not compile.
pub(super) fn python_regex(pattern: &str, flags: &str) -> Result<PythonRegex, String> {
    PythonRegex::new(&format!("{flags}{pattern}"))
        .map_err(|error| format!("the pattern '{pattern}' does not compile: {error}"))
}

/// `re.findall`. Error: matching gave up.
pub(super) fn find_all(regex: &PythonRegex, text: &str) -> Result<Vec<Found>, String> {
    regex.find_all(text).map_err(|error| format!("a pattern failed on a text: {error}"))
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
        assert_eq!(found("(a)|(b)", "b"), [Found::Groups(vec![String::new(), "b".to_owned()])]);
    }
}
