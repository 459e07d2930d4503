//! The shape of a model, from `config.json` or from GGUF metadata: one record for every family.

use serde::{Deserialize, Serialize};

/// What the forward pass and the parameter count need to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Size of the vocabulary, rows of the embedding.
    pub vocab_size: u64,
    /// Width of the hidden states.
    pub hidden_size: u64,
    /// Width of the feed-forward part.
    pub intermediate_size: u64,
    /// Number of blocks.
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// Key and value heads (fewer than `heads` for grouped-query attention).
    pub kv_heads: u64,
    /// Width of one head.
    pub head_dim: u64,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Longest sequence that the model was made for, in tokens.
    pub max_positions: u64,
    /// Whether the head is the embedding.
    pub tied_head: bool,
}

impl ModelConfig {
    /// Width of all query heads together.
    pub fn query_width(&self) -> u64 {
        self.heads * self.head_dim
    }

    /// Width of all key heads together.
    pub fn kv_width(&self) -> u64 {
        self.kv_heads * self.head_dim
    }

    /// Why the numbers cannot be a model's, if they cannot.
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
            return Some(format!("{} heads are no multiple of {} key heads", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Some(format!("head_dim {} is odd, rotary positions need pairs", self.head_dim));
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        (!positive(self.norm_eps) || !positive(self.rope_theta))
            .then(|| format!("rms_norm_eps {} or rope_theta {}", self.norm_eps, self.rope_theta))
    }
}
