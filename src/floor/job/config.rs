//! One fully resolved, typed configuration. Built from [`Settings`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::choices::*;
use super::key::ScoreFacts;
use super::settings::Settings;
use super::value::Value;
use crate::jinja::TemplateDate;

/// The resolved `[train]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Storage of the base model.
    #[serde(flatten)]
    pub base: BaseForm,
    /// Micro-batches to train on.
    pub iterations: u64,
    /// Epochs, if the length is given that way.
    #[serde(default)]
    pub epochs: Option<f64>,
    /// Rows per optimizer step; a multiple of `micro_batch_size`.
    pub batch_size: u64,
    /// Rows per micro-batch.
    pub micro_batch_size: u64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// AdamW's decay rates.
    pub betas: [f64; 2],
    /// AdamW's epsilon.
    pub eps: f64,
    /// SGD's momentum.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Learning rate after the warm-up.
    pub schedule: Schedule,
    /// Variant of the cosine schedule.
    pub schedule_form: ScheduleForm,
    /// Optimizer steps of linear warm-up.
    pub warmup_steps: u64,
    /// End of the cosine schedule as a fraction of the peak.
    pub min_lr_ratio: f64,
    /// Maximum gradient norm per step; 0: no clipping.
    pub clip_norm: f64,
    /// How the loss weights tokens.
    pub loss: Loss,
    /// Order of the rows.
    pub order: RowOrder,
    /// A last window with fewer micro-batches.
    pub last_window: LastWindow,
    /// Longest row in tokens.
    pub max_seq_length: u64,
    /// A row with more tokens.
    pub overlong: Overlong,
    /// Which tokens are scored.
    pub labels: Labels,
    /// Fraction of rows held out for validation.
    pub validation_split: f64,
    /// Optimizer steps between validation losses.
    pub validate_every: Option<u64>,
    /// Seconds between checkpoints.
    pub checkpoint_every: u64,
    /// Whether blocks are recomputed in backward.
    pub gradient_checkpointing: bool,
    /// Deterministic kernels only.
    pub strict: bool,
}

/// Storage of a base model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BaseForm {
    /// Compute dtype.
    pub dtype: DType,
    /// Storage of the block matrices.
    pub quantize: Quantize,
    /// Whether the head is quantized too.
    pub quantize_head: bool,
    /// When 4-bit matrices are dequantized.
    pub dequantize: Dequantize,
}

impl BaseForm {
    /// Everything in the compute dtype.
    pub fn dense(dtype: DType) -> Self {
        Self { dtype, quantize: Quantize::None, quantize_head: false, dequantize: Dequantize::EachPass }
    }

    /// Whether block matrices are stored in another format than the compute dtype.
    pub fn is_quantized(&self) -> bool {
        self.quantize != Quantize::None
    }
}

impl TrainConfig {
    /// Numbers per parameter in the optimizer state: two moments for AdamW, one for SGD with momentum, none without.
    pub fn optimizer_moments(&self) -> u64 {
        match self.optimizer {
            Optimizer::Adamw => 2,
            Optimizer::Sgd => u64::from(self.momentum > 0.0),
        }
    }

    /// Validation rows of a data set; at least one row is left for training.
    pub fn validation_rows(&self, rows: u64) -> u64 {
        ((self.validation_split * rows as f64).round() as u64).min(rows.saturating_sub(1))
    }

    /// Micro-batches per optimizer step.
    pub fn window(&self) -> u64 {
        self.batch_size / self.micro_batch_size
    }

    /// Optimizer steps.
    pub fn steps(&self) -> u64 {
        match self.last_window {
            LastWindow::Step => self.iterations.div_ceil(self.window()),
            LastWindow::Drop => self.iterations / self.window(),
        }
    }

    /// Rows processed by a run with this many training rows. Whole epochs end with their last row, so the last
    /// micro-batch may be short; other lengths are in whole micro-batches.
    pub fn rows(&self, rows: u64) -> u64 {
        let whole = self.iterations.saturating_mul(self.micro_batch_size);
        match self.epochs {
            Some(epochs) => whole.min(((epochs * rows as f64).ceil() as u64).max(1)),
            None => whole,
        }
    }
}

