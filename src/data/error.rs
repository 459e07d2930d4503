//! What can be wrong with a data set.

use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::TokenizerError;

/// A data set that cannot be used, and why.
#[derive(Debug, Error)]
pub enum DataError {
    /// Neither a preset nor a file.
    #[error("there is no data set '{name}'")]
    Unknown {
        /// The name as written.
        name: String,
        /// The nearest preset, if one is near.
        nearest: Option<&'static str>,
    },
    /// A data set that is known by its hub name but has no file here.
    #[error("the documents of '{name}' are not here")]
    NotLocal {
        /// The hub name with its configuration and split.
        name: String,
    },
    /// Reading failed.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file whose format is not read.
    #[error("{} is not in a format that is read", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A line that is not a JSON object.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// No row at all.
    #[error("the data set '{name}' has no rows")]
    Empty {
        /// Its name or path.
        name: String,
    },
    /// A row without a column that the template needs.
    #[error("row {row} of '{name}' has no text in the column '{column}'")]
    Column {
        /// The data set.
        name: String,
        /// The row, counted from 1.
        row: usize,
        /// The missing column.
        column: &'static str,
    },
    /// A row of which nothing would be learned.
    #[error("row {row} of '{name}' has no trainable token")]
    NoTrainableToken {
        /// The data set.
        name: String,
        /// The row, counted from 1.
        row: usize,
    },
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl DataError {
    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown { nearest: Some(nearest), .. } => format!("did you mean \"{nearest}\"?"),
            Self::Unknown { nearest: None, .. } => {
                "data is a preset (two_digit_subtraction, two_digit_addition) or a path to a .jsonl or .json file".into()
            }
            Self::NotLocal { .. } => "set LORAGRID_DATA to the folder that has its file".into(),
            Self::Io { .. } => "check the path and its permissions".into(),
            Self::Format { .. } => "use a .jsonl file with one object a line, or a .json file with a list of objects".into(),
            Self::Line { .. } => "each line is one JSON object".into(),
            Self::Empty { .. } => "add rows to the file".into(),
            Self::Column { .. } => "choose a template that fits the file's columns with `template`".into(),
            Self::NoTrainableToken { .. } => {
                "the response is empty or was cut off: remove the row or raise train.max_seq_length".into()
            }
            Self::Tokenizer(_) => "the model's tokenizer cannot encode this data".into(),
        }
    }
}
