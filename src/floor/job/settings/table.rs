//! All configuration keys of a sweep file. The parser, axes, expressions, `keys`, `show` and the training key read this
//! one table; numbers default to the study's.

use super::kind::KeyKind::{self, Bool, Choice, ChoiceSet, Model, Template, Text, TextList, Texts};
use super::kind::{integer, number, positive};
use crate::job::choices::*;

/// What a key affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decides {
    /// The adapter: its value is part of the training key.
    Training,
    /// Which scores are computed: part of score keys.
    Scoring,
    /// Covered by other fields of a key: a name whose content counts, a resolved length.
    Indirect,
    /// No result.
    Nothing,
}

/// One row of [`KEYS`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Dotted path: `train.learning_rate`, `seed`.
    pub path: &'static str,
    /// Type and range.
    pub kind: KeyKind,
    /// Default in TOML; `None`: the key may be absent.
    pub default: Option<&'static str>,
    /// Default under the profile `litgpt-2023`, where it differs.
    pub litgpt: Option<&'static str>,
    /// What the key affects.
    pub decides: Decides,
    /// One-line description.
    pub help: &'static str,
}

const fn key(
    path: &'static str,
    kind: KeyKind,
    default: Option<&'static str>,
    decides: Decides,
    help: &'static str,
) -> Key {
    Key { path, kind, default, litgpt: None, decides, help }
}

/// Key aliases: names from earlier releases, and PEFT's.
pub(super) const ALIASES: &[Alias] = &[
    Alias { spelling: "train.dequantise", path: "train.dequantize", is_old: true },
    Alias { spelling: "lora.plus_ratio", path: "lora.loraplus_lr_ratio", is_old: true },
    Alias { spelling: "lora.target_modules", path: "lora.layers", is_old: false },
];

/// An alias of a key.
pub(super) struct Alias {
    pub(super) spelling: &'static str,
    pub(super) path: &'static str,
    /// Whether an earlier release had it.
    pub(super) is_old: bool,
}

impl Key {
    /// The alias of its path, if it has one.
    pub fn other_spelling(&self) -> Option<&'static str> {
        ALIASES.iter().find(|alias| alias.path == self.path).map(|alias| alias.spelling)
    }

    /// The path in a training key's string, which an alias does not change.
    pub fn hashed_path(&self) -> &'static str {
        let old = ALIASES.iter().find(|alias| alias.is_old && alias.path == self.path);
        old.map_or(self.path, |alias| alias.spelling)
    }
}

const fn differs(key: Key, litgpt: &'static str) -> Key {
    Key { litgpt: Some(litgpt), ..key }
}

/// Training dtypes in a file; `auto` is resolved by the device.
const DTYPES: &[&str] = &["auto", "bf16", "fp32"];

use Decides::*;

