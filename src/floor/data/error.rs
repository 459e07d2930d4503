//! Data set errors.

use std::path::PathBuf;

use thiserror::Error;

use super::preset::PRESETS;
use super::template::RenderError;
use crate::pretrained::TokenizerError;

/// Why a data set cannot be used.
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
    /// A known hub data set without local files.
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
        /// The OS error.
        source: std::io::Error,
    },
    /// An unsupported file format.
    #[error("{}: unsupported file format", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A file that is damaged as a whole.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A line that is not a row.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The problem.
        reason: String,
    },
    /// No rows.
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
        /// The problem.
        reason: String,
    },
    /// A row that does not fit the template.
    #[error("row {row} of '{name}': {reason}")]
    Row {
        /// The data set.
        name: String,
        /// The row, counted from 1.
        row: usize,
        /// The problem.
        reason: String,
    },
    /// A template that cannot be used.
    #[error("the template '{}' cannot be used: {reason}", shown(name))]
    NoTemplate {
        /// As written.
        name: String,
        /// The reason.
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
    /// A row without a trainable token.
    #[error("row {row} of '{name}' has no trainable token")]
    NoTrainableToken {
        /// The data set.
        name: String,
        /// The row, counted from 1.
        row: usize,
    },
    /// A row that exceeds the maximum length.
    #[error("row {row} of '{name}' has {tokens} tokens, more than {max}")]
    Overlong {
        /// The data set.
        name: String,
        /// The row, counted from 1.
        row: usize,
        /// Its tokens.
        tokens: usize,
        /// The maximum.
        max: usize,
    },
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A template's name; for inline templates the first line.
fn shown(name: &str) -> &str {
    name.lines().next().unwrap_or_default()
}

impl DataError {
    /// The problem with a row, counted from 1.
    pub(super) fn of_row(error: RenderError, name: &str, row: usize) -> Self {
        let name = name.to_owned();
        match error {
            RenderError::Column(column) => Self::Column { name, row, column },
            RenderError::Row(reason) => Self::Row { name, row, reason },
            RenderError::Template(reason) => Self::Template { name, row, reason },
        }
    }

    /// Suggested fix.
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
                "the response is empty or was cut off: remove the row, raise train.max_seq_length, or set train.labels = \"all\"".into()
            }
            Self::Overlong { .. } => "raise train.max_seq_length, or set train.overlong to truncate or drop".into(),
            Self::Tokenizer(_) => "the model's tokenizer cannot encode this data".into(),
        }
    }
}