/// The resolved `[lora]` section (Hu et al. 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Rank of every adapter.
    pub rank: u64,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Layers with an adapter.
    pub layers: BTreeSet<LayerKind>,
    /// Dropout on the adapter's input.
    pub dropout: f64,
    /// Scale of the adapter's output.
    pub scaling: Scaling,
    /// Adapter type.
    pub variant: Variant,
    /// Learning rate of B divided by that of A.
    pub plus_ratio: f64,
    /// Initial values of A.
    pub init: Init,
    /// Dtype of the adapter.
    pub dtype: AdapterDType,
}

impl LoraConfig {
    /// A plain adapter with this rank on these layers, alpha = 2 × rank, no dropout.
    pub fn plain(rank: u64, layers: impl IntoIterator<Item = LayerKind>) -> Self {
        Self {
            rank,
            alpha: 2.0 * rank as f64,
            layers: layers.into_iter().collect(),
            dropout: 0.0,
            scaling: Scaling::Standard,
            variant: Variant::Lora,
            plus_ratio: 1.0,
            init: Init::Kaiming,
            dtype: AdapterDType::Fp32,
        }
    }

    /// Scale of the adapter's output.
    pub fn scale(&self) -> f64 {
        match self.scaling {
            Scaling::Standard => self.alpha / self.rank as f64,
            Scaling::RankStabilized => self.alpha / (self.rank as f64).sqrt(),
        }
    }
}

/// Tasks to score, and on how many documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EvalConfig {
    /// Task names, in file order.
    pub tasks: Vec<String>,
    /// How prompts are put together; an order of an earlier release says nothing of it.
    #[serde(default)]
    pub prompts: PromptConfig,
    /// How they are scored.
    #[serde(flatten)]
    pub facts: ScoreFacts,
}

/// Training length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// This many micro-batches.
    Iterations(u64),
    /// This many epochs.
    Epochs(f64),
}

impl Length {
    /// Micro-batches of `micro_batch_size` rows for a data set of `rows` rows, rounded up.
    pub fn iterations(self, rows: u64, micro_batch_size: u64) -> u64 {
        match self {
            Self::Iterations(iterations) => iterations,
            Self::Epochs(epochs) => ((epochs * rows as f64 / micro_batch_size as f64).ceil() as u64).max(1),
        }
    }
}

/// How prompts of tasks are put together, and what replaces settings of their files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PromptConfig {
    /// In the model's chat template.
    pub apply_chat_template: bool,
    /// With a chat template: each example as a turn.
    pub fewshot_as_multiturn: bool,
    /// The system prompt.
    pub system_instruction: Option<String>,
    /// Settings of generation, as on the command line of `eval`.
    pub gen_kwargs: Option<String>,
}

impl Default for PromptConfig {
    fn default() -> Self {
        Self {
            apply_chat_template: false,
            fewshot_as_multiturn: true,
            system_instruction: None,
            gen_kwargs: None,
        }
    }
}

/// One fully resolved job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobConfig {
    /// The model as named in the sweep file.
    pub model: String,
    /// Revision of a hub id.
    pub revision: Option<String>,
    /// The data set as named in the sweep file.
    pub data: String,
    /// The template as named in the sweep file.
    pub template: String,
    /// The date passed to chat templates.
    pub template_date: TemplateDate,
    /// Seed of initialization, row order and dropout.
    pub seed: u64,
    /// Training length; `train.iterations` is 0 until the number of rows is known.
    pub length: Length,
    /// Training.
    pub train: TrainConfig,
    /// The adapter.
    pub lora: LoraConfig,
    /// Scoring.
    pub eval: EvalConfig,
}

