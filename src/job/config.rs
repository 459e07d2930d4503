//! One fully resolved configuration, typed. Built from [`Settings`]; hashed by [`super::key`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::settings::Settings;
use super::value::Value;

/// Compute dtype of the frozen model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DType {
    /// bfloat16.
    Bf16,
    /// IEEE single.
    Fp32,
    /// IEEE double, for tests.
    Fp64,
}

impl DType {
    /// The word that sweep files and tables use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp32 => "fp32",
            Self::Fp64 => "fp64",
        }
    }

    /// Size of one element in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Bf16 => 2,
            Self::Fp32 => 4,
            Self::Fp64 => 8,
        }
    }
}

/// A kind of layer that can carry an adapter, in the study's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerKind {
    /// The query projection.
    Query,
    /// The key projection.
    Key,
    /// The value projection.
    Value,
    /// The attention's output projection.
    Projection,
    /// Every matrix of the feed-forward part.
    Mlp,
    /// The matrix from hidden states to the vocabulary.
    Head,
}

/// How the loss weighs tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Sum over the window's scored tokens divided by their count (transformers' rule).
    Token,
    /// Mean over each micro-batch's scored tokens, then mean over micro-batches (Lit-GPT's rule).
    MicroBatch,
}

/// Which tokens the loss scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// Every token after the first.
    All,
    /// The response with its end-of-sequence token.
    Response,
}

/// The optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// AdamW (Loshchilov and Hutter 2019), as torch computes it.
    Adamw,
}

/// The learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Stays at its peak.
    Constant,
    /// Falls on a line to 0.
    Linear,
    /// Falls on half a cosine to 0.
    Cosine,
}

/// Order of the rows within an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOrder {
    /// A new permutation each epoch.
    Shuffle,
    /// The file's order.
    Sequential,
}

/// The resolved `[train]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Compute dtype of the frozen model.
    pub dtype: DType,
    /// Micro-batches to train on.
    pub iterations: u64,
    /// Rows of one optimizer step; a multiple of `micro_batch_size`.
    pub batch_size: u64,
    /// Rows of one iteration.
    pub micro_batch_size: u64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// AdamW's decay rates.
    pub betas: [f64; 2],
    /// AdamW's epsilon.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Learning rate after the warm-up.
    pub schedule: Schedule,
    /// Optimizer steps of linear warm-up.
    pub warmup_steps: u64,
    /// How the loss weighs tokens.
    pub loss: Loss,
    /// Order of the rows.
    pub order: RowOrder,
    /// Longest row in tokens.
    pub max_seq_length: u64,
    /// Which tokens are scored.
    pub labels: Labels,
}

impl TrainConfig {
    /// Micro-batches of one optimizer step.
    pub fn window(&self) -> u64 {
        self.batch_size / self.micro_batch_size
    }

    /// Optimizer steps; a last short window is stepped too.
    pub fn steps(&self) -> u64 {
        self.iterations.div_ceil(self.window())
    }
}

/// The resolved `[lora]` section (Hu et al. 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Rank of every adapter.
    pub rank: u64,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Layers that carry an adapter.
    pub layers: BTreeSet<LayerKind>,
    /// Dropout on the adapter's input.
    pub dropout: f64,
}

impl LoraConfig {
    /// What the adapter's output is multiplied by: alpha / rank.
    pub fn scaling(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

/// What to score, and on how many documents.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalConfig {
    /// Task names, in the file's order.
    pub tasks: Vec<String>,
    /// Only the first n documents of each task.
    pub limit: Option<u64>,
}

/// One fully resolved job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobConfig {
    /// The model as the sweep file names it.
    pub model: String,
    /// The data set as the sweep file names it.
    pub data: String,
    /// The template's name, if the data's own is not meant.
    pub template: Option<String>,
    /// Seed of initialisation, row order and dropout.
    pub seed: u64,
    /// Training.
    pub train: TrainConfig,
    /// The adapter.
    pub lora: LoraConfig,
    /// Scoring.
    pub eval: EvalConfig,
}

