//! What a job will take, before it runs. Each formula is an upper estimate that is simple enough to check by hand.

use serde::Serialize;

use crate::checkpoint::{ModelConfig, trainable_parameters};
use crate::job::{Bytes, DType, LoraConfig, Seconds};

/// Memory of one training job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// Base weights: parameters × bytes of the compute dtype.
    pub weights: Bytes,
    /// Adapter and its gradient in single precision: 8 bytes a trainable parameter.
    pub adapter: Bytes,
    /// AdamW's two moments in single precision: 8 bytes a trainable parameter.
    pub optimizer: Bytes,
    /// What a pass keeps for its backward: for each token and layer 12 rows of the hidden width and 5 of the
    /// feed-forward width in the compute dtype, twice that for adapters' single-precision copies.
    pub activations: Bytes,
    /// Logits of one chunk of 256 rows, three times over in single precision.
    pub logits: Bytes,
}

impl MemoryEstimate {
    /// The estimate for a model, an adapter and passes of at most `tokens` tokens.
    pub fn of(model: &ModelConfig, lora: &LoraConfig, dtype: DType, tokens: u64) -> Self {
        let trainable = trainable_parameters(model, lora);
        let widths = 12 * model.hidden_size + 5 * model.intermediate_size;
        Self {
            weights: Bytes(model.parameters() * dtype.bytes()),
            adapter: Bytes(trainable * 8),
            optimizer: Bytes(trainable * 8),
            activations: Bytes(2 * tokens * model.layers * widths * dtype.bytes()),
            logits: Bytes(3 * 256 * model.vocab_size * 4),
        }
    }

    /// All of it.
    pub fn total(&self) -> Bytes {
        let parts = [self.weights, self.adapter, self.optimizer, self.activations, self.logits];
        Bytes(parts.iter().map(|part| part.0).sum())
    }
}

/// How fast tokens go through training, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Throughput {
    /// Tokens a second of earlier trainings of this model on this kind of device.
    Measured(f64),
    /// Tokens a second by 6 operations a parameter and token at 100 GFLOP/s, which is what two CPU cores do in bf16.
    Guessed(f64),
}

impl Throughput {
    /// The guess for a model that was never trained here.
    pub fn guess(model: &ModelConfig) -> Self {
        Self::Guessed(100e9 / (6.0 * model.parameters() as f64))
    }

    /// Tokens a second.
    pub fn tokens_per_second(self) -> f64 {
        match self {
            Self::Measured(rate) | Self::Guessed(rate) => rate,
        }
    }
}

/// What a job will take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Memory; none for scoring the base model alone.
    pub memory: Option<MemoryEstimate>,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// Tokens to score.
    pub score_tokens: u64,
    /// Time of what is missing. Scoring goes forward only and is counted at three times the speed.
    pub time: Seconds,
    /// Disk for the adapter.
    pub disk: Bytes,
}
