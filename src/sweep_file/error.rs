//! Errors in a sweep file. Each problem has a suggested fix.

use std::ops::Range;
use std::path::PathBuf;

use thiserror::Error;

use super::MAX_JOBS;
use super::expression::{EvalError, ExpressionError};
use super::source::SourceText;
use crate::job::ValueError;

/// A problem at one location of the file.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Problem {
    /// The file is not TOML.
    #[error("{message}")]
    Toml {
        /// The parser's message.
        message: String,
    },
    /// No key of this name.
    #[error("unknown key '{path}'")]
    UnknownKey {
        /// The dotted path as written.
        path: String,
        /// The nearest known path, if one is close.
        nearest: Option<String>,
    },
    /// A value that the key does not accept.
    #[error("'{path}': {error}")]
    Value {
        /// The key.
        path: String,
        /// What was expected and what was found.
        error: ValueError,
        /// The nearest accepted word, if one is close.
        nearest: Option<&'static str>,
    },
    /// A value of the wrong form.
    #[error("'{path}' is {found}")]
    Form {
        /// The key.
        path: String,
        /// The form found.
        found: &'static str,
        /// The form expected.
        wanted: &'static str,
    },
    /// A missing required key.
    #[error("the key '{path}' is missing")]
    Missing {
        /// The key.
        path: String,
    },
    /// A file without a key.
    #[error("the file is empty: {} are missing", .0.join(", "))]
    Empty(Vec<&'static str>),
    /// A name that is not a safe folder name.
    #[error("'{name}' is not a valid sweep name")]
    Name {
        /// The name as written.
        name: String,
    },
    /// An axis without values.
    #[error("the axis '{path}' is empty")]
    EmptyAxis {
        /// The axis.
        path: String,
    },
    /// A duplicate value in an axis.
    #[error("the axis '{path}' has {value} twice")]
    TwiceInAxis {
        /// The axis.
        path: String,
        /// The value.
        value: String,
    },
    /// Paired axes of unequal length.
    #[error("in [zip.{name}], '{path}' has {found} values and '{first}' has {wanted}")]
    ZipLength {
        /// The pair.
        name: String,
        /// The key with another length.
        path: String,
        /// Its length.
        found: usize,
        /// The first key.
        first: String,
        /// Its length.
        wanted: usize,
    },
    /// A key set in two ways.
    #[error("'{path}' is controlled by {first} and by {second}")]
    SetTwice {
        /// The key.
        path: String,
        /// The first.
        first: &'static str,
        /// The second.
        second: &'static str,
    },
    /// Two rules that set one key differently in one cell.
    #[error("two rules set '{path}' differently where {cell}: to {first} and to {second}")]
    RulesDiffer {
        /// The key.
        path: String,
        /// The cell.
        cell: String,
        /// One value.
        first: String,
        /// The other.
        second: String,
    },
    /// A key that rules and expressions cannot set.
    #[error("'{path}' decides defaults and cannot be set by a rule")]
    Undecidable {
        /// The key.
        path: &'static str,
    },
    /// Two mutually exclusive keys.
    #[error("'{first}' and '{second}' are both set")]
    Exclusive {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// An expression that does not parse.
    #[error("in the expression of '{path}': {error}")]
    Expression {
        /// The derived key, or `if`.
        path: String,
        /// The error.
        error: ExpressionError,
    },
    /// An expression of the wrong type.
    #[error("the expression of '{path}' is {found}")]
    ExpressionType {
        /// The derived key, or `if`.
        path: String,
        /// Its type.
        found: &'static str,
        /// The expected type.
        wanted: &'static str,
    },
    /// An expression without a value in a cell.
    #[error("in the expression of '{path}' where {cell}: {error}")]
    Evaluation {
        /// The derived key, or `if`.
        path: String,
        /// The cell.
        cell: String,
        /// The error.
        error: EvalError,
    },
    /// Cyclic derived keys.
    #[error("derived keys depend on each other: {}", keys.join(" → "))]
    Cycle {
        /// The keys, in dependency order.
        keys: Vec<String>,
    },
    /// Rules that exclude every cell.
    #[error("every cell is excluded")]
    NothingLeft,
    /// A batch that is not a multiple of the micro-batch.
    #[error("batch_size {batch} is not a multiple of micro_batch_size {micro}")]
    Batch {
        /// `train.batch_size`.
        batch: u64,
        /// `train.micro_batch_size`.
        micro: u64,
    },
    /// Too many jobs.
    #[error("the axes multiply to {count} cells")]
    TooMany {
        /// The product, as a string since it may not fit an integer.
        count: String,
    },
}

impl Problem {
    /// The fix to suggest to the user.
    pub fn help(&self) -> String {
        match self {
            Self::Toml { .. } => "see toml.io for the language".into(),
            Self::UnknownKey { nearest: Some(nearest), .. } => format!("did you mean '{nearest}'?"),
            Self::UnknownKey { nearest: None, .. } => "`loragrid keys` lists every key".into(),
            Self::Value { nearest: Some(nearest), .. } => format!("did you mean \"{nearest}\"?"),
            Self::Value { error, .. } => format!("write {}", error.wanted),
            Self::Form { wanted, .. } => format!("write {wanted}"),
            Self::Empty(_) => {
                "if it was overwritten by accident, nothing is lost: `loragrid work` continues with what was submitted".to_owned()
            }
            Self::Missing { path } => format!("add `{path} = …`"),
            Self::Name { .. } => {
                "use letters, digits, '.', '_' and '-', at most 64, starting with a letter, digit or '_'".into()
            }
            Self::EmptyAxis { .. } => "give it a list of values, or remove it".into(),
            Self::TwiceInAxis { .. } => "each value of an axis is one cell: remove one of the two".into(),
            Self::ZipLength { .. } => "paired axes go row by row: give each key as many values".into(),
            Self::SetTwice { .. } => "keep one of the two".into(),
            Self::RulesDiffer { .. } => "make the conditions exclude each other".into(),
            Self::Undecidable { .. } => "set it at the root, or make it an axis".into(),
            Self::Exclusive { .. } => "keep one of the two".into(),
            Self::Expression { .. } => {
                "numbers, 'texts', true, false, [lists], keys such as lora.rank, + - * /, == != < <= > >= in, && || !, ( )"
                    .into()
            }
            Self::ExpressionType { wanted, .. } => format!("its value must be {wanted}"),
            Self::Evaluation { .. } => "the expression must have a value that the key takes in every cell".into(),
            Self::Cycle { .. } => "compute each from keys that are not derived from it".into(),
            Self::NothingLeft => "the [[exclude]] rules match every cell".into(),
            Self::Batch { .. } => "choose a batch_size that micro_batch_size divides".into(),
            Self::TooMany { .. } => format!("at most {MAX_JOBS} cells make a sweep: shorten an axis"),
        }
    }
}

/// All errors of a sweep file.
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
    /// The file has another encoding.
    #[error("{} is not UTF-8 but {found}", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The probable encoding.
        found: String,
    },
    /// Problems with their locations, in the file's order; never empty.
    #[error("{} has {} problem{}", source_text.path().display(), problems.len(), if problems.len() == 1 { "" } else { "s" })]
    Problems {
        /// The file's content.
        source_text: Box<SourceText>,
        /// Problems, each with its byte range in the file.
        problems: Vec<(Problem, Range<usize>)>,
    },
}
