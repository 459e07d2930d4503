//! The scored positions of a pass and their cross-entropy.

use std::ops::Range;

use floor::data::Example;
use tch::{Device, Kind, Tensor};

use crate::lora::Active;
use crate::model::{Model, filled};
use crate::shim::cross_entropy;
use crate::tensor::wide;

/// Maximum rows of logits in memory; at a vocabulary of 50,000 they take 25 MB in 16 bits.
pub(super) const HEAD_CHUNK: i64 = 256;

/// A row of a pass.
pub(super) struct PassRow<'a> {
    pub(super) example: &'a Example,
    /// Weight of each of its scored tokens in its window's loss.
    pub(super) weight: f64,
    /// Its index in its run, counted from 0.
    pub(super) place: u64,
}

/// The scored positions of a pass, in row order.
pub(super) struct Targets {
    /// Rows of hidden states `[scored]`.
    pub(super) positions: Tensor,
    /// The target tokens `[scored]`.
    tokens: Tensor,
    /// The target's weight `[scored]`, in double.
    weights: Tensor,
}

impl Targets {
    pub(super) fn of<'a>(rows: impl IntoIterator<Item = &'a PassRow<'a>>, device: Device) -> Self {
        let (mut positions, mut tokens, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for row in rows {
            for position in scored_positions(row.example) {
                positions.push((start + position) as i64);
                tokens.push(i64::from(row.example.tokens[position + 1]));
                weights.push(row.weight);
            }
            start += row.example.tokens.len();
        }
        Self {
            positions: Tensor::from_slice(&positions).to_device(device),
            tokens: Tensor::from_slice(&tokens).to_device(device),
            weights: Tensor::from_slice(&weights).to_device(device),
        }
    }

    /// Scored tokens.
    pub(super) fn count(&self) -> i64 {
        self.positions.size()[0]
    }

    /// The rows of a chunk, with padding after the last one.
    pub(super) fn rows_of(&self, chunk: &Range<i64>) -> i64 {
        let end = if chunk.end == self.count() { filled(self.count()) } else { chunk.end };
        end - chunk.start
    }

    /// Rows of hidden states, padded with the last one to [`filled`] rows.
    pub(super) fn filled_positions(&self) -> Tensor {
        let lacking = filled(self.count()) - self.count();
        if self.count() == 0 || lacking == 0 {
            return self.positions.shallow_clone();
        }
        let last = self.positions.narrow(0, self.count() - 1, 1).expand([lacking], false);
        Tensor::cat(&[&self.positions, &last], 0)
    }

    /// Weighted cross-entropies `[chunk]` in double of a chunk's normed states `[filled chunk, hidden]`, with the
    /// tensor they are computed from and the gradient of their sum with respect to it.
    pub(super) fn loss_of(
        &self,
        model: &Model,
        states: &Tensor,
        active: &Active<'_>,
        chunk: &Range<i64>,
    ) -> (Tensor, Tensor, Tensor) {
        let count = chunk.end - chunk.start;
        let lacking = states.size()[0] - count;
        let padded = |x: &Tensor| x.narrow(0, chunk.start, count).constant_pad_nd([0, lacking]);
        let (tokens, weights) = (padded(&self.tokens), padded(&self.weights));
        if model.device() == Device::Cpu && model.config.logit_cap.is_none() {
            let logits = model.plain_logits(states, Some(active));
            // The gradient overwrites the logits, which are not read again.
            let mut gradient = logits.detach();
            let losses = cross_entropy(&mut gradient, &tokens, &weights).narrow(0, 0, count);
            return (losses, logits, gradient);
        }
        let logits = model.logits(states, Some(active));
        let kind = wide(model.kind);
        let log_probabilities = logits.log_softmax(-1, kind);
        let picked = log_probabilities.gather(1, &tokens.unsqueeze(1), false).squeeze_dim(1);
        let losses = -(picked.to_kind(Kind::Double) * &weights).detach().narrow(0, 0, count);
        let probabilities = log_probabilities.detach().exp();
        let ones = Tensor::ones([count + lacking, 1], (kind, logits.device()));
        let gradient =
            probabilities.scatter_add(1, &tokens.unsqueeze(1), &-ones) * weights.to_kind(kind).unsqueeze(1);
        (losses, logits, gradient)
    }
}

/// The positions whose next token is scored.
pub(super) fn scored_positions(example: &Example) -> Vec<usize> {
    (1..example.tokens.len()).filter(|&next| example.scored[next]).map(|next| next - 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_and_their_filling_are_all_of_the_rows_once() {
        for count in 1..900 {
            let example = Example { tokens: vec![0; count + 1], scored: vec![true; count + 1] };
            let targets = Targets::of(&[PassRow { example: &example, weight: 1.0, place: 0 }], Device::Cpu);
            let chunks = (0..targets.count()).step_by(HEAD_CHUNK as usize);
            let rows: i64 = chunks
                .map(|start| targets.rows_of(&(start..(start + HEAD_CHUNK).min(targets.count()))))
                .sum();
            assert_eq!(rows, targets.filled_positions().size()[0], "{count} scored");
        }
    }
}
