//! Flags of the commands on single models.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::job::{BaseForm, DType, PromptProfile, Quantize, Softmax};
use crate::protocol::Sampling;
use crate::task::Subset;
use crate::workspace::{GenerationLimits, SessionDevice};

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Bring a model's safetensors, configuration and tokenizer into the cache; continues what was cut off
    Pull(PullArguments),
    /// Show a model's shape, parameters, memory by quantisation, and chat template
    Show(ModelShowArguments),
}

#[derive(Debug, Args)]
pub(crate) struct PullArguments {
    /// The model, such as HuggingFaceTB/SmolLM2-135M@main
    #[arg(value_name = "ID[@REVISION]")]
    pub(crate) id: String,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ModelShowArguments {
    /// A .gguf file, a checkpoint folder, or a hub id in the cache
    pub(crate) model: String,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// A model as the engine loads it.
#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// Where to compute: cpu, or one GPU as cuda:0
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
    /// Compute dtype: bf16 or fp32 [default: bf16 on a GPU, and on a CPU that has it]
    #[arg(long, value_parser = dtype, value_name = "DTYPE")]
    pub(crate) dtype: Option<DType>,
    /// Storage of the block matrices: none, bnb.nf4, bnb.nf4-dq, bnb.fp4 or bnb.fp4-dq
    #[arg(long, value_parser = quantize, value_name = "FORM", default_value = "none")]
    pub(crate) quantize: Quantize,
    /// The engine [default: loragrid-engine beside this program, or in PATH]
    #[arg(long, env = "LORAGRID_ENGINE", hide_env_values = true, value_name = "FILE")]
    pub(crate) engine: Option<PathBuf>,
}

impl LoadArguments {
    /// The device and the engine.
    pub(crate) fn device(&self) -> SessionDevice {
        SessionDevice { device: self.device.clone(), engine: self.engine.clone() }
    }

