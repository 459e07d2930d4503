//! Tokens → typed tree, by operator precedence.

use std::ops::Range;

use thiserror::Error;

use super::lex::{Span, Word, words};
use super::tree::{Node, Operator};
use crate::job::{ValueType, find_key, nearest_key};

/// Deepest nesting of parentheses, lists and signs.
const MAX_DEPTH: usize = 64;
/// Most operators between two values: a chain of operators is a tree as deep as it is long.
const MAX_OPERATORS: usize = 256;

/// Why an expression does not parse.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExpressionError {
    /// An invalid character.
    #[error("unexpected '{0}'")]
    Character(char),
    /// An invalid number.
    #[error("'{0}' is not a number, or too large")]
    Number(String),
    /// An unterminated string.
    #[error("unterminated string")]
    OpenText,
    /// An unknown key.
    #[error("unknown key '{name}'{}", nearest.map(|n| format!(", did you mean '{n}'?")).unwrap_or_default())]
    UnknownKey {
        /// The name as written.
        name: String,
        /// The nearest key, if one is close.
        nearest: Option<&'static str>,
    },
    /// A string that the key it is compared with can never equal.
    #[error("'{path}' is never '{word}'{}", nearest.map(|n| format!(", did you mean '{n}'?")).unwrap_or_default())]
    UnknownWord {
        /// The key.
        path: &'static str,
        /// The string as written.
        word: String,
        /// The nearest word, if one is close.
        nearest: Option<&'static str>,
    },
    /// Another token was expected here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// An operator between values of the wrong type.
    #[error("expected {wanted}, found {found}")]
    Type {
        /// The expected type.
        wanted: String,
        /// The type found.
        found: &'static str,
    },
    /// Too deeply nested.
    #[error("it is nested too deeply")]
    Depth,
    /// Too many operators.
    #[error("it has more than {MAX_OPERATORS} operators")]
    Length,
}

type Failure = (ExpressionError, Range<usize>);
/// A tree with its type and its byte range.
type Typed = (Node, ValueType, Span);

pub(super) fn parse(text: &str, is_score: &dyn Fn(&str) -> bool) -> Result<(Node, ValueType), Failure> {
    let mut parser =
        Parser { words: words(text)?, next: 0, depth: 0, operators: 0, end: text.len(), is_score };
    let (node, value_type, _) = parser.binary(0)?;
    if parser.next < parser.words.len() {
        return Err(parser.here(ExpressionError::Expected("an operator or the end")));
    }
    Ok((node, value_type))
}

