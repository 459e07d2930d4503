//! Regular expressions as Python's `re` reads them.

use fancy_regex::Regex;

use super::space::is_space;

/// A compiled pattern of Python's `re`.
#[derive(Debug, Clone)]
pub struct PythonRegex {
    pattern: String,
    regex: Regex,
}

impl PartialEq for PythonRegex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

/// One element of `re.findall`: the whole match without groups, the group if there is one, else all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The match, or its only group.
    Text(String),
    /// The groups of a match; empty where a group did not take part.
    Groups(Vec<String>),
}

impl PythonRegex {
    /// Compiles a pattern. Error: the reason why it cannot be.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let regex = Regex::new(&translated(pattern)).map_err(|error| error.to_string())?;
        Ok(Self { pattern: pattern.to_owned(), regex })
    }

    /// The pattern as written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// `re.findall(pattern, text)`. Error: matching gave up, as on catastrophic backtracking.
    pub fn find_all(&self, text: &str) -> Result<Vec<Found>, String> {
        let groups = self.regex.captures_len();
        let (mut found, mut at) = (Vec::new(), 0);
        while at <= text.len() {
            let captures = self.regex.captures_from_pos(text, at).map_err(|error| error.to_string())?;
            let Some(captures) = captures else { break };
            let group = |number: usize| captures.get(number).map_or("", |group| group.as_str()).to_owned();
            found.push(match groups {
                1 => Found::Text(group(0)),
                2 => Found::Text(group(1)),
                _ => Found::Groups((1..groups).map(group).collect()),
            });
            // Group 0 is the match itself. A match of nothing may follow another one, and is followed by the next character.
            let (start, end) = captures.get(0).map_or((at, at), |whole| (whole.start(), whole.end()));
            let next = text[end..].chars().next().map_or(1, char::len_utf8);
            at = if start == end { end + next } else { end };
        }
        Ok(found)
    }

    /// `re.sub(pattern, "", text)`. Error: matching gave up.
    pub fn removed(&self, text: &str) -> Result<String, String> {
        self.replaced(text, "")
    }

    /// `re.sub(pattern, to, text)` with a text that names no group. Error: matching gave up.
    pub fn replaced(&self, text: &str, to: &str) -> Result<String, String> {
        let replaced = self.regex.try_replacen(text, 0, fancy_regex::NoExpand(to));
        replaced.map(|text| text.into_owned()).map_err(|error| error.to_string())
    }

    /// `re.search(pattern, text) is not None`. Error: matching gave up.
    pub fn is_match(&self, text: &str) -> Result<bool, String> {
        self.regex.is_match(text).map_err(|error| error.to_string())
    }
}

/// `re.escape(text)`, for what the pattern's reader here takes literally.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && c != '_' || c == ' ' || is_space(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// What `\s`, `\w` and `\d` stand for inside a class: of Unicode, and under the flag `a` of ASCII.
struct Classes {
    space: &'static str,
    word: &'static str,
    digit: &'static str,
}

const UNICODE: Classes = Classes { space: r"\s\x1c-\x1f", word: r"\p{L}\p{N}_", digit: r"\p{Nd}" };
const ASCII: Classes = Classes { space: r" \t\n\r\f\v", word: "0-9A-Za-z_", digit: "0-9" };

impl Classes {
    /// The class of an escape's letter, and whether it is the complement.
    fn of(&self, letter: char) -> Option<(&'static str, bool)> {
        let class = match letter.to_ascii_lowercase() {
            's' => self.space,
            'w' => self.word,
            'd' => self.digit,
            _ => return None,
        };
        Some((class, letter.is_ascii_uppercase()))
    }
}

/// The pattern in the syntax of the regular expressions used here.
fn translated(pattern: &str) -> String {
    let (flags, rest) = flags(pattern);
    let classes = if flags.contains('a') { &ASCII } else { &UNICODE };
    let kept: String = flags.chars().filter(|flag| "imsx".contains(*flag)).collect();
    let mut out = String::with_capacity(pattern.len());
    if !kept.is_empty() {
        out += &format!("(?{kept})");
    }
    let chars: Vec<char> = rest.chars().collect();
    let mut at = 0;
    // Whether inside a class, and where it began.
    let mut class: Option<usize> = None;
    while let Some(&c) = chars.get(at) {
        at += 1;
        match (c, class) {
            ('\\', _) => at += escape(&chars[at..], class.is_some(), classes, &mut out),
            ('[', None) => {
                out.push('[');
                if chars.get(at) == Some(&'^') {
                    out.push('^');
                    at += 1;
                }
                class = Some(at);
            }
            // A bracket right after the start of a class is an element of it.
            (']', Some(start)) if at - 1 > start => {
                out.push(']');
                class = None;
            }
            // Elements that would nest or combine classes.
            (']' | '[' | '&' | '~', Some(_)) => out.extend(['\\', c]),
            ('-', Some(_)) if chars.get(at) == Some(&'-') || chars.get(at) == Some(&'[') => out += r"\-",
            ('$', None) if !flags.contains('m') => out += r"(?=\n?\z)",
            ('{', None) if chars.get(at) == Some(&',') => out += "{0",
            // A brace that opens no repetition is a brace.
            ('{', None) if !is_repetition(&chars[at..]) => out += r"\{",
            (c, _) => out.push(c),
        }
    }
    out
}

