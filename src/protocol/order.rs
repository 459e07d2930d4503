//! Orders to the engine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::{BaseForm, LoraConfig, TrainConfig};
use crate::task::Task;

/// Something that the engine is to do. It does one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Load a base model; the first order, and again when the model changes.
    Load(LoadOrder),
    /// Train an adapter.
    Train(Box<TrainOrder>),
    /// Score the base model or an adapter.
    Score(ScoreOrder),
    /// Exit.
    Shutdown,
}

/// The base model to load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadOrder {
    /// A GGUF file or a checkpoint folder.
    pub model: PathBuf,
    /// Compute dtype and storage.
    pub form: BaseForm,
    /// Threads of one operation.
    pub threads: usize,
}

/// A training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainOrder {
    /// File that the engine's descriptors 1 and 2 are pointed at.
    pub log: PathBuf,
    /// The encoded rows, as [`crate::data::write_encoded`] wrote them.
    pub tokens: PathBuf,
    /// Training.
    pub train: TrainConfig,
    /// The adapter.
    pub lora: LoraConfig,
    /// Seed.
    pub seed: u64,
    /// Most tokens of one pass.
    pub token_budget: usize,
    /// Folder for the adapter; it appears whole or not at all.
    pub adapter: PathBuf,
    /// The model's name, for the adapter's own configuration.
    pub base_name: String,
}

/// Tasks to score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreOrder {
    /// File that the engine's descriptors 1 and 2 are pointed at.
    pub log: PathBuf,
    /// The adapter's folder; none for the base model.
    pub adapter: Option<PathBuf>,
    /// The tasks, each with its number of documents if not all of them.
    pub tasks: Vec<(Task, Option<u64>)>,
    /// Most tokens of one pass.
    pub token_budget: usize,
}
