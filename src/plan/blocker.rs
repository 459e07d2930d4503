//! Obstacles that keep a valid plan from running.

use std::fmt;

/// An obstacle that keeps a plan from running.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocker {
    /// A model that is not on this machine.
    Model {
        /// Its hub id.
        name: String,
    },
    /// A data set that is not on this machine.
    Data {
        /// Its name.
        name: String,
    },
    /// Documents of a task that are not on this machine.
    Documents {
        /// The task.
        task: String,
        /// The name under which they are published.
        name: String,
    },
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model { name } => write!(f, "model {name} is not on this machine"),
            Self::Data { name } => write!(f, "data set {name} is not on this machine"),
            Self::Documents { task, name } => {
                write!(f, "documents of {task} ({name}) are not on this machine")
            }
        }
    }
}

impl Blocker {
    /// The fix to suggest to the user.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Model { .. } => {
                "download it with `loragrid model pull` or `loragrid run`, or set model to a folder or a .gguf file"
            }
            Self::Data { .. } | Self::Documents { .. } => {
                "download it with `loragrid run`, set LORAGRID_DATA to the folder with its file, or name the file in [data_sets]"
            }
        }
    }
}
