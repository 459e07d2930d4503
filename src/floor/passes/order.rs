//! The data set row at each position of a run.

use crate::job::RowOrder;
use crate::random::{Purpose, Stream};

/// The infinite row sequence of one run: row k is computed without the rows before it.
#[derive(Debug)]
pub struct RowSequence {
    order: RowOrder,
    seed: u64,
    rows: usize,
    /// The first of the longest rows.
    longest: usize,
    /// The permutation of the epoch used last.
    epoch: Option<(u64, Vec<usize>)>,
}

impl RowSequence {
    /// The sequence for a seed over rows of these lengths (at least one row).
    pub fn new(order: RowOrder, seed: u64, lengths: impl IntoIterator<Item = usize>) -> Self {
        let (mut rows, mut longest, mut most) = (0, 0, 0);
        for (row, length) in lengths.into_iter().enumerate() {
            rows = row + 1;
            if length > most {
                (longest, most) = (row, length);
            }
        }
        Self { order, seed, rows, longest, epoch: None }
    }

    /// The row at position `place`, counted from 0.
    pub fn row(&mut self, place: u64) -> usize {
        let (epoch, within) = (place / self.rows as u64, (place % self.rows as u64) as usize);
        match self.order {
            RowOrder::Sequential => within,
            RowOrder::WithReplacement if place == 0 => self.longest,
            RowOrder::WithReplacement => {
                Stream::new(self.seed, Purpose::Order, 0).below(place, self.rows as u64) as usize
            }
            RowOrder::Shuffle => {
                if self.epoch.as_ref().is_none_or(|(known, _)| *known != epoch) {
                    let stream = Stream::new(self.seed, Purpose::Order, epoch);
                    self.epoch = Some((epoch, stream.permutation(self.rows)));
                }
                self.epoch.as_ref().map_or(within, |(_, permutation)| permutation[within])
            }
        }
    }
}

/// Splits a data set's rows into training rows and `validation` validation rows, each ascending. The split is the same
/// for every seed, so cells are compared on the same rows.
pub fn split_rows(rows: usize, validation: usize) -> (Vec<usize>, Vec<usize>) {
    let mut shuffled = Stream::new(0, Purpose::Validation, 0).permutation(rows);
    let mut train = shuffled.split_off(validation.min(rows));
    shuffled.sort_unstable();
    train.sort_unstable();
    (train, shuffled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_has_every_row_once() {
        let (train, validation) = split_rows(100, 10);
        assert_eq!((train.len(), validation.len()), (90, 10));
        let mut all = [train.clone(), validation].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_ne!(train, (10..100).collect::<Vec<_>>());
        assert_eq!(split_rows(3, 0), (vec![0, 1, 2], vec![]));
    }

    #[test]
    fn every_epoch_has_each_row_once_and_another_order() {
        let mut rows = RowSequence::new(RowOrder::Shuffle, 3, vec![1; 50]);
        let first: Vec<usize> = (0..50).map(|place| rows.row(place)).collect();
        let second: Vec<usize> = (50..100).map(|place| rows.row(place)).collect();
        assert_ne!(first, second);
        let mut sorted = second.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_run_that_starts_in_the_middle_sees_the_same_rows() {
        for order in [RowOrder::Shuffle, RowOrder::Sequential, RowOrder::WithReplacement] {
            let mut whole = RowSequence::new(order, 3, vec![1; 7]);
            let rows: Vec<usize> = (0..30).map(|place| whole.row(place)).collect();
            let mut resumed = RowSequence::new(order, 3, vec![1; 7]);
            assert_eq!(rows[19..], (19..30).map(|place| resumed.row(place)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rows_drawn_with_replacement_start_with_the_longest_and_repeat() {
        let mut rows = RowSequence::new(RowOrder::WithReplacement, 3, [5, 9, 2, 9]);
        assert_eq!(rows.row(0), 1);
        let drawn: std::collections::BTreeSet<usize> = (1..200).map(|place| rows.row(place)).collect();
        assert_eq!(drawn.len(), 4);
    }
}
