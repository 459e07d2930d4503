//! What can be wrong with a sweep file. Each problem knows its place and its fix.

use std::ops::Range;
use std::path::PathBuf;

use thiserror::Error;

use super::expression::{EvalError, ExpressionError};
use super::source::SourceText;
use crate::job::ValueError;

/// A problem of one place of the file.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Problem {
    /// The text is not TOML.
    #[error("{message}")]
    Toml {
        /// The parser's words.
        message: String,
    },
    /// No key of this name.
    #[error("unknown key '{path}'")]
    UnknownKey {
        /// The dotted path as written.
        path: String,
        /// The nearest known path, if one is near.
        nearest: Option<String>,
    },
    /// A value that the key does not take.
    #[error("'{path}': {error}")]
    Value {
        /// The key.
        path: String,
        /// What was wanted and what was found.
        error: ValueError,
    },
    /// A value of a type that no key takes.
    #[error("'{path}' is {found}")]
    Unusable {
        /// The key.
        path: String,
        /// What was found.
        found: &'static str,
    },
    /// A key that must be there.
    #[error("the key '{path}' is missing")]
    Missing {
        /// The key.
        path: &'static str,
    },
    /// A name that is no safe folder name.
    #[error("'{name}' cannot name a sweep")]
    Name {
        /// The name as written.
        name: String,
    },
    /// An axis that has nothing to vary.
    #[error("the axis '{path}' is empty")]
    EmptyAxis {
        /// The axis.
        path: String,
    },
    /// A key that one sweep has one value of.
    #[error("'{path}' cannot be an axis yet")]
    NoAxis {
        /// The key.
        path: String,
    },
    /// A value that stands twice in an axis.
    #[error("the axis '{path}' has {value} twice")]
    TwiceInAxis {
        /// The axis.
        path: String,
        /// The value.
        value: String,
    },
    /// A key that two things set.
    #[error("'{path}' is set by {first} and by {second}")]
    SetTwice {
        /// The key.
        path: String,
        /// The first.
        first: &'static str,
        /// The second.
        second: &'static str,
    },
    /// A `[derive]` expression that does not parse.
    #[error("in the expression of '{path}': {error}")]
    Expression {
        /// The derived key.
        path: String,
        /// What is wrong.
        error: ExpressionError,
    },
    /// A `[derive]` expression that has no value in a job.
    #[error("in the expression of '{path}': {error}")]
    Evaluation {
        /// The derived key.
        path: String,
        /// What is wrong.
        error: EvalError,
    },
    /// Derived keys that need each other.
    #[error("the derived keys need each other: {}", keys.join(" → "))]
    Cycle {
        /// The keys, in order of need.
        keys: Vec<String>,
    },
    /// A batch that is no whole number of micro-batches.
    #[error("batch_size {batch} is no multiple of micro_batch_size {micro}")]
    Batch {
        /// `train.batch_size`.
        batch: u64,
        /// `train.micro_batch_size`.
        micro: u64,
    },
    /// More jobs than anyone wants.
    #[error("the axes multiply to {count} jobs")]
    TooMany {
        /// The product, as text since it may not fit a number.
        count: String,
    },
}

impl Problem {
    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Toml { .. } => "see toml.io for the language".into(),
            Self::UnknownKey { nearest: Some(nearest), .. } => format!("did you mean '{nearest}'?"),
            Self::UnknownKey { nearest: None, .. } => "`loragrid keys` lists every key".into(),
            Self::Value { error, .. } => format!("write {}", error.wanted),
            Self::Unusable { .. } => "write a number, a text, true or false, or a list of these".into(),
            Self::Missing { path } => format!("add `{path} = …`"),
            Self::Name { .. } => {
                "use letters, digits, '.', '_' and '-', at most 64, starting with a letter, digit or '_'"
                    .into()
            }
            Self::EmptyAxis { .. } => "give it a list of values, or remove it".into(),
            Self::NoAxis { .. } => "write one sweep file for each value".into(),
            Self::TwiceInAxis { .. } => "each value of an axis is one cell: remove one of the two".into(),
            Self::SetTwice { .. } => "keep one of the two".into(),
            Self::Expression { .. } => "numbers, keys such as lora.rank, + - * / and parentheses".into(),
            Self::Evaluation { .. } => "the expression's value must be one that the key takes".into(),
            Self::Cycle { .. } => "compute each from keys that are not derived from it".into(),
            Self::Batch { .. } => "choose a batch_size that micro_batch_size divides".into(),
            Self::TooMany { .. } => format!("at most {} jobs make a sweep: shorten an axis", super::MAX_JOBS),
        }
    }
}

/// Everything that is wrong with a sweep file.
#[derive(Debug, Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not UTF-8.
    #[error("{} is not UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
    },
    /// Problems with their places, in the file's order; never empty.
    #[error("{} has {} problem{}", source_text.path().display(), problems.len(), if problems.len() == 1 { "" } else { "s" })]
    Problems {
        /// The text.
        source_text: Box<SourceText>,
        /// Problems, each with its bytes in the text.
        problems: Vec<(Problem, Range<usize>)>,
    },
}
