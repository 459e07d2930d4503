//! Dropout masks that depend on the row, the position, the layer and the feature only: the same row has the same mask
//! in whatever pass it runs, and a resumed run continues with the masks that it would have had.

use loragrid::passes::random::{Purpose, Stream};
use tch::{Kind, Tensor};

/// A row of a pass.
#[derive(Debug, Clone)]
pub(crate) struct MaskedRow {
    /// The row's place in the run, counted from 0.
    pub(crate) place: u64,
    /// Tokens that go through the blocks.
    pub(crate) tokens: usize,
    /// Positions whose hidden states go through the head.
    pub(crate) scored: Vec<usize>,
}

/// The masks of a pass.
#[derive(Debug, Clone)]
pub(crate) struct RowMasks {
    /// Probability that an element is dropped.
    pub(crate) p: f64,
    /// Seed of the run.
    pub(crate) seed: u64,
    /// Rows in the order of the pass.
    pub(crate) rows: Vec<MaskedRow>,
    /// For the head: which of the pass's scored rows are asked for.
    pub(crate) head_range: std::ops::Range<usize>,
}

impl RowMasks {
    /// The factor of each input element of layer `layer`: 0 or 1/(1−p). `[tokens, width]`, or for the head
    /// `[rows of head_range, width]`.
    pub(crate) fn mask(&self, layer: usize, width: usize, head: bool, kind: Kind) -> Tensor {
        let keep = (1.0 / (1.0 - self.p)) as f32;
        // An element is dropped when its top 32 bits fall below p.
        let threshold = (self.p * (1u64 << 32) as f64) as u64;
        let mut values = Vec::new();
        let mut fill = |stream: Stream, position: usize| {
            let first = (position * width) as u64;
            let factors = (0..width as u64)
                .map(|feature| if stream.bits(first + feature) >> 32 < threshold { 0.0 } else { keep });
            values.extend(factors);
        };
        let stream = |row: &MaskedRow| Stream::new(self.seed, Purpose::Dropout, row.place).part(layer as u64);
        let rows = if head {
            let all =
                self.rows.iter().flat_map(|row| row.scored.iter().map(move |&position| (row, position)));
            let chosen = all.skip(self.head_range.start).take(self.head_range.len());
            chosen.for_each(|(row, position)| fill(stream(row), position));
            self.head_range.len()
        } else {
            for row in &self.rows {
                (0..row.tokens).for_each(|position| fill(stream(row), position));
            }
            self.rows.iter().map(|row| row.tokens).sum()
        };
        Tensor::from_slice(&values).view([rows as i64, width as i64]).to_kind(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(rows: Vec<MaskedRow>) -> RowMasks {
        RowMasks { p: 0.5, seed: 9, rows, head_range: 0..0 }
    }

    fn row(place: u64, tokens: usize) -> MaskedRow {
        MaskedRow { place, tokens, scored: Vec::new() }
    }

    #[test]
    fn a_row_keeps_its_mask_in_any_pass() {
        let alone = masks(vec![row(7, 3)]).mask(2, 8, false, Kind::Float);
        let second = masks(vec![row(1, 5), row(7, 3)]).mask(2, 8, false, Kind::Float);
        assert_eq!(second.narrow(0, 5, 3), alone);
    }

    #[test]
    fn half_of_the_elements_are_dropped_and_the_rest_doubled() {
        let mask = masks(vec![row(0, 100)]).mask(0, 100, false, Kind::Float);
        let mean = mask.mean(Kind::Float).double_value(&[]);
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        assert_eq!(mask.max().double_value(&[]), 2.0);
    }
}
