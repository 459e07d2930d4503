//! The decoder: weights, one block for every layer, hidden states and logits of a pass.

mod attention;
mod batch;
mod load;
mod rope;

use loragrid::checkpoint::{LayerName, ModelConfig, Projection};
use tch::{Kind, Tensor};

pub(crate) use batch::Batch;
pub(crate) use load::load;
use rope::Rope;

use crate::lora::Active;
use crate::tensor::wide;

/// A loaded base model; nothing in it takes a gradient.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    /// Compute dtype of every weight.
    pub(crate) kind: Kind,
    /// `[vocab, hidden]`
    embedding: Tensor,
    blocks: Vec<Block>,
    /// `[hidden]`
    final_norm: Tensor,
    /// `[vocab, hidden]`; the embedding itself where the head is tied.
    head: Tensor,
    rope: Rope,
}

/// The weights of one block; matrices are `[out, in]`, norms `[hidden]`.
struct Block {
    attention_norm: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    mlp_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

impl Model {
    /// Hidden states `[tokens, hidden]` after the last norm, for sequences laid end to end.
    pub(crate) fn hidden_states(&self, batch: &Batch, adapter: Option<&Active>) -> Tensor {
        let mut states = self.embedding.index_select(0, &batch.tokens);
        let (cos, sin) = self.rope.at(&batch.positions, self.kind);
        for (number, block) in self.blocks.iter().enumerate() {
            let linear = |x: &Tensor, weight: &Tensor, projection| {
                apply(x, weight, LayerName::Block(number, projection), adapter)
            };
            let x = self.norm(&states, &block.attention_norm);
            let heads = |x: Tensor, count: u64| x.view([-1, count as i64, self.config.head_dim as i64]);
            let query = heads(linear(&x, &block.query, Projection::Query), self.config.heads);
            let key = heads(linear(&x, &block.key, Projection::Key), self.config.kv_heads);
            let value = heads(linear(&x, &block.value, Projection::Value), self.config.kv_heads);
            let query = rope::rotate(&query, &cos, &sin);
            let key = rope::rotate(&key, &cos, &sin);
            let attended = attention::causal(&query, &key, &value, &batch.runs);
            states = states.g_add(&linear(&attended, &block.output, Projection::Output));
            let x = self.norm(&states, &block.mlp_norm);
            let gate = linear(&x, &block.gate, Projection::Gate).silu();
            let up = linear(&x, &block.up, Projection::Up);
            states = states.g_add(&linear(&(gate * up), &block.down, Projection::Down));
        }
        self.norm(&states, &self.final_norm)
    }

    /// Logits `[rows, vocab]` of hidden states `[rows, hidden]`, in single or double precision.
    pub(crate) fn logits(&self, states: &Tensor, adapter: Option<&Active>) -> Tensor {
        apply(states, &self.head, LayerName::Head, adapter).to_kind(wide(self.kind))
    }

    /// Whether a tensor is this model's head, to the bit.
    pub(crate) fn has_head(&self, head: &Tensor) -> bool {
        self.head.size() == head.size() && self.head.equal(head)
    }

    /// RMS norm (Zhang and Sennrich 2019) as transformers computes it: the root mean square in single precision, one
    /// rounding to the compute dtype, then the weight.
    fn norm(&self, x: &Tensor, weight: &Tensor) -> Tensor {
        let wide_x = x.to_kind(wide(self.kind));
        let mean_square = wide_x.square().mean_dim(-1, true, wide(self.kind));
        let normed = &wide_x * (mean_square + self.config.norm_eps).rsqrt();
        normed.to_kind(self.kind) * weight
    }
}

/// x·Wᵀ for x `[rows, in]` and W `[out, in]`, plus the adapter's part where the layer has one.
fn apply(x: &Tensor, weight: &Tensor, name: LayerName, adapter: Option<&Active>) -> Tensor {
    let frozen = x.linear(weight, None::<&Tensor>);
    match adapter {
        Some(active) => active.add(name, x, frozen),
        None => frozen,
    }
}