struct Parser<'a> {
    words: Vec<(Word, Span)>,
    next: usize,
    depth: usize,
    operators: usize,
    end: usize,
    is_score: &'a dyn Fn(&str) -> bool,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.next).map(|(word, _)| word)
    }

    fn place(&self) -> Span {
        self.words.get(self.next).map_or(self.end..self.end, |(_, place)| place.clone())
    }

    fn here(&self, error: ExpressionError) -> Failure {
        (error, self.place())
    }

    fn expect(&mut self, wanted: &Word, name: &'static str) -> Result<(), Failure> {
        if self.peek() != Some(wanted) {
            return Err(self.here(ExpressionError::Expected(name)));
        }
        self.next += 1;
        Ok(())
    }

    /// Operators with a precedence above `strength`, and their operands.
    fn binary(&mut self, strength: u8) -> Result<Typed, Failure> {
        let mut left = self.unary()?;
        while let Some(Word::Operator(operator)) = self.peek() {
            let operator = *operator;
            if operator.strength() <= strength {
                break;
            }
            self.operators += 1;
            if self.operators > MAX_OPERATORS {
                return Err(self.here(ExpressionError::Length));
            }
            self.next += 1;
            let right = self.binary(operator.strength())?;
            left = join(operator, left, right)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Typed, Failure> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.here(ExpressionError::Depth));
        }
        let start = self.place().start;
        let typed = match self.peek() {
            Some(Word::Operator(Operator::Subtract)) => {
                self.next += 1;
                let (node, value_type, place) = self.unary()?;
                require(value_type, ValueType::Number, &place)?;
                (Node::Negative(Box::new(node)), ValueType::Number, start..place.end)
            }
            Some(Word::Not) => {
                self.next += 1;
                let (node, value_type, place) = self.unary()?;
                require(value_type, ValueType::Bool, &place)?;
                (Node::Not(Box::new(node)), ValueType::Bool, start..place.end)
            }
            _ => self.atom()?,
        };
        self.depth -= 1;
        Ok(typed)
    }

    fn atom(&mut self) -> Result<Typed, Failure> {
        let place = self.place();
        let word = self.peek().cloned();
        self.next += 1;
        let (node, value_type) = match word {
            Some(Word::Number(number)) => (Node::Number(number), ValueType::Number),
            Some(Word::Text(text)) => (Node::Text(text), ValueType::Text),
            Some(Word::Name(name)) => return self.named(name, place),
            Some(Word::Open) => {
                let (node, value_type, _) = self.binary(0)?;
                let end = self.place().end;
                self.expect(&Word::Close, "')'")?;
                return Ok((node, value_type, place.start..end));
            }
            Some(Word::OpenList) => return self.list(place.start),
            _ => {
                self.next -= 1;
                return Err(self.here(ExpressionError::Expected("a number, a string, a key, a list or '('")));
            }
        };
        Ok((node, value_type, place))
    }

    fn list(&mut self, start: usize) -> Result<Typed, Failure> {
        let mut items = Vec::new();
        let mut of = None;
        while self.peek() != Some(&Word::CloseList) {
            let (node, value_type, place) = self.binary(0)?;
            if !matches!(value_type, ValueType::Number | ValueType::Text) {
                let wanted = "a number or a text".to_owned();
                return Err((ExpressionError::Type { wanted, found: value_type.describe() }, place));
            }
            require(value_type, *of.get_or_insert(value_type), &place)?;
            items.push(node);
            match self.peek() {
                Some(Word::Comma) => self.next += 1,
                Some(Word::CloseList) => {}
                _ => return Err(self.here(ExpressionError::Expected("',' or ']'"))),
            }
        }
        let end = self.place().end;
        self.next += 1;
        let value_type = if of == Some(ValueType::Number) { ValueType::Numbers } else { ValueType::Texts };
        Ok((Node::List(items), value_type, start..end))
    }

    fn named(&self, name: String, place: Span) -> Result<Typed, Failure> {
        if let "true" | "false" = name.as_str() {
            return Ok((Node::Bool(name == "true"), ValueType::Bool, place));
        }
        match find_key(&name) {
            Some(key) => Ok((Node::Key(key.path), key.kind.value_type(), place)),
            None if (self.is_score)(&name) => Ok((Node::Score(name), ValueType::Number, place)),
            None => {
                let nearest = nearest_key(&name);
                Err((ExpressionError::UnknownKey { name, nearest }, place))
            }
        }
    }
}

fn require(found: ValueType, wanted: ValueType, place: &Span) -> Result<(), Failure> {
    if found == wanted {
        return Ok(());
    }
    let (wanted, found) = (wanted.describe().to_owned(), found.describe());
    Err((ExpressionError::Type { wanted, found }, place.clone()))
}

