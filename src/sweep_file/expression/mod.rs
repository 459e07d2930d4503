//! The small typed language of `[derive]`, `[[when]]` and `[[exclude]]`: numbers, 'texts', true and false, lists, keys,
//! `+ - * /`, comparisons, `in`, `&& || !`, parentheses. Types are checked when a text is parsed.

mod evaluate;
mod exact;
mod lex;
mod parse;
mod tree;

pub use evaluate::{EvalError, Scope};
pub use parse::ExpressionError;

use std::ops::Range;

use crate::job::ValueType;
use tree::Node;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    root: Node,
    value_type: ValueType,
}

impl Expression {
    /// Parses a text and checks its types. Errors: with the bytes of the text that they are about.
    pub fn parse(text: &str) -> Result<Self, (ExpressionError, Range<usize>)> {
        Self::parse_with(text, &|_| false)
    }

    /// [`Expression::parse`] of a text in which names may also be scores: those that are no key and that `is_score` knows. A name that
    /// is not made of letters, digits, `.`, `:` and `_` stands between backticks.
    pub fn parse_with(
        text: &str,
        is_score: &dyn Fn(&str) -> bool,
    ) -> Result<Self, (ExpressionError, Range<usize>)> {
        let (root, value_type) = parse::parse(text, is_score)?;
        Ok(Self { root, value_type })
    }

    /// The type of its value.
    pub fn value_type(&self) -> ValueType {
        self.value_type
    }

    /// The scores that it reads, by their names.
    pub fn scores(&self) -> Vec<&str> {
        let mut scores = Vec::new();
        self.root.collect_scores(&mut scores);
        scores
    }

    /// The keys that it reads.
    pub fn keys(&self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        self.root.collect_keys(&mut keys);
        keys
    }
}
