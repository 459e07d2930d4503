//! What can be wrong with a data set.

use std::path::PathBuf;

use thiserror::Error;

use super::preset::PRESETS;
use super::template::RenderError;
use crate::pretrained::TokenizerError;

/// A data set that cannot be used, and why.
#[derive(Debug, Error)]
pub enum DataError {
    /// Neither a preset nor a file.
    #[error("data set '{name}' not found")]
    Unknown {
        /// The name as written.
        name: String,
        /// The nearest preset, if one is near.
        nearest: Option<&'static str>,
    },
    /// A data set that is known by its hub name but has no file here.
    #[error("data set '{name}' is not on this machine")]
    NotLocal {
        /// The hub name with its configuration.
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
    #[error("{}: unsupported file format", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A file that is broken as a whole.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A line that is no row.
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
    /// A row that the chat template cannot render.
    #[error("row {row} of '{name}': the chat template fails: {reason}")]
    Template {
        /// The data set.
        name: String,
        /// The row, counted from 1.
        row: usize,
        /// What is wrong.
        reason: String,
    },
    /// A row that is not what the template needs.
    #[error("row {row} of '{name}': {reason}")]
    Row {
        /// The data set.
        name: String,
        /// The row, counted from 1.
        row: usize,
        /// What is wrong.
        reason: String,
    },
    /// A template that cannot be used.
    #[error("the template '{}' cannot be used: {reason}", shown(name))]
    NoTemplate {
        /// As written.
        name: String,
        /// Why.
        reason: String,
    },
    /// A token beyond the model's embedding.
    #[error("row {row} of '{name}': token {token} ('{text}') is not in the model's embedding of {rows} rows")]
    NoEmbedding {
        /// The data set.
        name: String,
        /// The row, counted from 1.
        row: usize,
        /// The token.
        token: u32,
        /// Its text.
        text: String,
        /// Rows of the embedding.
        rows: u64,
    },
    /// A row of which nothing would be learned.
    #[error("row {row} of '{name}' has no trainable token")]
    NoTrainableToken {
        /// The data set.
        name: String,
        /// The row, counted from 1.
        row: usize,
    },
    /// A row that is longer than allowed.
    #[error("row {row} of '{name}' has {tokens} tokens, more than {max}")]
    Overlong {
        /// The data set.
        name: String,
        /// The row, counted from 1.
        row: usize,
        /// Its tokens.
        tokens: usize,
        /// How many are allowed.
        max: usize,
    },
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A template's name; of a template's own text the first line.
fn shown(name: &str) -> &str {
    name.lines().next().unwrap_or_default()
}

impl DataError {
    /// What is wrong with a row, counted from 1.
    pub(super) fn of_row(error: RenderError, name: &str, row: usize) -> Self {
        let name = name.to_owned();
        match error {
            RenderError::Column(column) => Self::Column { name, row, column },
            RenderError::Row(reason) => Self::Row { name, row, reason },
            RenderError::Template(reason) => Self::Template { name, row, reason },
        }
    }

    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown { nearest: Some(nearest), .. } => format!("did you mean \"{nearest}\"?"),
            Self::Unknown { nearest: None, .. } => {
                let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
                let presets = names.join(", ");
                format!("data is a preset ({presets}) or a path to a .jsonl, .json, .csv or .parquet file")
            }
            Self::NotLocal { .. } => {
                "set LORAGRID_DATA to the folder that has its file, or name the file in [data_sets]".into()
            }
            Self::Io { .. } => "check the path and its permissions".into(),
            Self::Format { .. } => {
                "use .jsonl (one object a line), .json (a list of objects), .csv with a header, or .parquet".into()
            }
            Self::File { .. } => "write the file again, or convert it to .jsonl".into(),
            Self::Line { .. } => "each line is one JSON object, or one record of the CSV file".into(),
            Self::Empty { .. } => "add rows to the file".into(),
            Self::Column { .. } => "choose a template that fits the file's columns with `template`".into(),
            Self::Template { .. } => "the row does not fit the template: correct the row or the template".into(),
            Self::Row { .. } => "correct the row, or remove it".into(),
            Self::NoEmbedding { .. } => {
                "the tokenizer has tokens that the checkpoint has no rows for: use the tokenizer that belongs to it".into()
            }
            Self::NoTemplate { .. } => "write auto, alpaca, question-answer, chat, a .jinja file or a Jinja text".into(),
            Self::NoTrainableToken { .. } => {
                "the response is empty or was cut off: remove the row, raise train.max_seq_length, or score all labels".into()
            }
            Self::Overlong { .. } => "raise train.max_seq_length, or set train.overlong to truncate or drop".into(),
            Self::Tokenizer(_) => "the model's tokenizer cannot encode this data".into(),
        }
    }
}