/// Adds what an escape stands for; returns its characters after the backslash.
fn escape(rest: &[char], in_class: bool, classes: &Classes, out: &mut String) -> usize {
    let Some(&next) = rest.first() else {
        *out += r"\\";
        return 0;
    };
    if let Some((class, is_complement)) = classes.of(next) {
        *out += &match (in_class, is_complement) {
            (true, false) => class.to_owned(),
            (_, true) => format!("[^{class}]"),
            (false, false) => format!("[{class}]"),
        };
        return 1;
    }
    let word = classes.word;
    let octal: String = rest.iter().take(3).take_while(|c| ('0'..='7').contains(*c)).collect();
    match next {
        'Z' if !in_class => *out += r"\z",
        'b' if !in_class => *out += &format!("(?:(?<=[{word}])(?![{word}])|(?<![{word}])(?=[{word}]))"),
        'B' if !in_class => *out += &format!("(?:(?<=[{word}])(?=[{word}])|(?<![{word}])(?![{word}]))"),
        'b' => *out += r"\x08",
        // Three digits, or one that begins with 0, are a character by its number; others refer to a group.
        '0'..='7' if octal.len() == 3 || next == '0' || in_class => {
            *out += &format!(r"\x{{{:x}}}", u32::from_str_radix(&octal, 8).unwrap_or_default());
            return octal.len();
        }
        // An escaped space, quote or the like stands for itself.
        next if !next.is_alphanumeric() && !is_syntax(next) => out.push(next),
        next => out.extend(['\\', next]),
    }
    1
}

/// Whether a character has a meaning of its own in a pattern.
fn is_syntax(c: char) -> bool {
    matches!(
        c,
        '\\' | '.'
            | '+'
            | '*'
            | '?'
            | '('
            | ')'
            | '|'
            | '['
            | ']'
            | '{'
            | '}'
            | '^'
            | '$'
            | '#'
            | '&'
            | '-'
            | '~'
            | '/'
    )
}

/// Whether `n}`, `n,}` or `n,m}` follows an opening brace.
fn is_repetition(rest: &[char]) -> bool {
    let inside: String = rest.iter().take_while(|c| **c != '}').collect();
    let closed = rest.len() > inside.chars().count();
    closed
        && inside.starts_with(|c: char| c.is_ascii_digit())
        && inside.chars().all(|c| c.is_ascii_digit() || c == ',')
}

/// The flags at the start of a pattern, such as `(?sm)`, and the rest of it.
fn flags(pattern: &str) -> (&str, &str) {
    let rest = pattern.strip_prefix("(?").unwrap_or_default();
    let end = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(0);
    match rest[end..].strip_prefix(')') {
        Some(after) => (&rest[..end], after),
        None => ("", pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pattern: &str, text: &str) -> Vec<String> {
        let found = PythonRegex::new(pattern).unwrap().find_all(text).unwrap();
        found
            .into_iter()
            .map(|found| match found {
                Found::Text(text) => text,
                Found::Groups(groups) => groups.join("|"),
            })
            .collect()
    }

    #[test]
    fn a_match_is_its_groups_as_in_findall() {
        assert_eq!(texts("[0-9]+", "a 12 b 3"), ["12", "3"]);
        assert_eq!(texts("#### ([0-9]+)", "#### 7 x #### 8"), ["7", "8"]);
        assert_eq!(texts("(a)|(b)", "ab"), ["a|", "|b"]);
        assert_eq!(texts("x*", "axb"), ["", "x", "", ""]);
    }

    #[test]
    fn a_dollar_also_ends_before_a_final_newline() {
        assert_eq!(texts(r"\.$", "a.\n"), ["."]);
        assert_eq!(texts(r"a\Z", "a\n"), [""; 0]);
        assert_eq!(texts(r"(?m)a$", "a\na"), ["a", "a"]);
    }

    #[test]
    fn classes_and_braces_are_read_as_in_python() {
        assert_eq!(texts(r"[][]", "a[b]"), ["[", "]"]);
        assert_eq!(texts(r"[a&&b]", "&"), ["&"]);
        assert_eq!(texts(r"-?[$0-9.,]{2,}", "$12.5 and 3"), ["$12.5"]);
        assert_eq!(texts("a{,2}b", "aab"), ["aab"]);
        assert_eq!(texts("{x}", "{x}"), ["{x}"]);
        assert_eq!(texts(r"a\sb", "a\u{1c}b"), ["a\u{1c}b"]);
        assert_eq!(texts(r"(?<=is )(.*)(?=.)", "is (B)."), ["(B)"]);
    }

    #[test]
    fn words_are_letters_and_numbers_of_unicode_or_of_ascii() {
        assert_eq!(texts(r"\w", "²"), ["²"]);
        assert_eq!(texts(r"\w+", "nai\u{308}ve"), ["nai", "ve"]);
        assert_eq!(texts(r"\b[^\W\d_]+\b", "１２３ ½ ab"), ["½", "ab"]);
        assert_eq!(texts(r"(?a)\w+", "aé1"), ["a", "1"]);
        assert_eq!(texts(r"\x41|\101|\u0042|[\142]", "ABb"), ["A", "B", "b"]);
        assert_eq!(texts(r".\Z", "ab"), ["b"]);
        assert_eq!(texts(r"(a)\1", "aa"), ["a"]);
    }

    #[test]
    fn an_escaped_text_matches_itself() {
        let text = "a (b) [c] 1+1=2 x-y_#&~ \"q\"";
        assert_eq!(texts(&escaped(text), text), [text]);
    }
}
