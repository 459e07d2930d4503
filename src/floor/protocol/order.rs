//! Orders to the engine.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::{AttemptNumber, BaseForm, Digest, LoraConfig, Quantize, Seconds, Softmax, TrainConfig};

/// Something that the engine is to do. It does one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Load a base model; the first order, and again when the model changes.
    Load(LoadOrder),
    /// Train the adapters of a pack.
    Train(PackOrder),
    /// Score the base model, or adapters.
    Score(ScoreOrder),
    /// Answer prompts greedily.
    Sample(SampleOrder),
    /// Continue a text.
    Generate(GenerateOrder),
    /// Write a model with an adapter added to its weights.
    Merge(MergeOrder),
    /// Compute the log-probabilities of texts, and compare them with those that are kept.
    Compare(CompareOrder),
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

/// Training runs that share passes; events name them by their places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackOrder {
    /// File that the engine's descriptors 1 and 2 are pointed at.
    pub log: PathBuf,
    /// Most tokens of one pass.
    pub token_budget: usize,
    /// The runs.
    pub members: Vec<TrainOrder>,
}

/// A training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainOrder {
    /// The encoded rows, as [`crate::data::write_encoded`] wrote them.
    pub tokens: PathBuf,
    /// Training.
    pub train: TrainConfig,
    /// The adapter.
    pub lora: LoraConfig,
    /// Seed.
    pub seed: u64,
    /// Folder for the adapter; it appears whole or not at all.
    pub adapter: PathBuf,
    /// The model's name, for the adapter's own configuration.
    pub base_name: String,
    /// The training key: a checkpoint of another is no checkpoint of this run.
    pub key: Digest,
    /// Folder for checkpoints.
    pub checkpoints: PathBuf,
    /// The attempt, which is in the names of its checkpoints: an engine that goes on although its job is another attempt's touches
    /// nothing of that one.
    pub attempt: AttemptNumber,
    /// Time between checkpoints.
    pub checkpoint_every: Seconds,
}

/// Tasks to score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreOrder {
    /// File that the engine's descriptors 1 and 2 are pointed at.
    pub log: PathBuf,
    /// The adapters' folders; none for the base model. Events name them by their places.
    pub adapters: Vec<Option<PathBuf>>,
    /// The tasks.
    pub tasks: Vec<TaskOrder>,
    /// Most tokens of one pass.
    pub token_budget: usize,
    /// One request at a time, no prefix shared.
    pub exact: bool,
    /// Dtype in which log-likelihoods are made.
    pub softmax: Softmax,
}

/// A task to score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOrder {
    /// The task with its documents, as [`crate::task::TaskDocuments`] wrote them.
    pub documents: PathBuf,
    /// Documents whose scores are known already, by number.
    pub done: BTreeSet<usize>,
}

/// Prompts to answer, each by every subject, always with the likeliest token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleOrder {
    /// File that the engine's descriptors 1 and 2 are pointed at.
    pub log: PathBuf,
    /// The adapters' folders; none for the base model. Events name them by their places.
    pub adapters: Vec<Option<PathBuf>>,
    /// The prompts.
    pub prompts: Vec<SamplePrompt>,
    /// Tokens that end an answer.
    pub stop: Vec<u32>,
}

/// A prompt to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplePrompt {
    /// Its tokens, at least one.
    pub tokens: Vec<u32>,
    /// Most tokens of the answer.
    pub max_new_tokens: u64,
}

/// A text to continue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateOrder {
    /// The adapter's folder; none for the base model.
    pub adapter: Option<PathBuf>,
    /// The prompt's tokens, at least one.
    pub prompt: Vec<u32>,
    /// Tokens that end the text.
    pub stop: Vec<u32>,
    /// Most tokens to add.
    pub max_new_tokens: u64,
    /// How the next token is chosen.
    pub sampling: Sampling,
}

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divisor of logits; 0: always the likeliest token.
    pub temperature: f64,
    /// Only the k likeliest tokens; 0: all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability.
    pub top_p: f64,
    /// Seed.
    pub seed: u64,
}

/// What an adapter is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeBase {
    /// The weights as they are stored.
    Stored,
    /// The weights after they went through this 4-bit form and back.
    Dequantized(Quantize),
}

/// A model to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeOrder {
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// What it is added to.
    pub base: MergeBase,
    /// Folder for the result, which appears whole or not at all.
    pub out: PathBuf,
}

/// Texts whose log-probabilities are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareOrder {
    /// The adapter's folder; none for the base model.
    pub adapter: Option<PathBuf>,
    /// The texts' tokens.
    pub sequences: Vec<Vec<u32>>,
    /// File for the log-probabilities, or with them.
    pub file: PathBuf,
    /// Whether the file is compared with instead of written.
    pub compare: bool,
}
