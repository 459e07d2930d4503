//! Text → tree, by recursive descent: sum → product → sign → atom.

use std::ops::Range;

use thiserror::Error;

use super::{Node, Operator};
use crate::job::{find_key, nearest_key};

/// Deepest nesting of parentheses and signs.
const MAX_DEPTH: usize = 64;

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExpressionError {
    /// A character that no expression has.
    #[error("'{0}' is not part of the language")]
    Character(char),
    /// A number that is none.
    #[error("'{0}' is no number")]
    Number(String),
    /// A name that is no key.
    #[error("unknown key '{name}'{}", nearest.map(|n| format!(", did you mean '{n}'?")).unwrap_or_default())]
    UnknownKey {
        /// The name as written.
        name: String,
        /// The nearest key, if one is near.
        nearest: Option<&'static str>,
    },
    /// Something else was expected here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// Too deeply nested.
    #[error("it is nested too deeply")]
    Depth,
}

type Failure = (ExpressionError, Range<usize>);

pub(super) fn parse(text: &str) -> Result<Node, Failure> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let node = parser.sum()?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.here(ExpressionError::Expected("an operator or the end")));
    }
    Ok(node)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn skip_space(&mut self) {
        while let Some(c) = self.peek().filter(|c| c.is_whitespace()) {
            self.at += c.len_utf8();
        }
    }

    fn here(&self, error: ExpressionError) -> Failure {
        let length = self.peek().map_or(0, char::len_utf8);
        (error, self.at..self.at + length)
    }

    fn take_operator(&mut self, known: &[(char, Operator)]) -> Option<Operator> {
        self.skip_space();
        let next = self.peek()?;
        let (_, operator) = known.iter().find(|(c, _)| *c == next)?;
        self.at += next.len_utf8();
        Some(*operator)
    }

    fn sum(&mut self) -> Result<Node, Failure> {
        let mut left = self.product()?;
        while let Some(operator) = self.take_operator(&[('+', Operator::Add), ('-', Operator::Subtract)]) {
            let right = self.product()?;
            left = Node::Binary { operator, left: Box::new(left), right: Box::new(right) };
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Node, Failure> {
        let mut left = self.sign()?;
        while let Some(operator) = self.take_operator(&[('*', Operator::Multiply), ('/', Operator::Divide)]) {
            let right = self.sign()?;
            left = Node::Binary { operator, left: Box::new(left), right: Box::new(right) };
        }
        Ok(left)
    }

    fn sign(&mut self) -> Result<Node, Failure> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.here(ExpressionError::Depth));
        }
        self.skip_space();
        let node = match self.peek() {
            Some('-') => {
                self.at += 1;
                Node::Negative(Box::new(self.sign()?))
            }
            Some('(') => {
                self.at += 1;
                let inside = self.sum()?;
                self.skip_space();
                if self.peek() != Some(')') {
                    return Err(self.here(ExpressionError::Expected("')'")));
                }
                self.at += 1;
                inside
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number()?,
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.key()?,
            Some(c) if "+*/)".contains(c) => {
                return Err(self.here(ExpressionError::Expected("a number, a key or '('")));
            }
            Some(c) => return Err(self.here(ExpressionError::Character(c))),
            None => return Err(self.here(ExpressionError::Expected("a number, a key or '('"))),
        };
        self.depth -= 1;
        Ok(node)
    }

    fn word(&mut self, belongs: impl Fn(char, char) -> bool) -> (String, Range<usize>) {
        let start = self.at;
        let mut before = ' ';
        while let Some(c) = self.peek().filter(|c| belongs(*c, before)) {
            self.at += c.len_utf8();
            before = c;
        }
        (self.text[start..self.at].to_owned(), start..self.at)
    }

    fn number(&mut self) -> Result<Node, Failure> {
        // A sign belongs to the number only right after the e of its exponent.
        let (word, span) = self.word(|c, before| {
            c.is_ascii_alphanumeric() || c == '.' || c == '_' || ("+-".contains(c) && "eE".contains(before))
        });
        let plain = word.replace('_', "");
        let integer = plain.parse().map(Node::Integer);
        let float = || plain.parse::<f64>().ok().filter(|x| x.is_finite()).map(Node::Float);
        integer.ok().or_else(float).ok_or((ExpressionError::Number(word), span))
    }

    fn key(&mut self) -> Result<Node, Failure> {
        let (name, span) = self.word(|c, _| c.is_ascii_alphanumeric() || c == '.' || c == '_');
        match find_key(&name) {
            Some(key) => Ok(Node::Key(key.path)),
            None => {
                let nearest = nearest_key(&name);
                Err((ExpressionError::UnknownKey { name, nearest }, span))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> (String, Range<usize>) {
        let (error, span) = parse(text).unwrap_err();
        (error.to_string(), span)
    }

    #[test]
    fn an_error_knows_its_bytes() {
        assert_eq!(
            error("2 * lora.rnk"),
            ("unknown key 'lora.rnk', did you mean 'lora.rank'?".into(), 4..12)
        );
        assert_eq!(error("2 * "), ("expected a number, a key or '('".into(), 4..4));
        assert_eq!(error("(2"), ("expected ')'".into(), 2..2));
        assert_eq!(error("2 $ 3"), ("expected an operator or the end".into(), 2..3));
        assert_eq!(error("1e999"), ("'1e999' is no number".into(), 0..5));
        assert!(parse(&"(".repeat(10_000)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-0-9a-z.()+*/ é_]{0,40}") {
            let _ = parse(&text);
        }
    }
}
