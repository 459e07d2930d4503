//! The small typed language of `[derive]`, `[[when]]` and `[[exclude]]`: numbers, 'texts', true and false, lists, keys,
//! `+ - * /`, comparisons, `in`, `&& || !`, parentheses. Types are checked when a text is parsed.

mod evaluate;
mod exact;
mod lex;
mod parse;
mod tree;

pub use evaluate::EvalError;
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
        let (root, value_type) = parse::parse(text)?;
        Ok(Self { root, value_type })
    }

    /// The type of its value.
    pub fn value_type(&self) -> ValueType {
        self.value_type
    }

    /// The keys that it reads.
    pub fn keys(&self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        self.root.collect_keys(&mut keys);
        keys
    }
}
