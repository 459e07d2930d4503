//! Model shape and block parameters: one record for every family, from `config.json` or GGUF metadata. The forward pass
//! depends on this record only, not on the family.

use serde::{Deserialize, Serialize};

use super::names::{NormPlace, Projection};

/// A model family, which defines a checkpoint's tensor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Family {
    Llama,
    Mistral,
    Phi,
    Phi3,
    Falcon,
    GptNeox,
    Qwen2,
    Qwen3,
    Gemma,
    Gemma2,
    Gemma3Text,
    Olmo2,
    Smollm3,
}

/// Type of norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// RMS norm (Zhang and Sennrich 2019), rounded to the compute dtype before the weight (Llama).
    Rms,
    /// RMS norm whose weight is applied in single precision, rounded after it (OLMo 2).
    RmsRoundedLast,
    /// RMS norm with 1 + weight in single precision, rounded after it (Gemma).
    RmsPlusOne,
    /// Layer norm with a bias (Ba et al. 2016).
    Layer,
}

/// Activation function of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x · sigmoid(x)
    Silu,
    /// GELU with the error function.
    Gelu,
    /// GELU with the tanh approximation.
    GeluTanh,
}

/// Placement of a block's norms and its two residual additions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockForm {
    /// Norms before attention and before the MLP (Llama).
    PreNorm,
    /// Norms after attention and MLP, before the residual addition (OLMo 2).
    PostNorm,
    /// Norms before and after attention and MLP (Gemma 2 and 3).
    Sandwich,
    /// Attention and MLP read the same normed states (phi, Falcon 7B).
    Parallel,
    /// Attention and MLP read the same states, each through its own norm (GPT-NeoX, Falcon 40B).
    ParallelTwoNorms,
}

/// Norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryKeyNorm {
    /// None.
    None,
    /// Over each head (Qwen3, Gemma 3).
    EachHead,
    /// Over all heads together (OLMo 2).
    Whole,
}

/// Which linear layers have a bias.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Biases {
    pub query_key_value: bool,
    pub output: bool,
    pub mlp: bool,
    pub head: bool,
}

/// Storage of queries, keys and values in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QkvRows {
    /// As three matrices.
    Apart,
    /// As one matrix: all query rows, all key rows, all value rows (Phi-3).
    Stacked,
    /// As one matrix: per key head its query heads, then the key, then the value (Falcon, GPT-NeoX).
    ByKeyHead,
}

/// Frequencies of rotary position embeddings (Su et al. 2021).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Frequency scaling for longer contexts.
    pub scaling: RopeScaling,
}

/// Scaling of rotary frequencies for longer contexts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RopeScaling {
    /// Nothing.
    None,
    /// Every frequency is divided by the factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Low frequencies are divided, high ones kept, those in between interpolated (Llama 3.1).
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Wavelengths above original_positions / low_factor are low frequencies.
        low_factor: f64,
        /// Wavelengths below original_positions / high_factor are high frequencies.
        high_factor: f64,
        /// Positions before the context extension.
        original_positions: f64,
    },
    /// Each frequency has its own divisor (`rope_freqs` in GGUF files).
    Divisors {
        /// One per pair of features.
        divisors: Vec<f32>,
    },
}

/// Attention settings of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerForm {
    /// Positions visible to a query, itself included; none: all before it.
    pub window: Option<u64>,
    /// Which of [`ModelConfig::ropes`] is applied to queries and keys; none: no positions.
    pub rope: Option<usize>,
}

/// Inputs of the forward pass and the parameter count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Family of the checkpoint's tensor names.
    pub family: Family,
    /// Vocabulary size, rows of the embedding.
    pub vocab_size: u64,
    /// Width of the hidden states.
    pub hidden_size: u64,
    /// Width of the MLP.
    pub intermediate_size: u64,
    /// Number of blocks.
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads (fewer than `heads` for grouped-query attention).
    pub kv_heads: u64,
    /// Width of one head.
    pub head_dim: u64,
    /// Denominator of the rotary exponents; this many features of a head, rounded up to pairs, are rotated.
    pub rotary_dim: u64,
    /// Type of the norms.
    pub norm: Norm,
    /// Epsilon of the norms.
    pub norm_eps: f64,
    /// Activation function of the MLP.
    pub activation: Activation,
    /// Whether the MLP is down(act(gate(x)) · up(x)); otherwise it is down(act(up(x))).
    pub gated: bool,
    /// Whether gate and up are stored as one matrix, gate first (Phi-3).
    pub gate_up_stacked: bool,
    /// Placement of a block's norms and residual additions.
    pub block: BlockForm,
    /// Norms of queries and keys.
    pub query_key_norm: QueryKeyNorm,
    /// Linear layers with a bias.
    pub biases: Biases,
    /// Storage of queries, keys and values.
    pub qkv: QkvRows,
    /// Rotary tables that layers select from.
    pub ropes: Vec<Rope>,
    /// One per layer.
    pub layer_forms: Vec<LayerForm>,
    /// Attention score scale.
    pub attention_scale: f64,
    /// Attention scores are capped as c · tanh(s / c).
    pub attention_cap: Option<f64>,
    /// Logits are capped as c · tanh(l / c).
    pub logit_cap: Option<f64>,
    /// Whether embeddings are multiplied by √hidden_size, rounded to the compute dtype (Gemma).
    pub scaled_embedding: bool,
    /// Maximum sequence length of the model, in tokens.
    pub max_positions: u64,
    /// Whether the head is tied to the embedding.
    pub tied_head: bool,
}