impl JobConfig {
    /// The typed form of settings in which `model` and `data` are set and every value was checked by its key.
    /// `auto_dtype` is what `train.dtype = "auto"` means on this machine. Error: the path of a key that is missing
    /// or has a value of the wrong type.
    pub fn from_settings(settings: &Settings, auto_dtype: DType) -> Result<Self, String> {
        let read = Reader(settings);
        let dtype = match read.text("train.dtype")?.as_str() {
            "auto" => auto_dtype,
            "bf16" => DType::Bf16,
            _ => DType::Fp32,
        };
        let train = TrainConfig {
            dtype,
            iterations: read.integer("train.iterations")?,
            batch_size: read.integer("train.batch_size")?,
            micro_batch_size: read.integer("train.micro_batch_size")?,
            learning_rate: read.number("train.learning_rate")?,
            optimizer: read.word("train.optimizer")?,
            betas: read.betas("train.betas")?,
            eps: read.number("train.eps")?,
            weight_decay: read.number("train.weight_decay")?,
            schedule: read.word("train.schedule")?,
            warmup_steps: read.integer("train.warmup_steps")?,
            loss: read.word("train.loss")?,
            order: read.word("train.order")?,
            max_seq_length: read.integer("train.max_seq_length")?,
            labels: read.word("train.labels")?,
        };
        let lora = LoraConfig {
            rank: read.integer("lora.rank")?,
            alpha: read.number("lora.alpha")?,
            layers: read.word("lora.layers")?,
            dropout: read.number("lora.dropout")?,
        };
        let tasks = settings.get("eval").map(|_| read.word("eval")).transpose()?.unwrap_or_default();
        let limit = settings.get("limit").map(|_| read.integer("limit")).transpose()?;
        Ok(Self {
            model: read.text("model")?,
            data: read.text("data")?,
            template: settings.get("template").map(|_| read.text("template")).transpose()?,
            seed: read.integer("seed")?,
            train,
            lora,
            eval: EvalConfig { tasks, limit },
        })
    }

    /// A short name of the values in which jobs of one sweep differ: `r=8 lr=1e-3`. `axes` are key paths.
    pub fn label(settings: &Settings, axes: &[&'static str]) -> String {
        let parts = axes.iter().filter_map(|path| {
            let value = &settings.get(path)?.value;
            let short = match *path {
                "lora.rank" => "r",
                "train.learning_rate" => "lr",
                _ => path.rsplit('.').next().unwrap_or(path),
            };
            Some(format!("{short}={value}"))
        });
        parts.collect::<Vec<_>>().join(" ")
    }
}

/// Reads checked settings by path.
struct Reader<'a>(&'a Settings);

impl Reader<'_> {
    fn value(&self, path: &str) -> Result<&Value, String> {
        self.0.get(path).map(|setting| &setting.value).ok_or_else(|| path.to_owned())
    }

    fn integer(&self, path: &str) -> Result<u64, String> {
        match self.value(path)? {
            Value::Integer(n) => u64::try_from(*n).map_err(|_| path.to_owned()),
            _ => Err(path.to_owned()),
        }
    }

    fn number(&self, path: &str) -> Result<f64, String> {
        self.value(path)?.as_f64().ok_or_else(|| path.to_owned())
    }

    fn text(&self, path: &str) -> Result<String, String> {
        match self.value(path)? {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(path.to_owned()),
        }
    }

    fn betas(&self, path: &str) -> Result<[f64; 2], String> {
        match self.value(path)? {
            Value::List(items) => {
                let numbers: Vec<f64> = items.iter().filter_map(Value::as_f64).collect();
                numbers.try_into().map_err(|_| path.to_owned())
            }
            _ => Err(path.to_owned()),
        }
    }

    /// A value whose words are the type's serde names.
    fn word<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let json = serde_json::to_value(self.value(path)?).map_err(|_| path.to_owned())?;
        serde_json::from_value(json).map_err(|_| path.to_owned())
    }
}