impl JobConfig {
    /// Converts complete, checked settings to their typed form. `auto` is what `train.dtype = "auto"` means on this
    /// machine. Error: the path of a key that is missing or of another type.
    pub fn from_settings(settings: &Settings, auto: DType) -> Result<Self, &'static str> {
        let read = Reader(settings);
        let length = match settings.value("train.epochs").and_then(Value::as_f64) {
            Some(epochs) => Length::Epochs(epochs),
            None => Length::Iterations(read.integer("train.iterations")?),
        };
        Ok(Self {
            model: read.text("model")?.to_owned(),
            revision: settings.value("revision").and_then(Value::as_text).map(str::to_owned),
            // An evaluation-only sweep needs no data.
            data: settings.value("data").and_then(Value::as_text).unwrap_or_default().to_owned(),
            template: read.text("template")?.to_owned(),
            template_date: read.word("template_date", TemplateDate::parse)?,
            seed: read.integer("seed")?,
            length,
            train: read.train(auto, length)?,
            lora: read.lora()?,
            eval: EvalConfig {
                tasks: read.texts("eval")?,
                prompts: PromptConfig {
                    apply_chat_template: read.bool("apply_chat_template")?,
                    fewshot_as_multiturn: read.bool("fewshot_as_multiturn")?,
                    system_instruction: read.optional_text("system_instruction"),
                    gen_kwargs: read.optional_text("gen_kwargs"),
                },
                facts: ScoreFacts {
                    limit: read.optional("limit"),
                    num_fewshot: read.optional("num_fewshot"),
                    prompt_profile: read.word("prompt_profile", PromptProfile::parse)?,
                    softmax: read.word("softmax", Softmax::parse)?,
                },
            },
        })
    }

    /// A short label of the values in which a sweep's jobs differ: `r=8 lr=1e-3`. `axes` are key paths.
    pub fn label(settings: &Settings, axes: &[&'static str]) -> String {
        let mut label = String::new();
        for path in axes {
            let Some(value) = settings.value(path) else { continue };
            if !label.is_empty() {
                label.push(' ');
            }
            label.push_str(short_name(path));
            label.push('=');
            label.push_str(&value.to_string().replace(' ', ""));
        }
        label
    }
}

/// The name of a key in labels and table headings.
pub fn short_name(path: &str) -> &str {
    match path {
        "lora.rank" => "r",
        "train.learning_rate" => "lr",
        "lora.dtype" => "adapter",
        _ => path.rsplit('.').next().unwrap_or(path),
    }
}

/// Reads checked settings by path.
struct Reader<'a>(&'a Settings);