/// All keys, in display order.
///
/// A key added later must be omitted from the training key at the value that was implied before it existed; otherwise
/// the golden file of keys fails.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("model", Model, None, Indirect, "a hub id, a .gguf file or a Hugging Face checkpoint folder"),
    key("revision", Text, None, Indirect, "revision of a hub id"),
    key("data", Text, None, Indirect, "a preset, or a path to a .jsonl, .json, .csv or .parquet file"),
    key("template", Template, Some("\"auto\""), Indirect, "how a row becomes a prompt and a response: auto, alpaca, question-answer, chat, or a Jinja chat template"),
    key("template_date", KeyKind::Date, Some("\"2025-01-01\""), Indirect, "date that strftime_now returns in chat templates"),
    key("eval", Texts, Some("[]"), Scoring, "tasks to score: names, or paths to task files"),
    key("num_fewshot", integer(0, 1000), None, Scoring, "few-shot examples, unless the task fixes them at 0"),
    key("limit", integer(1, i64::MAX), None, Scoring, "score only the first n documents of each task"),
    key("objective", Text, None, Nothing, "task or task:metric that ranks the leaderboard; default: the first of eval"),
    key("profile", Choice(Profile::WORDS), Some("\"peft\""), Indirect, "defaults where PEFT and Lit-GPT of 2023 differ"),
    differs(key("prompt_profile", Choice(PromptProfile::WORDS), Some("\"lm_eval\""), Scoring, "prompt and tokenization rules"), "\"litgpt-2023\""),
    differs(key("softmax", Choice(Softmax::WORDS), Some("\"fp32\""), Scoring, "dtype of the log-softmax: fp32, or the model's"), "\"model\""),
    key("apply_chat_template", Bool, Some("false"), Scoring, "put task prompts into the model's chat template"),
    key("fewshot_as_multiturn", Bool, Some("true"), Scoring, "with a chat template, make each few-shot example a turn"),
    key("system_instruction", Text, None, Scoring, "system prompt of tasks"),
    key("gen_kwargs", Text, None, Scoring, "settings of generation tasks over those of their files, such as temperature=0.7,top_p=0.9"),
    key("seed", integer(0, i64::MAX), Some("1"), Training, "seed of adapter initialization, row order and dropout"),
    key("reference", TextList, None, Nothing, "further untrained models on the leaderboard"),
    key("train.quantize", Choice(Quantize::WORDS), Some("\"none\""), Training, "quantization of the frozen block weights"),
    differs(key("train.quantize_head", Bool, Some("false"), Training, "quantize the head too"), "true"),
    key("train.dequantize", Choice(Dequantize::WORDS), Some("\"each_pass\""), Nothing, "dequantize 4-bit matrices in each pass, or once and keep them; results are equal"),
    key("train.dtype", Choice(DTYPES), Some("\"auto\""), Indirect, "compute dtype; auto: bf16 where the device supports it"),
    key("train.iterations", integer(1, 1 << 40), Some("50_000"), Indirect, "micro-batches to train on"),
    key("train.epochs", positive(1e6), None, Indirect, "passes over the data, instead of iterations"),
    key("train.batch_size", integer(1, 1 << 20), Some("128"), Training, "rows per optimizer step"),
    key("train.micro_batch_size", integer(1, 1 << 20), Some("1"), Training, "rows per micro-batch"),
    key("train.learning_rate", positive(1e3), Some("3e-4"), Training, "peak learning rate"),
    key("train.optimizer", Choice(Optimizer::WORDS), Some("\"adamw\""), Training, "optimizer"),
    key("train.betas", KeyKind::Betas, Some("[0.9, 0.999]"), Training, "AdamW's beta1 and beta2"),
    key("train.eps", positive(1.0), Some("1e-8"), Training, "AdamW's epsilon"),
    key("train.momentum", number(0.0, 1.0), Some("0.0"), Training, "SGD's momentum"),
    key("train.weight_decay", number(0.0, 1e3), Some("0.01"), Training, "weight decay: decoupled for AdamW, in the gradient for SGD"),
    key("train.schedule", Choice(Schedule::WORDS), Some("\"constant\""), Training, "learning rate schedule after warm-up"),
    differs(key("train.schedule_form", Choice(ScheduleForm::WORDS), Some("\"transformers\""), Training, "form of the cosine schedule"), "\"litgpt-2023\""),
    key("train.warmup_steps", integer(0, 1 << 40), Some("100"), Training, "steps of linear warm-up from 0"),
    key("train.min_lr_ratio", number(0.0, 1.0), Some("0.0"), Training, "final learning rate of the cosine schedule as a fraction of the peak"),
    key("train.clip_norm", number(0.0, 1e6), Some("0.0"), Training, "maximum gradient norm; 0: no clipping"),
    differs(key("train.loss", Choice(Loss::WORDS), Some("\"token\""), Training, "mean over a step's tokens, or mean of micro-batch means"), "\"micro_batch\""),
    differs(key("train.order", Choice(RowOrder::WORDS), Some("\"shuffle\""), Training, "order of the rows"), "\"with_replacement\""),
    differs(key("train.last_window", Choice(LastWindow::WORDS), Some("\"step\""), Training, "a last step with fewer micro-batches"), "\"drop\""),
    key("train.max_seq_length", integer(8, 1 << 20), Some("2048"), Training, "maximum row length in tokens"),
    key("train.overlong", Choice(Overlong::WORDS), Some("\"truncate\""), Training, "what happens to longer rows"),
    key("train.labels", Choice(Labels::WORDS), Some("\"all\""), Training, "tokens that the loss covers"),
    key("train.validation_split", number(0.0, 0.9), Some("0.0"), Training, "fraction of the rows for validation"),
    key("train.validate_every", integer(1, 1 << 40), None, Nothing, "optimizer steps between validation losses"),
    key("train.checkpoint_every", integer(0, 1 << 30), Some("120"), Nothing, "seconds between checkpoints; 0: after every step"),
    key("train.gradient_checkpointing", Bool, Some("false"), Nothing, "recompute each block in the backward pass"),
    key("train.strict", Bool, Some("false"), Training, "deterministic kernels only"),
    key("lora.rank", integer(1, 1 << 16), Some("8"), Training, "rank of every adapter"),
    key("lora.alpha", positive(1e6), Some("16"), Training, "alpha"),
    key("lora.layers", ChoiceSet(LayerKind::WORDS), Some("[\"query\", \"value\"]"), Training, "layers with an adapter"),
    key("lora.dropout", number(0.0, 0.99), Some("0.05"), Training, "dropout on the adapter's input"),
    key("lora.scaling", Choice(Scaling::WORDS), Some("\"alpha/r\""), Training, "scale of the adapter's output"),
    key("lora.variant", Choice(Variant::WORDS), Some("\"lora\""), Training, "LoRA or DoRA"),
    key("lora.loraplus_lr_ratio", number(1.0, 1e4), Some("1.0"), Training, "learning rate of B divided by that of A (LoRA+)"),
    key("lora.init", Choice(Init::WORDS), Some("\"kaiming\""), Training, "initial values of A"),
    differs(key("lora.dtype", Choice(AdapterDType::WORDS), Some("\"fp32\""), Training, "dtype of the adapter"), "\"compute\""),
];
