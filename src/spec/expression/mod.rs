//! The expressions of `[derive]`: numbers, keys, `+ - * /` and parentheses.

mod evaluate;
mod parse;

pub use evaluate::EvalError;
pub use parse::ExpressionError;

use std::ops::Range;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    root: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Integer(i64),
    Float(f64),
    Key(&'static str),
    Negative(Box<Node>),
    Binary { operator: Operator, left: Box<Node>, right: Box<Node> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Expression {
    /// Parses a text. Errors: with the bytes of the text that they are about.
    pub fn parse(text: &str) -> Result<Self, (ExpressionError, Range<usize>)> {
        parse::parse(text).map(|root| Self { root })
    }

    /// The keys that it reads.
    pub fn keys(&self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        self.root.collect_keys(&mut keys);
        keys
    }
}

impl Node {
    fn collect_keys(&self, keys: &mut Vec<&'static str>) {
        match self {
            Self::Integer(_) | Self::Float(_) => {}
            Self::Key(path) => keys.push(path),
            Self::Negative(node) => node.collect_keys(keys),
            Self::Binary { left, right, .. } => {
                left.collect_keys(keys);
                right.collect_keys(keys);
            }
        }
    }
}
