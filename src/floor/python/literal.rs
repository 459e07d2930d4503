//! `ast.literal_eval` for lists, tuples, dicts, strings, numbers, True, False and None.

use serde_json::{Map, Number, Value};

/// Maximum nesting depth.
const MAX_DEPTH: usize = 64;

/// Parses a literal; tuples become lists. `None`: not a literal.
pub fn parse_literal(text: &str) -> Option<Value> {
    parse_with_tuples(text).map(|(value, _)| value)
}

/// Parses a literal, and whether it has a tuple, which is printed otherwise than a list. `None`: not a literal.
pub fn parse_with_tuples(text: &str) -> Option<(Value, bool)> {
    let mut parser = Parser { chars: text.chars().collect(), at: 0, has_tuple: false };
    parser.space();
    let value = parser.value(0)?;
    parser.space();
    (parser.at == parser.chars.len()).then_some((value, parser.has_tuple))
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    has_tuple: bool,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = word.chars().enumerate().all(|(n, c)| self.chars.get(self.at + n) == Some(&c));
        if found {
            self.at += word.chars().count();
        }
        found
    }

    fn space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            '[' => self.items('[', ']', depth).map(|(items, _)| Value::Array(items)),
            '(' => {
                let (mut items, comma) = self.items('(', ')', depth)?;
                // A value in parentheses is just the value; with a comma it is a tuple.
                if items.len() == 1 && !comma {
                    return items.pop();
                }
                self.has_tuple = true;
                Some(Value::Array(items))
            }
            '{' => self.dict(depth),
            '\'' | '"' => self.strings().map(Value::String),
            'r' | 'u' | 'b' | 'R' | 'U' => self.strings().map(Value::String),
            'T' => self.word("True").then_some(Value::Bool(true)),
            'F' => self.word("False").then_some(Value::Bool(false)),
            'N' => self.word("None").then_some(Value::Null),
            _ => self.number(),
        }
    }

    /// Values up to the closing bracket, and whether there was a comma.
    fn items(&mut self, open: char, close: char, depth: usize) -> Option<(Vec<Value>, bool)> {
        self.take(open);
        let (mut items, mut comma) = (Vec::new(), false);
        loop {
            self.space();
            if self.take(close) {
                return Some((items, comma));
            }
            if !items.is_empty() && !comma {
                return None;
            }
            items.push(self.value(depth + 1)?);
            self.space();
            let more = self.take(',');
            comma |= more;
            if !more {
                return self.take(close).then_some((items, comma));
            }
        }
    }

    fn dict(&mut self, depth: usize) -> Option<Value> {
        self.take('{');
        let mut map = Map::new();
        loop {
            self.space();
            if self.take('}') {
                return Some(Value::Object(map));
            }
            let key = match self.value(depth + 1)? {
                Value::String(text) => text,
                other => other.to_string(),
            };
            self.space();
            if !self.take(':') {
                return None;
            }
            self.space();
            map.insert(key, self.value(depth + 1)?);
            self.space();
            if !self.take(',') {
                self.space();
                return self.take('}').then_some(Value::Object(map));
            }
        }
    }

    /// Adjacent strings are concatenated.
    fn strings(&mut self) -> Option<String> {
        let mut whole = self.string()?;
        loop {
            let before = self.at;
            self.space();
            if !matches!(self.peek(), Some('\'' | '"')) {
                self.at = before;
                return Some(whole);
            }
            whole += &self.string()?;
        }
    }

    fn string(&mut self) -> Option<String> {
        let raw = matches!(self.peek()?, 'r' | 'R');
        if raw || matches!(self.peek()?, 'u' | 'U') {
            self.at += 1;
        }
        let quote = self.peek().filter(|c| matches!(c, '\'' | '"'))?;
        let triple = quote.to_string().repeat(3);
        let end = if self.word(&triple) {
            triple
        } else {
            self.at += 1;
            quote.to_string()
        };
        let mut text = String::new();
        loop {
            if self.word(&end) {
                return Some(text);
            }
            match self.peek()? {
                '\\' if raw => {
                    text.push('\\');
                    self.at += 1;
                    text.push(self.peek()?);
                    self.at += 1;
                }
                '\\' => self.escape(&mut text)?,
                '\n' if end.len() == 1 => return None,
                c => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self, text: &mut String) -> Option<()> {
        self.at += 1;
        let c = self.peek()?;
        self.at += 1;
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let hex: String = self.chars.get(self.at..self.at + digits)?.iter().collect();
            self.at += digits;
            text.push(char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?);
            return Some(());
        }
        match c {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'a' => text.push('\u{7}'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'v' => text.push('\u{b}'),
            '\\' | '\'' | '"' => text.push(c),
            '\n' => {}
            '0'..='7' => {
                let mut code = c.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    self.at += 1;
                }
                text.push(char::from_u32(code)?);
            }
            other => text.extend(['\\', other]),
        }
        Some(())
    }

    fn number(&mut self) -> Option<Value> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_')) {
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().filter(|c| **c != '_').collect();
        let plain = text.strip_prefix('+').unwrap_or(&text);
        if let Ok(integer) = plain.parse::<i64>() {
            return Some(integer.into());
        }
        let digits = plain.strip_prefix('-').unwrap_or(plain);
        let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let float = plain.parse::<f64>().ok().filter(|_| numeric)?;
        Number::from_f64(float).map(Value::Number)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_literal_is_read() {
        for (text, value) in [
            ("['a', \"b\", '''c\n'd''']", json!(["a", "b", "c\n'd"])),
            ("[1, -2.5, 1e3, True, False, None,]", json!([1, -2.5, 1000.0, true, false, null])),
            ("('x',)", json!(["x"])),
            ("('x')", json!("x")),
            ("()", json!([])),
            (" {'a': [1], \"b\": {}} ", json!({ "a": [1], "b": {} })),
            (r"'it\'s \x41\u00e9\n\q\101'", json!("it's Aé\n\\qA")),
            (r"r'a\nb'", json!("a\\nb")),
            ("'a' 'b'", json!("ab")),
        ] {
            assert_eq!(parse_literal(text), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_literal_is_none() {
        for text in ["", "[", "[1 2]", "a", "__import__('os')", "{'a' 1}", "'open", "[1]]", "inf", "1 + 1"] {
            assert_eq!(parse_literal(text), None, "{text}");
        }
        assert_eq!(parse_literal(&"[".repeat(100_000)), None);
    }
}
