//! Arguments of the commands on single models.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::job::{BaseForm, DType, PromptProfile, Quantize, Softmax};
use crate::protocol::Sampling;
use crate::task::Subset;
use crate::workspace::{GenerationLimits, SessionDevice};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ModelCommand {
    /// Download a model from the Hugging Face Hub, or resume a download
    Pull(PullArguments),
    /// Show a model's architecture, parameters, memory by quantization, and chat template
    Show(ModelShowArguments),
    /// Merge an adapter into its base model
    Merge(MergeArguments),
    /// Compare the logits of two models
    Verify(VerifyArguments),
    /// Generate text from a prompt
    Generate(GenerateArguments),
    /// Chat with a model, with or without an adapter
    Chat(ChatArguments),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PullArguments {
    /// Model, such as HuggingFaceTB/SmolLM2-135M@main
    #[arg(value_name = "ID[@REVISION]")]
    pub(in crate::cli) id: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PushArguments {
    /// Folder, such as `loragrid best --export` writes
    pub(in crate::cli) folder: PathBuf,
    /// Repository, such as you/name@main; it is made if there is none
    #[arg(value_name = "ID[@REVISION]")]
    pub(in crate::cli) id: String,
    /// Make the repository private
    #[arg(long)]
    pub(in crate::cli) private: bool,
    /// Message of the commit
    #[arg(long, value_name = "TEXT", default_value = "Upload by loragrid")]
    pub(in crate::cli) message: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ModelShowArguments {
    /// Model: a .gguf file, a checkpoint folder, or a hub id
    pub(in crate::cli) model: String,
}

/// A model as the engine loads it.
#[derive(Debug, Args)]
pub(in crate::cli) struct LoadArguments {
    /// Device: cpu, or one GPU as cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(in crate::cli) device: String,
    /// Compute dtype: bf16 or fp32 [default: bf16 where the device supports it]
    #[arg(long, value_parser = dtype, value_name = "DTYPE")]
    pub(in crate::cli) dtype: Option<DType>,
    /// Quantization: none, bnb.nf4, bnb.nf4-dq, bnb.fp4 or bnb.fp4-dq
    #[arg(long, value_parser = quantize, value_name = "FORM", default_value = "none")]
    pub(in crate::cli) quantize: Quantize,
    /// Engine program [default: loragrid-engine beside this program, or in PATH]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) engine: Option<PathBuf>,
}

impl LoadArguments {
    /// The device and the engine.
    pub(in crate::cli) fn device(&self) -> SessionDevice {
        SessionDevice { device: self.device.clone(), engine: self.engine.clone() }
    }

    /// How a model is held that is stored so.
    pub(in crate::cli) fn form(&self, quantize: Quantize) -> BaseForm {
        self.device().form(self.dtype, quantize)
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct MergeArguments {
    /// Base model: a .gguf file, a checkpoint folder, or a hub id
    pub(in crate::cli) model: String,
    /// Adapter folder
    #[arg(long, value_name = "FOLDER")]
    pub(in crate::cli) adapter: PathBuf,
    /// Folder to write
    #[arg(long, value_name = "FOLDER")]
    pub(in crate::cli) out: PathBuf,
    /// Merge into the weights after quantization with --quantize and back, as a 4-bit adapter was trained; without it, into the
    /// weights as stored
    #[arg(long, alias = "dequantized")]
    pub(in crate::cli) dequantized: bool,
    #[command(flatten)]
    pub(in crate::cli) load: LoadArguments,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArguments {
    /// First model
    pub(in crate::cli) a: String,
    /// Second model
    pub(in crate::cli) b: String,
    /// Adapter of the first model
    #[arg(long, value_name = "FOLDER")]
    pub(in crate::cli) adapter_a: Option<PathBuf>,
    /// Adapter of the second model
    #[arg(long, value_name = "FOLDER")]
    pub(in crate::cli) adapter_b: Option<PathBuf>,
    /// File with texts to compare on, one per line [default: built-in texts]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) texts: Option<PathBuf>,
    /// Bound for the mean KL divergence in nats
    #[arg(long, value_name = "NATS", default_value_t = 0.01)]
    pub(in crate::cli) max_kl: f64,
    /// Bound for the largest logit difference [default: none]
    #[arg(long, value_name = "X")]
    pub(in crate::cli) max_logit: Option<f64>,
    /// Quantization of the second model [default: as the first]
    #[arg(long, value_parser = quantize, value_name = "FORM")]
    pub(in crate::cli) quantize_b: Option<Quantize>,
    #[command(flatten)]
    pub(in crate::cli) load: LoadArguments,
}

/// How tokens are chosen.
#[derive(Debug, Args)]
pub(in crate::cli) struct SamplingArguments {
    /// Sampling temperature; 0 is greedy
    #[arg(long, value_parser = temperature, default_value = "0.7")]
    pub(in crate::cli) temperature: f64,
    /// Sample from the k most likely tokens; 0 is all
    #[arg(long, default_value_t = 0)]
    pub(in crate::cli) top_k: usize,
    /// Sample from the most likely tokens with this total probability
    #[arg(long, default_value_t = 1.0)]
    pub(in crate::cli) top_p: f64,
    /// Seed
    #[arg(long, default_value_t = 1)]
    pub(in crate::cli) seed: u64,
    /// Maximum number of generated tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(in crate::cli) max_new_tokens: u64,
}

impl SamplingArguments {
    /// As the engine takes them.
    pub(in crate::cli) fn limits(&self) -> GenerationLimits {
        let Self { temperature, top_k, top_p, seed, max_new_tokens } = *self;
        let sampling = Sampling { temperature: temperature.max(0.0), top_k, top_p, seed };
        GenerationLimits { sampling, max_new_tokens }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct GenerateArguments {
    /// Base model: a .gguf file, a checkpoint folder, or a hub id
    pub(in crate::cli) model: String,
    /// Prompt, used as is
    #[arg(long)]
    pub(in crate::cli) prompt: String,
    /// Adapter folder
    #[arg(long, value_name = "FOLDER")]
    pub(in crate::cli) adapter: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) sampling: SamplingArguments,
    #[command(flatten)]
    pub(in crate::cli) load: LoadArguments,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ChatArguments {
    /// Base model: a .gguf file, a checkpoint folder, or a hub id
    pub(in crate::cli) model: String,
    /// Adapter folder
    #[arg(long, value_name = "FOLDER")]
    pub(in crate::cli) adapter: Option<PathBuf>,
    /// Template that the adapter was trained with: alpaca, question-answer, chat, or a .jinja file [default: the
    /// tokenizer's chat template, else alpaca]
    #[arg(long)]
    pub(in crate::cli) template: Option<String>,
    /// System prompt
    #[arg(long)]
    pub(in crate::cli) system: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) sampling: SamplingArguments,
    #[command(flatten)]
    pub(in crate::cli) load: LoadArguments,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct EvalArguments {
    /// Base model: a .gguf file, a checkpoint folder, or a hub id
    pub(in crate::cli) model: String,
    /// Adapter to score instead of the base model (repeatable)
    #[arg(long, value_name = "FOLDER")]
    pub(in crate::cli) adapter: Vec<PathBuf>,
    /// Tasks, groups, tags, patterns or task files, comma-separated
    #[arg(long, value_name = "TASKS", value_delimiter = ',', required = true)]
    pub(in crate::cli) tasks: Vec<String>,
    /// Folder with task files, searched before the built-in tasks
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) include_path: Option<PathBuf>,
    /// Few-shot examples, unless the task fixes them at 0
    #[arg(long, value_name = "K")]
    pub(in crate::cli) num_fewshot: Option<u64>,
    /// Only the first N documents of each task; below 1, that fraction
    #[arg(long, value_name = "N", value_parser = limit, conflicts_with = "samples")]
    pub(in crate::cli) limit: Option<f64>,
    /// Only these documents: a JSON object of task names with document numbers, or a file with one
    #[arg(long, value_name = "JSON")]
    pub(in crate::cli) samples: Option<String>,
    /// Settings of generation tasks over those of their files, such as temperature=0.7,top_p=0.9 or a JSON object
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = crate::task::read_gen_kwargs)]
    pub(in crate::cli) gen_kwargs: Option<serde_json::Map<String, serde_json::Value>>,
    /// Seed of the few-shot examples; of four numbers, as lm_eval takes them, the last
    #[arg(long, value_name = "SEED", value_parser = fewshot_seed, default_value = "1234")]
    pub(in crate::cli) seed: u64,
    /// Apply the tokenizer's chat template to prompts
    #[arg(long)]
    pub(in crate::cli) apply_chat_template: bool,
    /// With a chat template, make each few-shot example a turn
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(in crate::cli) fewshot_as_multiturn: bool,
    /// System prompt
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) system_instruction: Option<String>,
    /// Prompt and tokenization rules: lm_eval or litgpt-2023
    #[arg(long, value_name = "PROFILE", value_parser = profile, default_value = "lm_eval")]
    pub(in crate::cli) prompt_profile: PromptProfile,
    /// Dtype of the log-softmax: fp32 or model
    #[arg(long, value_name = "DTYPE", value_parser = softmax, default_value = "fp32")]
    pub(in crate::cli) softmax: Softmax,
    /// Score documents again that are already scored
    #[arg(long)]
    pub(in crate::cli) again: bool,
    /// Compute one request at a time without sharing prefixes; slow, for verification
    #[arg(long)]
    pub(in crate::cli) exact: bool,
    /// Write results_*.json and samples_*.jsonl as lm_eval does, below this folder or beside this .json file
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) output: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) load: LoadArguments,
}

fn limit(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if Subset::limit(number).is_some() { Ok(number) } else { Err("expected a number above 0".to_owned()) }
}

fn temperature(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if number.is_finite() && number >= 0.0 {
        Ok(number)
    } else {
        Err("expected a number from 0 up".to_owned())
    }
}

fn fewshot_seed(text: &str) -> Result<u64, String> {
    let last = text.rsplit(',').next().unwrap_or(text).trim();
    last.parse().map_err(|_| "expected a whole number, or four separated by commas".to_owned())
}

fn profile(text: &str) -> Result<PromptProfile, String> {
    PromptProfile::parse(text).ok_or_else(|| format!("expected one of {}", PromptProfile::WORDS.join(", ")))
}

fn softmax(text: &str) -> Result<Softmax, String> {
    Softmax::parse(text).ok_or_else(|| format!("expected one of {}", Softmax::WORDS.join(", ")))
}

fn dtype(text: &str) -> Result<DType, String> {
    DType::parse(text).ok_or_else(|| format!("expected one of {}", DType::WORDS.join(", ")))
}

fn quantize(text: &str) -> Result<Quantize, String> {
    Quantize::parse(text).ok_or_else(|| format!("expected one of {}", Quantize::WORDS.join(", ")))
}
