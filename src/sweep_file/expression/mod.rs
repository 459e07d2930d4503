//! The small typed language of `[derive]`, `[[when]]` and `[[exclude]]`: numbers, 'strings', true and false, lists, keys, `+ - * /`,
//! comparisons, `in`, `&& || !`, parentheses. Types are checked when an expression is parsed.

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
    /// Parses an expression and checks its types. Errors: with their byte range.
    pub fn parse(text: &str) -> Result<Self, (ExpressionError, Range<usize>)> {
        Self::parse_with(text, &|_| false)
    }

    /// [`Expression::parse`] with scores as additional names: those that are not keys and that `is_score` accepts. A name with characters
    /// other than letters, digits, `.`, `:` and `_` is quoted in backticks.
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

    /// Names of the scores that it reads.
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
