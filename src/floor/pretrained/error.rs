//! Checkpoint errors.

use std::path::PathBuf;

use thiserror::Error;

/// Why a checkpoint cannot be used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The path does not exist.
    #[error("model {} not found", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// Reading failed.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The OS error.
        source: std::io::Error,
    },
    /// The file ends too early.
    #[error("{} is truncated: {what} needs {needed} bytes and the file has {size}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What was being read.
        what: String,
        /// Expected size in bytes.
        needed: u64,
        /// Actual size in bytes.
        size: u64,
    },
    /// The file does not match its format, or contradicts itself.
    #[error("{} is not a valid checkpoint: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// An unsupported format, architecture or setting.
    #[error("{}: {what} '{name}' is not supported", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A missing tensor that the architecture needs.
    #[error("{} has no tensor '{name}'", path.display())]
    NoTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },
    /// A tensor that is not used.
    #[error("{} has the tensor '{name}', which its architecture has no place for", path.display())]
    UnusedTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },
    /// One file of a model that was split into several.
    #[error("{} is part {part} of {parts} of a split GGUF{}", path.display(), missing_parts(missing))]
    Split {
        /// The file.
        path: PathBuf,
        /// Its number, counted from 1.
        part: u64,
        /// Number of files.
        parts: u64,
        /// Missing files of the same model.
        missing: Vec<String>,
    },
    /// A tensor of an unsupported type.
    #[error("{}: tensor '{name}' is stored as {stored_as}", path.display())]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// The type's name in the file.
        stored_as: String,
    },
    /// A tensor whose shape differs from the configuration.
    #[error("{}: tensor '{name}' has shape {found:?}, expected {expected:?}", path.display())]
    Shape {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name.
        name: String,
        /// Shape in the file.
        found: Vec<u64>,
        /// Shape by the configuration.
        expected: Vec<u64>,
    },
}

fn missing_parts(missing: &[String]) -> String {
    if missing.is_empty() { String::new() } else { format!("; {} not found", missing.join(", ")) }
}

impl CheckpointError {
    /// The file or folder that the error is about.
    pub fn path(&self) -> &std::path::Path {
        match self {
            Self::Missing { path }
            | Self::Io { path, .. }
            | Self::Truncated { path, .. }
            | Self::Malformed { path, .. }
            | Self::Unsupported { path, .. }
            | Self::NoTensor { path, .. }
            | Self::UnusedTensor { path, .. }
            | Self::Split { path, .. }
            | Self::TensorType { path, .. }
            | Self::Shape { path, .. } => path,
        }
    }

    /// Suggested fix.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "model is a path to a .gguf file or to a folder with config.json and safetensors"
            }
            Self::Io { .. } => "check the path and its permissions",
            Self::Truncated { .. } => "the download or copy was cut off: fetch the file again",
            Self::Malformed { .. } => "fetch the checkpoint again, or name another file",
            Self::Unsupported { .. } => {
                "supported: safetensors folders, and GGUF files of llama, qwen2, qwen3 and gemma3 in F32, F16, BF16, Q4_0 to Q8_0, Q4_K, Q5_K and Q6_K"
            }
            Self::UnusedTensor { .. } => "convert the original checkpoint again, or use it as safetensors",
            Self::Split { .. } => "merge the parts with: llama-gguf-split --merge FIRST_PART MERGED.gguf",
            Self::TensorType { .. } => {
                "supported tensor types are F32, F16 and BF16, and 4-bit tensors of bitsandbytes"
            }
            Self::NoTensor { .. } | Self::Shape { .. } => {
                "the files do not belong to the configuration beside them"
            }
        }
    }
}
