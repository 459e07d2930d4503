//! What keeps a plan from running, though it can be shown.

use std::fmt;

/// What keeps a plan from running.
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
        /// What they are called where they are published.
        name: String,
    },
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model { name } => write!(f, "the model {name} is not here"),
            Self::Data { name } => write!(f, "the rows of {name} are not here"),
            Self::Documents { task, name } => write!(f, "the documents of {task} ({name}) are not here"),
        }
    }
}

impl Blocker {
    /// What the user can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Model { .. } => {
                "`loragrid model pull` or `loragrid run` brings it; or name a folder or a .gguf file as model"
            }
            Self::Data { .. } | Self::Documents { .. } => {
                "`loragrid run` brings it from the hub where it can; or set LORAGRID_DATA to the folder that has its file, or name the file in [data_sets]"
            }
        }
    }
}