impl ModelConfig {
    /// A Llama-style model: RMS norms before attention and MLP, gated SiLU, rotary positions on whole heads, no biases.
    pub fn llama(sizes: LlamaSizes) -> Self {
        let LlamaSizes { vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads, head_dim } =
            sizes;
        Self {
            family: Family::Llama,
            vocab_size,
            hidden_size,
            intermediate_size,
            layers,
            heads,
            kv_heads,
            head_dim,
            rotary_dim: head_dim,
            norm: Norm::Rms,
            norm_eps: 1e-5,
            activation: Activation::Silu,
            gated: true,
            gate_up_stacked: false,
            block: BlockForm::PreNorm,
            query_key_norm: QueryKeyNorm::None,
            biases: Biases::default(),
            qkv: QkvRows::Apart,
            ropes: vec![Rope { theta: 1e4, scaling: RopeScaling::None }],
            layer_forms: vec![LayerForm { window: None, rope: Some(0) }; layers as usize],
            attention_scale: 1.0 / (head_dim as f64).sqrt(),
            attention_cap: None,
            logit_cap: None,
            scaled_embedding: false,
            max_positions: 4096,
            tied_head: false,
        }
    }

    /// Total width of the query heads.
    pub fn query_width(&self) -> u64 {
        self.heads * self.head_dim
    }

    /// Total width of the key heads.
    pub fn kv_width(&self) -> u64 {
        self.kv_heads * self.head_dim
    }

    /// Number of rotated features per head, the first ones.
    pub fn turned(&self) -> u64 {
        self.rotary_dim.next_multiple_of(2)
    }

    /// A block's matrices, in forward order.
    pub fn projections(&self) -> &'static [Projection] {
        use Projection::*;
        if self.gated {
            &[Query, Key, Value, Output, Gate, Up, Down]
        } else {
            &[Query, Key, Value, Output, Up, Down]
        }
    }

    /// The norms of a block.
    pub fn norms(&self) -> Vec<NormPlace> {
        use NormPlace::*;
        let mut norms = match self.block {
            BlockForm::PreNorm | BlockForm::ParallelTwoNorms => vec![BeforeAttention, BeforeMlp],
            BlockForm::PostNorm => vec![AfterAttention, AfterMlp],
            BlockForm::Sandwich => vec![BeforeAttention, AfterAttention, BeforeMlp, AfterMlp],
            BlockForm::Parallel => vec![BeforeAttention],
        };
        if self.query_key_norm != QueryKeyNorm::None {
            norms.extend([Query, Key]);
        }
        norms
    }

    /// Why the numbers are not a valid model, if so.
    pub(super) fn contradiction(&self) -> Option<String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_positions),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| *size == 0 || *size > 1 << 24) {
            return Some(format!("{name} is {size}"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Some(format!("{} heads are not a multiple of {} key heads", self.heads, self.kv_heads));
        }
        if self.layer_forms.len() as u64 != self.layers {
            return Some(format!(
                "{} layers are described, there are {}",
                self.layer_forms.len(),
                self.layers
            ));
        }
        if self.turned() > self.head_dim || self.rotary_dim == 0 {
            let (rotary, head) = (self.rotary_dim, self.head_dim);
            return Some(format!("rotary positions turn {rotary} features of a head of {head}, in pairs"));
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if let Some(window) = self.layer_forms.iter().find_map(|form| form.window.filter(|w| *w == 0)) {
            return Some(format!("a sliding window of {window}"));
        }
        let mut numbers = vec![self.norm_eps, self.attention_scale];
        numbers.extend(self.attention_cap.iter().chain(&self.logit_cap));
        for rope in &self.ropes {
            numbers.push(rope.theta);
            match &rope.scaling {
                RopeScaling::None => {}
                RopeScaling::Linear { factor } => numbers.push(*factor),
                RopeScaling::Llama3 { factor, low_factor, high_factor, original_positions } => {
                    numbers.extend([*factor, *low_factor, *high_factor - *low_factor, *original_positions]);
                }
                RopeScaling::Divisors { divisors } => {
                    numbers.extend(divisors.iter().map(|x| f64::from(*x)));
                    if divisors.len() as u64 != self.turned() / 2 {
                        return Some(format!(
                            "{} rotary divisors for {} pairs",
                            divisors.len(),
                            self.turned() / 2
                        ));
                    }
                }
            }
        }
        let bad = numbers.into_iter().find(|x| !positive(*x))?;
        Some(format!("a norm's epsilon, a scale, a cap or a rotary number is {bad}"))
    }
}

/// The sizes of a Llama-style model.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct LlamaSizes {
    pub vocab_size: u64,
    pub hidden_size: u64,
    pub intermediate_size: u64,
    pub layers: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub head_dim: u64,
}
