//! Task errors.

use thiserror::Error;

use crate::data::DataError;
use crate::pretrained::TokenizerError;

/// Why a task cannot be used.
#[derive(Debug, Error)]
pub enum TaskError {
    /// No task has this name.
    #[error("task '{name}' not found")]
    Unknown {
        /// The name as written.
        name: String,
        /// The nearest known name, if one is near.
        nearest: Option<String>,
    },
    /// A name of several tasks where one is expected.
    #[error("'{name}' is a group of {tasks} tasks, expected one task")]
    Several {
        /// The name.
        name: String,
        /// How many.
        tasks: usize,
    },
    /// A task matched by two of the names.
    #[error("task '{task}' is listed twice")]
    Twice {
        /// The task.
        task: String,
    },
    /// The file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Io {
        /// The task file.
        file: String,
        /// The OS error.
        source: std::io::Error,
    },
    /// The file is not a task.
    #[error("{file}: {reason}")]
    Malformed {
        /// The task file.
        file: String,
        /// The problem.
        reason: String,
    },
    /// An lm_eval feature that loragrid does not support.
    #[error("{file}: task '{task}': {what} '{value}' is not supported")]
    Unsupported {
        /// The task file.
        file: String,
        /// The task.
        task: String,
        /// The field.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// A field that cannot be computed from a document.
    #[error("{file}: task '{task}', document {document} of {rows}, {field}: {reason}")]
    Field {
        /// The task file.
        file: String,
        /// The task.
        task: String,
        /// The documents' location.
        rows: String,
        /// The document, counted from 0 as lm_eval does.
        document: usize,
        /// The field.
        field: &'static str,
        /// The problem.
        reason: String,
    },
    /// The documents cannot be read.
    #[error("task '{task}': {source}")]
    Documents {
        /// The task.
        task: String,
        /// The reason.
        source: DataError,
    },
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl TaskError {
    /// Suggested fix.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown { nearest: Some(nearest), .. } => format!("did you mean \"{nearest}\"?"),
            Self::Unknown { nearest: None, .. } => {
                "`loragrid task list` lists the built-in tasks; add a folder of task files with --include-path".into()
            }
            Self::Several { .. } => "name one of its tasks".into(),
            Self::Twice { .. } => "leave one of the names out".into(),
            Self::Documents { source, .. } => source.help(),
            Self::Io { .. } => "check the path and its permissions".into(),
            Self::Malformed { .. } => "task files are YAML in lm_eval's form".into(),
            Self::Unsupported { .. } => "choose another task, or one of its variants without this".into(),
            Self::Field { .. } => "correct the field in the task file, or the document's row".into(),
            Self::Tokenizer(_) => "the model's tokenizer cannot encode this task".into(),
        }
    }
}
