//! The tree of an expression.

use super::exact::Exact;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Number(Exact),
    Text(String),
    Bool(bool),
    List(Vec<Node>),
    Key(&'static str),
    Score(String),
    Negative(Box<Node>),
    Not(Box<Node>),
    Binary { operator: Operator, left: Box<Node>, right: Box<Node> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Operator {
    /// Its precedence; operators of equal precedence are left-associative.
    pub(super) fn strength(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Equal
            | Self::Unequal
            | Self::Less
            | Self::LessOrEqual
            | Self::Greater
            | Self::GreaterOrEqual
            | Self::In => 3,
            Self::Add | Self::Subtract => 4,
            Self::Multiply | Self::Divide => 5,
        }
    }
}

impl Node {
    pub(super) fn collect_scores<'a>(&'a self, scores: &mut Vec<&'a str>) {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Bool(_) | Self::Key(_) => {}
            Self::Score(name) => scores.push(name),
            Self::List(items) => items.iter().for_each(|item| item.collect_scores(scores)),
            Self::Negative(node) | Self::Not(node) => node.collect_scores(scores),
            Self::Binary { left, right, .. } => {
                left.collect_scores(scores);
                right.collect_scores(scores);
            }
        }
    }

    pub(super) fn collect_keys(&self, keys: &mut Vec<&'static str>) {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Bool(_) | Self::Score(_) => {}
            Self::Key(path) => keys.push(path),
            Self::List(items) => items.iter().for_each(|item| item.collect_keys(keys)),
            Self::Negative(node) | Self::Not(node) => node.collect_keys(keys),
            Self::Binary { left, right, .. } => {
                left.collect_keys(keys);
                right.collect_keys(keys);
            }
        }
    }
}
