//! Causal attention within each sequence, never across a join.

use tch::Tensor;

use super::batch::Run;

/// Attention output `[tokens, heads × head_dim]` for queries `[tokens, heads, head_dim]` and keys and values
/// `[tokens, kv_heads, head_dim]`. Neighbouring sequences of equal length are one batched call.
pub(super) fn causal(query: &Tensor, key: &Tensor, value: &Tensor, runs: &[Run]) -> Tensor {
    let (_, heads, head_dim) = query.size3().unwrap_or_default();
    let grouped = key.size()[1] != heads;
    let mut parts = Vec::with_capacity(runs.len());
    let mut start = 0;
    for run in runs {
        let tokens = run.count * run.length;
        // [tokens, heads, head_dim] → [count, heads, length, head_dim]
        let sequences = |x: &Tensor| {
            let part = x.narrow(0, start, tokens);
            part.view([run.count, run.length, -1, head_dim]).transpose(1, 2)
        };
        let attended = Tensor::scaled_dot_product_attention(
            &sequences(query),
            &sequences(key),
            &sequences(value),
            None::<&Tensor>,
            0.0,
            true,
            None,
            grouped,
        );
        parts.push(attended.transpose(1, 2).reshape([tokens, heads * head_dim]));
        start += tokens;
    }
    match parts.len() {
        1 => parts.swap_remove(0),
        _ => Tensor::cat(&parts, 0),
    }
}