impl<'a> Reader<'a> {
    fn train(&self, auto: DType, length: Length) -> Result<TrainConfig, &'static str> {
        let dtype = self.text("train.dtype")?;
        Ok(TrainConfig {
            base: BaseForm {
                dtype: DType::parse(dtype).unwrap_or(auto),
                quantize: self.word("train.quantize", Quantize::parse)?,
                quantize_head: self.bool("train.quantize_head")?,
                dequantize: self.word("train.dequantize", Dequantize::parse)?,
            },
            iterations: if let Length::Iterations(iterations) = length { iterations } else { 0 },
            epochs: if let Length::Epochs(epochs) = length { Some(epochs) } else { None },
            batch_size: self.integer("train.batch_size")?,
            micro_batch_size: self.integer("train.micro_batch_size")?,
            learning_rate: self.number("train.learning_rate")?,
            optimizer: self.word("train.optimizer", Optimizer::parse)?,
            betas: self.betas("train.betas")?,
            eps: self.number("train.eps")?,
            momentum: self.number("train.momentum")?,
            weight_decay: self.number("train.weight_decay")?,
            schedule: self.word("train.schedule", Schedule::parse)?,
            schedule_form: self.word("train.schedule_form", ScheduleForm::parse)?,
            warmup_steps: self.integer("train.warmup_steps")?,
            min_lr_ratio: self.number("train.min_lr_ratio")?,
            clip_norm: self.number("train.clip_norm")?,
            loss: self.word("train.loss", Loss::parse)?,
            order: self.word("train.order", RowOrder::parse)?,
            last_window: self.word("train.last_window", LastWindow::parse)?,
            max_seq_length: self.integer("train.max_seq_length")?,
            overlong: self.word("train.overlong", Overlong::parse)?,
            labels: self.word("train.labels", Labels::parse)?,
            validation_split: self.number("train.validation_split")?,
            validate_every: self.optional("train.validate_every"),
            checkpoint_every: self.integer("train.checkpoint_every")?,
            gradient_checkpointing: self.bool("train.gradient_checkpointing")?,
            strict: self.bool("train.strict")?,
        })
    }

    fn lora(&self) -> Result<LoraConfig, &'static str> {
        let layers = self.texts("lora.layers")?;
        Ok(LoraConfig {
            rank: self.integer("lora.rank")?,
            alpha: self.number("lora.alpha")?,
            layers: layers.iter().filter_map(|word| LayerKind::parse(word)).collect(),
            dropout: self.number("lora.dropout")?,
            scaling: self.word("lora.scaling", Scaling::parse)?,
            variant: self.word("lora.variant", Variant::parse)?,
            plus_ratio: self.number("lora.loraplus_lr_ratio")?,
            init: self.word("lora.init", Init::parse)?,
            dtype: self.word("lora.dtype", AdapterDType::parse)?,
        })
    }

    fn value(&self, path: &'static str) -> Result<&'a Value, &'static str> {
        self.0.value(path).ok_or(path)
    }

    fn bool(&self, path: &'static str) -> Result<bool, &'static str> {
        match self.value(path)? {
            Value::Bool(value) => Ok(*value),
            _ => Err(path),
        }
    }

    fn integer(&self, path: &'static str) -> Result<u64, &'static str> {
        self.optional(path).ok_or(path)
    }

    fn optional(&self, path: &str) -> Option<u64> {
        match self.0.value(path)? {
            Value::Integer(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    fn number(&self, path: &'static str) -> Result<f64, &'static str> {
        self.value(path)?.as_f64().ok_or(path)
    }

    fn text(&self, path: &'static str) -> Result<&'a str, &'static str> {
        self.value(path)?.as_text().ok_or(path)
    }

    fn optional_text(&self, path: &str) -> Option<String> {
        self.0.value(path).and_then(Value::as_text).map(str::to_owned)
    }

    fn texts(&self, path: &'static str) -> Result<Vec<String>, &'static str> {
        match self.value(path)? {
            Value::List(items) => Ok(items.iter().filter_map(Value::as_text).map(str::to_owned).collect()),
            _ => Err(path),
        }
    }

    fn betas(&self, path: &'static str) -> Result<[f64; 2], &'static str> {
        match self.value(path)? {
            Value::List(items) => {
                let numbers: Vec<f64> = items.iter().filter_map(Value::as_f64).collect();
                numbers.try_into().map_err(|_| path)
            }
            _ => Err(path),
        }
    }

    fn word<T>(&self, path: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, &'static str> {
        parse(self.text(path)?).ok_or(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Origin, Profile, find_key};

    #[test]
    fn an_evaluation_of_an_earlier_release_has_plain_prompts() {
        let stored =
            r#"{"tasks":["a"],"limit":150,"num_fewshot":null,"prompt_profile":"lm_eval","softmax":"fp32"}"#;
        let eval: EvalConfig = serde_json::from_str(stored).unwrap();
        assert_eq!(eval.prompts, PromptConfig::default());
    }

    #[test]
    fn lists_of_the_settings_are_in_the_configuration() {
        let mut settings = Settings::new();
        settings.set(find_key("model").unwrap(), "m".into(), Origin::Axis);
        let tasks = Value::List(vec!["b".into(), "a".into()]);
        settings.set(find_key("eval").unwrap(), tasks, Origin::Axis);
        settings.set(
            find_key("train.betas").unwrap(),
            Value::List(vec![0.8.into(), 0.95.into()]),
            Origin::Axis,
        );
        settings.fill_defaults(Profile::Peft);
        let config = JobConfig::from_settings(&settings, DType::Fp32).unwrap();
        assert_eq!(config.eval.tasks, ["b", "a"], "in the file's order");
        assert_eq!(config.train.betas, [0.8, 0.95]);
        settings.set(find_key("train.betas").unwrap(), "0.8".into(), Origin::Axis);
        assert_eq!(JobConfig::from_settings(&settings, DType::Fp32), Err("train.betas"));
    }
}