/// Checks the types of both operands and joins them.
fn join(operator: Operator, left: Typed, right: Typed) -> Result<Typed, Failure> {
    use Operator::*;
    let ((a, a_type, a_place), (b, b_type, b_place)) = (left, right);
    let result = match operator {
        Or | And => {
            require(a_type, ValueType::Bool, &a_place)?;
            require(b_type, ValueType::Bool, &b_place)?;
            ValueType::Bool
        }
        Equal | Unequal => {
            require(b_type, a_type, &b_place)?;
            check_word(&a, &b, &b_place)?;
            check_word(&b, &a, &a_place)?;
            ValueType::Bool
        }
        In => {
            let wanted = if a_type == ValueType::Number { ValueType::Numbers } else { ValueType::Texts };
            if a_type != ValueType::Number {
                require(a_type, ValueType::Text, &a_place)?;
            }
            require(b_type, wanted, &b_place)?;
            if let Node::List(items) = &b {
                items.iter().try_for_each(|item| check_word(&a, item, &b_place))?;
            }
            check_word(&b, &a, &a_place)?;
            ValueType::Bool
        }
        Less | LessOrEqual | Greater | GreaterOrEqual | Add | Subtract | Multiply | Divide => {
            require(a_type, ValueType::Number, &a_place)?;
            require(b_type, ValueType::Number, &b_place)?;
            if operator.strength() > 3 { ValueType::Number } else { ValueType::Bool }
        }
    };
    let place = a_place.start..b_place.end;
    Ok((Node::Binary { operator, left: Box::new(a), right: Box::new(b) }, result, place))
}

/// A string compared with a key that has a list of words must be one of them.
fn check_word(key: &Node, text: &Node, place: &Span) -> Result<(), Failure> {
    let (Node::Key(path), Node::Text(word)) = (key, text) else { return Ok(()) };
    let words = find_key(path).map(|key| key.kind.words()).unwrap_or_default();
    if words.is_empty() || words.contains(&word.as_str()) {
        return Ok(());
    }
    let near = words.iter().map(|known| (strsim::damerau_levenshtein(known, word), *known)).min();
    let nearest = near.filter(|(distance, _)| *distance <= 1 + word.len() / 3).map(|(_, known)| known);
    Err((ExpressionError::UnknownWord { path, word: word.clone(), nearest }, place.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> (String, Range<usize>) {
        let (error, span) = parse(text, &|_| false).unwrap_err();
        (error.to_string(), span)
    }

    #[test]
    fn an_error_knows_its_bytes() {
        assert_eq!(
            error("2 * lora.rnk"),
            ("unknown key 'lora.rnk', did you mean 'lora.rank'?".into(), 4..12)
        );
        assert_eq!(error("2 * "), ("expected a number, a string, a key, a list or '('".into(), 4..4));
        assert_eq!(error("(2"), ("expected ')'".into(), 2..2));
        assert_eq!(error("2 $ 3"), ("unexpected '$'".into(), 2..3));
        assert_eq!(error("2 3"), ("expected an operator or the end".into(), 2..3));
        assert_eq!(error("1e999"), ("'1e999' is not a number, or too large".into(), 0..5));
        assert_eq!(error("seed == 'a"), ("unterminated string".into(), 8..10));
        assert!(parse(&"(".repeat(10_000), &|_| false).is_err());
        let sum = |terms: usize| vec!["1"; terms].join("+");
        assert!(parse(&sum(257), &|_| false).is_ok());
        assert_eq!(error(&sum(10_000)).0, "it has more than 256 operators");
    }

    #[test]
    fn unlike_types_are_told_at_their_place() {
        assert_eq!(error("lora.rank == 'a'"), ("expected a number, found a string".into(), 13..16));
        assert_eq!(error("1 && true"), ("expected true or false, found a number".into(), 0..1));
        assert_eq!(error("[1, 'a']"), ("expected a number, found a string".into(), 4..7));
        assert_eq!(
            error("lora.rank in ['a']"),
            ("expected a list of numbers, found a list of strings".into(), 13..18)
        );
        assert_eq!(error("!lora.rank"), ("expected true or false, found a number".into(), 1..10));
    }

    #[test]
    fn a_word_that_a_key_never_has_is_told() {
        let text = "train.optimizer == 'sdg'";
        assert_eq!(error(text), ("'train.optimizer' is never 'sdg', did you mean 'sgd'?".into(), 19..24));
        assert!(parse("train.optimizer in ['sgd', 'adamw']", &|_| false).is_ok());
        assert!(parse("'head' in lora.layers", &|_| false).is_ok());
        assert!(parse("'haed' in lora.layers", &|_| false).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-0-9a-z.()+*/!<>=&|,'\\[\\] é_]{0,40}") {
            let _ = parse(&text, &|name| name.len() > 3);
        }
    }
}
