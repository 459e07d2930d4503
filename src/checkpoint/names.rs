//! The names of tensors, once: Hugging Face's spelling, GGUF's spelling, and which kind of layer each one is.

use crate::job::LayerKind;

/// A matrix of a block that can carry an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// Hidden states to queries.
    Query,
    /// Hidden states to keys.
    Key,
    /// Hidden states to values.
    Value,
    /// Attention output to hidden states.
    Output,
    /// Hidden states to the gate.
    Gate,
    /// Hidden states to the feed-forward width.
    Up,
    /// Feed-forward width to hidden states.
    Down,
}

/// The matrices of a block, in the order in which the forward pass meets them.
pub const ATTENTION_AND_MLP: [Projection; 7] = [
    Projection::Query,
    Projection::Key,
    Projection::Value,
    Projection::Output,
    Projection::Gate,
    Projection::Up,
    Projection::Down,
];

impl Projection {
    /// The kind of layer, in the study's words.
    pub fn kind(self) -> LayerKind {
        match self {
            Self::Query => LayerKind::Query,
            Self::Key => LayerKind::Key,
            Self::Value => LayerKind::Value,
            Self::Output => LayerKind::Projection,
            Self::Gate | Self::Up | Self::Down => LayerKind::Mlp,
        }
    }

    /// PEFT's target name: `q_proj`.
    pub fn target(self) -> &'static str {
        match self {
            Self::Query => "q_proj",
            Self::Key => "k_proj",
            Self::Value => "v_proj",
            Self::Output => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// The part of the block that it is in: `self_attn` or `mlp`.
    fn part(self) -> &'static str {
        match self {
            Self::Query | Self::Key | Self::Value | Self::Output => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        }
    }

    fn gguf(self) -> &'static str {
        match self {
            Self::Query => "attn_q",
            Self::Key => "attn_k",
            Self::Value => "attn_v",
            Self::Output => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }
}

/// The place of a tensor in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerName {
    /// The token embedding `[vocab, hidden]`.
    Embedding,
    /// The last norm `[hidden]`.
    FinalNorm,
    /// The head `[vocab, hidden]`.
    Head,
    /// A block's norm before attention `[hidden]`.
    AttentionNorm(usize),
    /// A block's norm before the feed-forward part `[hidden]`.
    MlpNorm(usize),
    /// A block's matrix.
    Block(usize, Projection),
}

impl LayerName {
    /// The module's name in Hugging Face's Llama: `model.layers.0.self_attn.q_proj`.
    pub fn module(self) -> String {
        match self {
            Self::Embedding => "model.embed_tokens".to_owned(),
            Self::FinalNorm => "model.norm".to_owned(),
            Self::Head => "lm_head".to_owned(),
            Self::AttentionNorm(n) => format!("model.layers.{n}.input_layernorm"),
            Self::MlpNorm(n) => format!("model.layers.{n}.post_attention_layernorm"),
            Self::Block(n, projection) => {
                format!("model.layers.{n}.{}.{}", projection.part(), projection.target())
            }
        }
    }

    /// The weight's name in a Hugging Face checkpoint.
    pub fn weight(self) -> String {
        format!("{}.weight", self.module())
    }

    /// The weight's name in a GGUF file.
    pub fn gguf_weight(self) -> String {
        match self {
            Self::Embedding => "token_embd.weight".to_owned(),
            Self::FinalNorm => "output_norm.weight".to_owned(),
            Self::Head => "output.weight".to_owned(),
            Self::AttentionNorm(n) => format!("blk.{n}.attn_norm.weight"),
            Self::MlpNorm(n) => format!("blk.{n}.ffn_norm.weight"),
            Self::Block(n, projection) => format!("blk.{n}.{}.weight", projection.gguf()),
        }
    }
}
