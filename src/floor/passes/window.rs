//! Splits the rows of one optimizer step into passes under a token budget.

use crate::job::Loss;

/// A row for the planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedRow {
    /// Its index in the caller's list.
    pub index: usize,
    /// Its length in tokens.
    pub tokens: usize,
}

/// Rows concatenated in one pass without padding. Rows of equal length are adjacent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The rows, longest first.
    pub rows: Vec<PlannedRow>,
}

impl Pass {
    /// Total tokens of the pass.
    pub fn tokens(&self) -> usize {
        self.rows.iter().map(|row| row.tokens).sum()
    }
}

/// The loss weight of each scored token, per row of a window: row i has `scored[i]` scored tokens, and rows are grouped
/// in micro-batches of `micro_batch`.
///
/// `Loss::Token`: one over all scored tokens of the window (transformers since 4.46). `Loss::MicroBatch`: one over the
/// micro-batch's scored tokens, over the number of micro-batches (Lit-GPT). In both cases the window's loss is the sum
/// of weight × cross-entropy for any split into passes.
pub fn token_weights(loss: Loss, scored: &[usize], micro_batch: usize) -> Vec<f64> {
    match loss {
        Loss::Token => {
            let all: usize = scored.iter().sum();
            vec![1.0 / all.max(1) as f64; scored.len()]
        }
        Loss::MicroBatch => {
            let batches = scored.len().div_ceil(micro_batch).max(1);
            let weight = |rows: &[usize]| {
                let tokens: usize = rows.iter().sum();
                vec![1.0 / (tokens.max(1) * batches) as f64; rows.len()]
            };
            scored.chunks(micro_batch).flat_map(weight).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_weights_of_a_window_sum_to_one(
            scored in prop::collection::vec(1usize..50, 1..40),
            micro_batch in 1usize..5,
        ) {
            for loss in [Loss::Token, Loss::MicroBatch] {
                let weights = token_weights(loss, &scored, micro_batch);
                let sum: f64 = weights.iter().zip(&scored).map(|(w, n)| w * *n as f64).sum();
                prop_assert!((sum - 1.0).abs() < 1e-12, "{:?} {}", loss, sum);
            }
        }
    }
}
