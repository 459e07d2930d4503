//! What can be wrong with a task.

use thiserror::Error;

use crate::checkpoint::TokenizerError;
use crate::data::DataError;

/// A task that cannot be used, and why.
#[derive(Debug, Error)]
pub enum TaskError {
    /// No task of this name.
    #[error("there is no task '{name}'")]
    Unknown {
        /// The name as written.
        name: String,
        /// The nearest known name, if one is near.
        nearest: Option<String>,
    },
    /// The file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Io {
        /// The task file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a task.
    #[error("{file}: {reason}")]
    Malformed {
        /// The task file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Something that lm_eval knows and loragrid does not do.
    #[error("task '{task}': {what} '{value}' is not supported")]
    Unsupported {
        /// The task.
        task: String,
        /// The field.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// A field cannot be made from a document.
    #[error("task '{task}', document {document}, {field}: {reason}")]
    Field {
        /// The task.
        task: String,
        /// The document, counted from 0 as lm_eval does.
        document: usize,
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The documents cannot be read.
    #[error("task '{task}': {source}")]
    Documents {
        /// The task.
        task: String,
        /// Why.
        source: DataError,
    },
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

impl TaskError {
    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown { nearest: Some(nearest), .. } => format!("did you mean \"{nearest}\"?"),
            Self::Unknown { nearest: None, .. } => {
                format!("known tasks: {}", super::catalogue::builtin_names().join(", "))
            }
            Self::Documents { source, .. } => source.help(),
            Self::Io { .. } => "check the path and its permissions".into(),
            Self::Malformed { .. } => "task files are YAML in lm_eval's form".into(),
            Self::Unsupported { .. } => "choose another task, or one of its variants without this".into(),
            Self::Field { .. } => "the task's template does not fit this document".into(),
            Self::Tokenizer(_) => "the model's tokenizer cannot encode this task".into(),
        }
    }
}
