//! Tuples. The library parses `(1, 'a')` as a list; Python prints and compares the two differently.

use minijinja::value::{Rest, Value};

use super::data::Sequence;

/// The function that replaces a tuple in a template.
pub(super) const TUPLE: &str = "__tuple__";

/// A tuple of values.
pub(super) type Tuple = Sequence<true>;

/// `__tuple__(1, 'a')`
pub(super) fn tuple(items: Rest<Value>) -> Value {
    Value::from_object(Sequence::<true>(items.0))
}

/// The template with each tuple as a call of `__tuple__`: `(1, 'a')` becomes `__tuple__(1, 'a')`. Parentheses of calls,
/// groups and the targets of `for` and `set` are unchanged.
pub fn with_tuples(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = ["{{", "{%", "{#"].iter().filter_map(|open| rest.find(open)).min() {
        let close = match &rest[start..start + 2] {
            "{{" => "}}",
            "{%" => "%}",
            _ => "#}",
        };
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let comment = close == "#}";
        let length = if comment { rest.find(close).map(|at| at + 2) } else { tag_length(rest, close) };
        let Some(length) = length else { break };
        let tag = &rest[..length];
        let is_raw = tag.trim_matches(['{', '}', '%', '-', '+', ' ']) == "raw";
        if comment || is_raw {
            out.push_str(tag)
        } else {
            rewrite(tag, &mut out)
        }
        rest = &rest[length..];
        if is_raw && let Some(end) = rest.find("endraw") {
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            // The rest of the closing tag has no expression.
            let after = rest.find("%}").map_or(rest.len(), |at| at + 2);
            out.push_str(&rest[..after]);
            rest = &rest[after..];
        }
    }
    out.push_str(rest);
    out
}

/// Length in bytes of the tag at the start of `rest`, skipping strings. None: it does not end.
fn tag_length(rest: &str, close: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let mut at = 2;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => at = string_end(bytes, at, quote),
            _ if rest[at..].starts_with(close) => return Some(at + 2),
            _ => at += 1,
        }
        while at < bytes.len() && !rest.is_char_boundary(at) {
            at += 1;
        }
    }
    None
}

/// The index after the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// An open bracket of a tag.
struct Open {
    /// Its index in the output.
    at: usize,
    /// Whether a comma in it makes a tuple.
    groups: bool,
    has_comma: bool,
}

/// Writes one tag.
fn rewrite(tag: &str, out: &mut String) {
    let bytes = tag.as_bytes();
    let mut targets = is_assignment(tag);
    let mut open: Vec<Open> = Vec::new();
    let mut at = 2;
    out.push_str(&tag[..at]);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            quote @ (b'\'' | b'"') => at = string_end(bytes, at, quote).min(bytes.len()),
            byte => {
                at += 1;
                match byte {
                    b'(' => {
                        let groups = !targets && !follows_value(&tag[..start]);
                        open.push(Open { at: out.len(), groups, has_comma: false });
                    }
                    b'[' | b'{' => open.push(Open { at: out.len(), groups: false, has_comma: false }),
                    b',' => {
                        if let Some(last) = open.last_mut() {
                            last.has_comma = true;
                        }
                    }
                    b')' | b']' | b'}' => {
                        if let Some(last) = open.pop().filter(|last| last.groups && last.has_comma) {
                            out.insert_str(last.at, TUPLE);
                        }
                    }
                    b'=' if open.is_empty() => targets = false,
                    _ => {}
                }
                if targets && open.is_empty() && tag[..at].ends_with(" in") {
                    targets = false;
                }
                while at < bytes.len() && !tag.is_char_boundary(at) {
                    at += 1;
                }
            }
        }
        out.push_str(&tag[start..at]);
    }
}

/// Whether a tag begins with assignment targets or a macro's parameters.
fn is_assignment(tag: &str) -> bool {
    let word: String = tag
        .trim_start_matches(['{', '%', '-', '+'])
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    tag.starts_with("{%") && ["for", "set", "macro", "call", "with"].contains(&word.as_str())
}

/// Whether an opening parenthesis here is a call.
fn follows_value(before: &str) -> bool {
    const WORDS: [&str; 11] =
        ["in", "and", "or", "not", "is", "if", "else", "elif", "set", "filter", "recursive"];
    let before = before.trim_end();
    let word: String = before
        .chars()
        .rev()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    if word.is_empty() {
        before.ends_with([')', ']', '}', '\'', '"'])
    } else {
        !WORDS.contains(&word.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parenthesized_list_is_a_tuple_and_calls_groups_and_targets_are_not() {
        for (template, rewritten) in [
            ("{{ (1, 'a') }}", "{{ __tuple__(1, 'a') }}"),
            ("{% if x in ('a', 'b)') %}", "{% if x in __tuple__('a', 'b)') %}"),
            ("{{ f(1, 2) }}{{ (1 + 2) }}", "{{ f(1, 2) }}{{ (1 + 2) }}"),
            ("{{ [(1, 2), f((3, 4))] }}", "{{ [__tuple__(1, 2), f(__tuple__(3, 4))] }}"),
            ("{% for (a, b) in x.items() %}", "{% for (a, b) in x.items() %}"),
            ("{% set t = (1, 2) %}", "{% set t = __tuple__(1, 2) %}"),
            ("{% macro f(a, b=1) %}", "{% macro f(a, b=1) %}"),
            ("text (1, 2) {# (1, 2) #}", "text (1, 2) {# (1, 2) #}"),
            ("{{ '(1, 2)' ~ \"é(,)\" }}", "{{ '(1, 2)' ~ \"é(,)\" }}"),
            (
                "{% raw %}{{ (1, 2) }}{% endraw %}{{ (1, 2) }}",
                "{% raw %}{{ (1, 2) }}{% endraw %}{{ __tuple__(1, 2) }}",
            ),
        ] {
            assert_eq!(with_tuples(template), rewritten);
        }
    }
}
