//! Orders from the orchestrator to the engine.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::job::{AttemptNumber, BaseForm, Digest, LoraConfig, Quantize, Seconds, Softmax, TrainConfig};

/// An order; the engine runs one at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Load a base model; the first order, and again to change the model.
    Load(LoadOrder),
    /// Train the adapters of a pack.
    Train(PackOrder),
    /// Score the base model, or adapters.
    Score(ScoreOrder),
    /// Answer prompts greedily.
    Sample(SampleOrder),
    /// Continue a prompt.
    Generate(GenerateOrder),
    /// Answer [`Inquiry`]s, which follow instead of orders until [`Inquiry::Close`].
    Serve(ServeOrder),
    /// Write a model with an adapter added to its weights.
    Merge(MergeOrder),
    /// Compute log-probabilities of texts; save them or compare them with saved ones.
    Compare(CompareOrder),
    /// Stop the current order as on SIGTERM: write a checkpoint and exit. For engines that no signal reaches; see
    /// [`super::use_standard_streams`].
    Stop,
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
    /// Threads per operation; where none is named, as many as the engine may use cores.
    pub threads: Option<usize>,
    /// Devices that train together, at least one: the first that the engine sees, and those after it.
    pub devices: usize,
}

/// Training runs that share passes; events refer to them by index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackOrder {
    /// Log file for the engine's descriptors 1 and 2.
    pub log: PathBuf,
    /// Maximum tokens per pass.
    pub token_budget: usize,
    /// The runs.
    pub members: Vec<TrainOrder>,
}

/// A training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainOrder {
    /// The encoded rows, as written by [`crate::data::write_encoded`].
    pub tokens: PathBuf,
    /// Training.
    pub train: TrainConfig,
    /// The adapter.
    pub lora: LoraConfig,
    /// Seed.
    pub seed: u64,
    /// Folder for the adapter, created atomically.
    pub adapter: PathBuf,
    /// The model's name, for the adapter's own configuration.
    pub base_name: String,
    /// The training key: a checkpoint with another key is ignored.
    pub key: Digest,
    /// Folder for checkpoints.
    pub checkpoints: PathBuf,
    /// The attempt, part of its checkpoints' names: an engine that keeps running after its job was taken over does not
    /// touch the new attempt's files.
    pub attempt: AttemptNumber,
    /// Time between checkpoints.
    pub checkpoint_every: Seconds,
}

/// Tasks to score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreOrder {
    /// Log file for the engine's descriptors 1 and 2.
    pub log: PathBuf,
    /// The adapters' folders; none for the base model. Events refer to them by index.
    pub adapters: Vec<Option<PathBuf>>,
    /// The tasks.
    pub tasks: Vec<TaskOrder>,
    /// Maximum tokens per pass.
    pub token_budget: usize,
    /// One request at a time, without shared prefixes.
    pub exact: bool,
    /// Dtype of the log-likelihoods.
    pub softmax: Softmax,
}

/// A task to score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOrder {
    /// The task with its documents, as written by [`crate::task::TaskDocuments`].
    pub documents: PathBuf,
    /// Numbers of the documents already scored.
    pub done: BTreeSet<usize>,
}

/// Prompts to answer greedily, each by every subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleOrder {
    /// Log file for the engine's descriptors 1 and 2.
    pub log: PathBuf,
    /// The adapters' folders; none for the base model. Events refer to them by index.
    pub adapters: Vec<Option<PathBuf>>,
    /// The prompts.
    pub prompts: Vec<SamplePrompt>,
    /// Stop tokens.
    pub stop: Vec<u32>,
}

/// A prompt to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplePrompt {
    /// Its tokens, at least one.
    pub tokens: Vec<u32>,
    /// Maximum tokens of the answer.
    pub max_new_tokens: u64,
}

/// A prompt to continue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateOrder {
    /// The adapter's folder; none for the base model.
    pub adapter: Option<PathBuf>,
    /// The prompt's tokens, at least one.
    pub prompt: Vec<u32>,
    /// Stop tokens.
    pub stop: Vec<u32>,
    /// Maximum tokens to add.
    pub max_new_tokens: u64,
    /// Sampling settings.
    pub sampling: Sampling,
}

/// Sampling settings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Temperature; 0: greedy.
    pub temperature: f64,
    /// Only the k most likely tokens; 0: all.
    pub top_k: usize,
    /// Only the most likely tokens with this total probability.
    pub top_p: f64,
    /// Seed.
    pub seed: u64,
}

/// Models to answer inquiries with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServeOrder {
    /// The adapters' folders; none for the base model. Inquiries refer to them by index.
    pub adapters: Vec<Option<PathBuf>>,
    /// Maximum tokens per pass.
    pub token_budget: usize,
}

/// What is sent while a [`ServeOrder`] is carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "inquiry", rename_all = "snake_case")]
pub enum Inquiry {
    /// Answer a prompt, together with all that are being answered.
    Ask(AskInquiry),
    /// Nobody waits for this answer any more.
    Withdraw {
        /// Its id.
        id: u64,
    },
    /// Drop what is being answered; orders follow.
    Close,
}

/// A prompt to answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AskInquiry {
    /// Names the answer in events.
    pub id: u64,
    /// Index of the adapter.
    pub member: usize,
    /// The prompt's tokens, at least one.
    pub prompt: Vec<u32>,
    /// Stop tokens.
    pub stop: Vec<u32>,
    /// Maximum tokens to add, at least one.
    pub max_new_tokens: u64,
    /// Sampling settings.
    pub sampling: Sampling,
    /// The answer's number among those of the seed: each has random numbers of its own.
    pub answer: u64,
    /// Report the log-probability of each token, and the most likely tokens, this many.
    pub top_logprobs: Option<usize>,
}

/// The base for a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeBase {
    /// The weights as stored.
    Stored,
    /// The weights after quantizing to this 4-bit form and back.
    Dequantized(Quantize),
}

/// A model to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeOrder {
    /// The adapter's folder.
    pub adapter: PathBuf,
    /// The base to merge into.
    pub base: MergeBase,
    /// Folder for the result, created atomically.
    pub out: PathBuf,
}

/// Texts to compute log-probabilities of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareOrder {
    /// The adapter's folder; none for the base model.
    pub adapter: Option<PathBuf>,
    /// The texts' tokens.
    pub sequences: Vec<Vec<u32>>,
    /// File to write the log-probabilities to, or to compare with.
    pub file: PathBuf,
    /// Whether to compare with the file instead of writing it.
    pub compare: bool,
}