    /// How a model is held that is stored so.
    pub(crate) fn form(&self, quantize: Quantize) -> BaseForm {
        self.device().form(self.dtype, quantize)
    }
}

#[derive(Debug, Args)]
pub(crate) struct MergeArguments {
    /// The base model
    pub(crate) model: String,
    /// The adapter's folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: PathBuf,
    /// The folder to write
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// Add the adapter to the weights after they went through the form of --quantize and back, which is what a 4-bit
    /// adapter was trained on; without it, to the weights as they are stored
    #[arg(long)]
    pub(crate) dequantised: bool,
    #[command(flatten)]
    pub(crate) load: LoadArguments,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The first model
    pub(crate) a: String,
    /// The second model
    pub(crate) b: String,
    /// An adapter of the first model
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter_a: Option<PathBuf>,
    /// An adapter of the second model
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter_b: Option<PathBuf>,
    /// Texts to compare on, one a line [default: some built-in ones]
    #[arg(long, value_name = "FILE")]
    pub(crate) texts: Option<PathBuf>,
    /// Largest mean divergence in nats
    #[arg(long, value_name = "NATS", default_value_t = 0.01)]
    pub(crate) max_kl: f64,
    /// Largest difference of two logits [default: any]
    #[arg(long, value_name = "X")]
    pub(crate) max_logit: Option<f64>,
    /// Storage of the second model's block matrices [default: that of the first]
    #[arg(long, value_parser = quantize, value_name = "FORM")]
    pub(crate) quantize_b: Option<Quantize>,
    #[command(flatten)]
    pub(crate) load: LoadArguments,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// How tokens are chosen.
#[derive(Debug, Args)]
pub(crate) struct SamplingArguments {
    /// Divisor of logits; 0: always the likeliest token
    #[arg(long, default_value_t = 0.7)]
    pub(crate) temperature: f64,
    /// Only the k likeliest tokens; 0: all
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Only the likeliest tokens that together have this probability
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f64,
    /// Seed of the choices
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) max_new_tokens: u64,
}

impl SamplingArguments {
    /// As the engine takes them.
    pub(crate) fn limits(&self) -> GenerationLimits {
        let Self { temperature, top_k, top_p, seed, max_new_tokens } = *self;
        let sampling = Sampling { temperature: temperature.max(0.0), top_k, top_p, seed };
        GenerationLimits { sampling, max_new_tokens }
    }
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// The base model
    pub(crate) model: String,
    /// The text to continue, as it stands
    #[arg(long)]
    pub(crate) prompt: String,
    /// An adapter's folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArguments,
    #[command(flatten)]
    pub(crate) load: LoadArguments,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChatArguments {
    /// The base model
    pub(crate) model: String,
    /// An adapter's folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Option<PathBuf>,
    /// The template that the adapter was trained with: alpaca, question-answer, chat, or a .jinja file [default: the
    /// tokenizer's own chat template, alpaca where it has none]
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// What the model is told first
    #[arg(long)]
    pub(crate) system: Option<String>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArguments,
    #[command(flatten)]
    pub(crate) load: LoadArguments,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArguments {
    /// The base model
    pub(crate) model: String,
    /// An adapter to score instead of the base; may be given again
    #[arg(long, value_name = "FOLDER")]
    pub(crate) adapter: Vec<PathBuf>,
    /// Tasks, groups and tags by name or pattern, or task files, separated by commas
    #[arg(long, value_name = "TASKS", value_delimiter = ',', required = true)]
    pub(crate) tasks: Vec<String>,
    /// A folder of task files, which come before those that are shipped
    #[arg(long, value_name = "DIR")]
    pub(crate) include_path: Option<PathBuf>,
    /// Examples before each document, where the task does not say 0
    #[arg(long, value_name = "K")]
    pub(crate) num_fewshot: Option<u64>,
    /// Only the first n documents of each task; below 1, that part of them
    #[arg(long, value_name = "N", value_parser = limit, conflicts_with = "samples")]
    pub(crate) limit: Option<f64>,
    /// Only these documents: a JSON object of task names with lists of numbers, or a file of one
    #[arg(long, value_name = "JSON")]
    pub(crate) samples: Option<String>,
    /// Seed of the examples; of four numbers, as lm_eval takes them, the last
    #[arg(long, value_name = "SEED", value_parser = fewshot_seed, default_value = "1234")]
    pub(crate) seed: u64,
    /// Put prompts through the tokenizer's chat template
    #[arg(long)]
    pub(crate) apply_chat_template: bool,
    /// With a chat template, whether each example is a turn of its own
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) fewshot_as_multiturn: bool,
    /// What the model is told first
    #[arg(long, value_name = "TEXT")]
    pub(crate) system_instruction: Option<String>,
    /// Whose prompts and tokens: lm_eval or litgpt-2023
    #[arg(long, value_name = "PROFILE", value_parser = profile, default_value = "lm_eval")]
    pub(crate) prompt_profile: PromptProfile,
    /// Dtype in which log-likelihoods are made of logits: fp32, or the model's own
    #[arg(long, value_name = "DTYPE", value_parser = softmax, default_value = "fp32")]
    pub(crate) softmax: Softmax,
    /// Score documents again whose scores are in the database
    #[arg(long)]
    pub(crate) again: bool,
    /// One request at a time, no prefix shared: slow, and what the fast way is checked against
    #[arg(long)]
    pub(crate) exact: bool,
    /// Write lm_eval's results_*.json and samples_*.jsonl below this folder, or beside this .json file
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) load: LoadArguments,
    /// Print one JSON object with lm_eval's results in `evaluations`
    #[arg(long)]
    pub(crate) json: bool,
}

fn limit(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number is wanted".to_owned())?;
    if Subset::limit(number).is_some() { Ok(number) } else { Err("a number above 0 is wanted".to_owned()) }
}

fn fewshot_seed(text: &str) -> Result<u64, String> {
    let last = text.rsplit(',').next().unwrap_or(text).trim();
    last.parse().map_err(|_| "a whole number is wanted, or four with commas between".to_owned())
}

fn profile(text: &str) -> Result<PromptProfile, String> {
    PromptProfile::parse(text).ok_or_else(|| format!("one of {}", PromptProfile::WORDS.join(", ")))
}

fn softmax(text: &str) -> Result<Softmax, String> {
    Softmax::parse(text).ok_or_else(|| format!("one of {}", Softmax::WORDS.join(", ")))
}

fn dtype(text: &str) -> Result<DType, String> {
    DType::parse(text).ok_or_else(|| format!("one of {}", DType::WORDS.join(", ")))
}

fn quantize(text: &str) -> Result<Quantize, String> {
    Quantize::parse(text).ok_or_else(|| format!("one of {}", Quantize::WORDS.join(", ")))
}
