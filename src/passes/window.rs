//! From the rows of one optimizer step to passes under a token budget.

use super::pack::PackWindows;
use crate::job::Loss;

/// A row as a planner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedRow {
    /// Its index in whatever list the caller keeps.
    pub index: usize,
    /// Its length in tokens.
    pub tokens: usize,
}

/// Rows that go through the model together, laid end to end without padding. Rows of equal length are neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The rows, longest first.
    pub rows: Vec<PlannedRow>,
}

impl Pass {
    /// All tokens of the pass.
    pub fn tokens(&self) -> usize {
        self.rows.iter().map(|row| row.tokens).sum()
    }
}

/// Covers rows with passes of at most `budget` tokens; a longer row is a pass of its own. Each pass takes the longest rows
/// that are left and still fit, ties in the order of their index, so equal windows make equal passes.
pub fn plan_passes(lengths: &[usize], budget: usize) -> Vec<Pass> {
    let mut pack = PackWindows::new(1);
    pack.open(0, lengths);
    std::iter::from_fn(|| pack.next_pass(&[0], budget)?.pop()).map(|(_, pass)| pass).collect()
}

/// The weight of each scored token of a row in its window's loss, for every row: `scored[i]` tokens are scored in row
/// i, rows are in micro-batches of `micro_batch`.
///
/// `Loss::Token`: one over all scored tokens of the window (transformers since 4.46). `Loss::MicroBatch`: one over the
/// micro-batch's scored tokens, over the number of micro-batches (Lit-GPT). Either way the window's loss is the sum of
/// weight × cross-entropy, however the window is cut into passes.
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
        fn every_row_is_in_one_pass_and_no_pass_is_over_budget(
            lengths in prop::collection::vec(1usize..300, 0..60),
            budget in 1usize..600,
        ) {
            let passes = plan_passes(&lengths, budget);
            let mut seen: Vec<usize> = passes.iter().flat_map(|p| p.rows.iter().map(|r| r.index)).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for pass in &passes {
                prop_assert!(pass.tokens() <= budget || pass.rows.len() == 1);
                prop_assert!(pass.rows.windows(2).all(|pair| pair[0].tokens >= pair[1].tokens));
            }
        }

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
