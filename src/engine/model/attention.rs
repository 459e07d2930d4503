//! Attention within each sequence, never across sequence boundaries.

use tch::{Device, Kind, Tensor};

use super::batch::Run;
use crate::tensor::wide;

/// Attention parameters of one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Score scale.
    pub(super) scale: f64,
    /// Scores are capped as c · tanh(s / c).
    pub(super) cap: Option<f64>,
    /// Positions visible to a query, itself included.
    pub(super) window: Option<i64>,
}

/// Which tokens each token of a pass attends to.
pub(crate) trait Attend {
    /// Attention output `[tokens, heads × head_dim]` of layer `layer` for queries `[tokens, heads, head_dim]` and keys and
    /// values `[tokens, kv_heads, head_dim]`.
    fn attend(&mut self, layer: usize, query: &Tensor, key: &Tensor, value: &Tensor, rules: Rules) -> Tensor;

    /// The sequences, if each token sees all earlier ones in its own sequence under rules that the fused kernel
    /// supports, for adjacent queries, keys and values.
    fn sequences(&self, joined: &Tensor, rules: Rules) -> Option<&[Run]> {
        let _ = (joined, rules);
        None
    }
}

/// Concatenated sequences; each token sees those before it in its own.
pub(super) struct Sequences<'a>(pub(super) &'a [Run]);

impl Attend for Sequences<'_> {
    fn attend(&mut self, _: usize, query: &Tensor, key: &Tensor, value: &Tensor, rules: Rules) -> Tensor {
        causal(query, key, value, self.0, rules)
    }

    fn sequences(&self, joined: &Tensor, rules: Rules) -> Option<&[Run]> {
        let longest = self.0.iter().map(|run| run.length).max().unwrap_or(0);
        let plain = rules.cap.is_none() && rules.window.is_none_or(|window| window >= longest);
        let has_kernel = joined.device() == Device::Cpu || joined.kind() == Kind::BFloat16;
        (plain && has_kernel).then_some(self.0)
    }
}

/// Attention output `[tokens, heads × head_dim]` for queries `[tokens, heads, head_dim]` and keys and values
/// `[tokens, kv_heads, head_dim]`. Neighboring sequences of equal length are one batched call.
pub(super) fn causal(query: &Tensor, key: &Tensor, value: &Tensor, runs: &[Run], rules: Rules) -> Tensor {
    let (heads, head_dim) = (query.size()[1], query.size()[2]);
    let mut parts = Vec::with_capacity(runs.len());
    let mut start = 0;
    for run in runs {
        let tokens = run.count * run.length;
        // [tokens, heads, head_dim] → [count, heads, length, head_dim]
        let sequences = |x: &Tensor| {
            let part = x.narrow(0, start, tokens);
            part.view([run.count, run.length, -1, head_dim]).transpose(1, 2)
        };
        let (query, key, value) = (sequences(query), sequences(key), sequences(value));
        let mask = rules.window.filter(|window| *window < run.length);
        let mask = mask.map(|window| visible(run.length, window, &query));
        let attended = if rules.cap.is_some() {
            let mask = mask.unwrap_or_else(|| visible(run.length, run.length, &query));
            by_hand(&query, &key, &value, Some(&mask), rules)
        } else {
            let is_causal = mask.is_none();
            let grouped = key.size()[1] != heads;
            Tensor::scaled_dot_product_attention(
                &query,
                &key,
                &value,
                mask,
                0.0,
                is_causal,
                rules.scale,
                grouped,
            )
        };
        parts.push(attended.transpose(1, 2).reshape([tokens, heads * head_dim]));
        start += tokens;
    }
    match parts.len() {
        1 => parts.swap_remove(0),
        _ => Tensor::cat(&parts, 0),
    }
}

/// Causal mask `[length, length]`: each query sees itself and the `window − 1` keys before it; in the queries' dtype.
fn visible(length: i64, window: i64, query: &Tensor) -> Tensor {
    let seen = Tensor::ones([length, length], (Kind::Bool, query.device())).tril(0).triu(1 - window);
    additive(&seen, query.kind())
}

/// Additive mask: 0 where the mask is true, −∞ elsewhere.
pub(super) fn additive(mask: &Tensor, kind: Kind) -> Tensor {
    Tensor::zeros(mask.size().as_slice(), (kind, mask.device()))
        .masked_fill(&mask.logical_not(), f64::NEG_INFINITY)
}

/// Attention without a fused kernel, none of which supports capped scores (Gemma 2): products in the compute dtype,
/// softmax in single precision. All `[count, heads, length, head_dim]`.
pub(super) fn by_hand(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Tensor>,
    rules: Rules,
) -> Tensor {
    let groups = query.size()[1] / key.size()[1];
    let spread = |x: &Tensor| x.repeat_interleave_self_int(groups, Some(1), None);
    let mut scores = query.matmul(&spread(key).transpose(2, 3)) * rules.scale;
    if let Some(cap) = rules.cap {
        scores = (scores / cap).tanh() * cap;
    }
    if let Some(mask) = mask {
        scores += mask;
    }
    let weights = scores.softmax(-1, wide(scores.kind())).to_kind(query.kind());
    weights.matmul(&spread(value))
}
