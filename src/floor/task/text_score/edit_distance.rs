//! Edit distance between lists of words, computed in a band around the diagonal.

use std::ops::Range;

/// Half the width of the band, unless the lengths differ a lot.
const BEAM: f64 = 25.0;
/// Cost of a cell outside the band. More than any distance, and adding 1 does not overflow.
const UNREACHED: u32 = u32::MAX / 2;

/// An edit of the hypothesis that leads to a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    Keep,
    Substitute,
    Delete,
    Insert,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    cost: u32,
    edit: Edit,
}

const OUTSIDE: Cell = Cell { cost: UNREACHED, edit: Edit::Insert };

/// The cells of a row inside the band.
#[derive(Debug, Clone, Default)]
struct Row {
    start: usize,
    cells: Vec<Cell>,
}

impl Row {
    fn cell(&self, column: usize) -> Cell {
        column.checked_sub(self.start).and_then(|index| self.cells.get(index)).copied().unwrap_or(OUTSIDE)
    }
}

/// The matrix of distances between the beginnings of hypothesis and reference.
pub(super) struct Matrix<'a> {
    reference: &'a [u32],
    length: usize,
    /// Row 0, and one for each word of the hypothesis.
    rows: Vec<Row>,
}

impl<'a> Matrix<'a> {
    /// Of two lists of words, given as numbers.
    pub(super) fn new(hypothesis: &[u32], reference: &'a [u32]) -> Self {
        let first = (0..=reference.len() as u32).map(|cost| Cell { cost, edit: Edit::Insert });
        let mut rows = vec![Row { start: 0, cells: first.collect() }];
        let mut matrix = Self { reference, length: hypothesis.len(), rows: Vec::new() };
        for (index, word) in hypothesis.iter().enumerate() {
            let mut row = Row::default();
            matrix.fill(&mut row, &rows[index], index + 1, *word);
            rows.push(row);
        }
        matrix.rows = rows;
        matrix
    }

    /// The distance.
    pub(super) fn distance(&self) -> u32 {
        self.rows[self.length].cell(self.reference.len()).cost
    }

    /// The distance of another hypothesis of the same length, of which the first words are the same.
    pub(super) fn distance_of(&self, hypothesis: &[u32], same: usize) -> u32 {
        let (mut above, mut row) = (self.rows[same].clone(), Row::default());
        for (index, word) in hypothesis.iter().enumerate().skip(same) {
            self.fill(&mut row, &above, index + 1, *word);
            std::mem::swap(&mut above, &mut row);
        }
        above.cell(self.reference.len()).cost
    }

    /// Fills a row from the one above. Of equally cheap edits the first of keep or substitute, delete, insert counts,
    /// as in sacrebleu.
    fn fill(&self, row: &mut Row, above: &Row, index: usize, word: u32) {
        let band = self.band(index);
        row.start = band.start;
        row.cells.clear();
        let mut left = UNREACHED;
        for column in band {
            let mut best = OUTSIDE;
            let mut offer = |cost: u32, edit: Edit| {
                if cost < best.cost {
                    best = Cell { cost, edit };
                }
            };
            if let Some(before) = column.checked_sub(1) {
                let is_same = self.reference[before] == word;
                let edit = if is_same { Edit::Keep } else { Edit::Substitute };
                offer(above.cell(before).cost + u32::from(!is_same), edit);
            }
            offer(above.cell(column).cost + 1, Edit::Delete);
            offer(left + 1, Edit::Insert);
            left = best.cost;
            row.cells.push(best);
        }
    }

    /// The columns of a row inside the band. The last row extends to the end of the reference.
    fn band(&self, index: usize) -> Range<usize> {
        let columns = self.reference.len() + 1;
        let ratio = self.reference.len() as f64 / self.length as f64;
        // Rows of a hypothesis much shorter than the reference must still overlap.
        let beam = if BEAM < ratio / 2.0 { (ratio / 2.0 + BEAM).ceil() } else { BEAM } as usize;
        let diagonal = (index as f64 * ratio).floor() as usize;
        let end = if index == self.length { columns } else { columns.min(diagonal + beam) };
        diagonal.saturating_sub(beam).min(end)..end
    }

    /// Which words correspond, along the cheapest edits.
    pub(super) fn alignment(&self) -> Alignment {
        let (mut row, mut column) = (self.length, self.reference.len());
        let mut alignment = Alignment {
            places: vec![0; column + 1],
            wrong_in_hypothesis: vec![false; row],
            wrong_in_reference: vec![false; column],
        };
        while row > 0 || column > 0 {
            let edit = self.rows[row].cell(column).edit;
            let uses_hypothesis = column == 0 || (row > 0 && edit != Edit::Insert);
            let uses_reference = !uses_hypothesis || (column > 0 && edit != Edit::Delete);
            if uses_reference {
                alignment.places[column] = row;
                alignment.wrong_in_reference[column - 1] = edit != Edit::Keep;
                column -= 1;
            }
            if uses_hypothesis {
                alignment.wrong_in_hypothesis[row - 1] = edit != Edit::Keep;
                row -= 1;
            }
        }
        alignment
    }
}

/// Which words of hypothesis and reference correspond.
pub(super) struct Alignment {
    /// For each number of reference words, the number of hypothesis words up to the one that corresponds to the last
    /// of them. `[reference + 1]`
    pub(super) places: Vec<usize>,
    /// Whether each word of the hypothesis is deleted or substituted. `[hypothesis]`
    pub(super) wrong_in_hypothesis: Vec<bool>,
    /// Whether each word of the reference is inserted or substituted. `[reference]`
    pub(super) wrong_in_reference: Vec<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_edits() {
        for (hypothesis, reference, distance) in [
            (&[1, 2, 3][..], &[1, 2, 3][..], 0),
            (&[1, 2, 3], &[1, 4, 3], 1),
            (&[2, 3], &[1, 2, 3], 1),
            (&[], &[1, 2], 2),
            (&[1, 2, 3, 4], &[9], 4),
        ] {
            assert_eq!(Matrix::new(hypothesis, reference).distance(), distance, "{hypothesis:?}");
        }
    }

    #[test]
    fn a_hypothesis_with_the_same_beginning_has_the_distance_of_a_new_matrix() {
        let reference: Vec<u32> = (0..70).collect();
        let hypothesis: Vec<u32> = (10..60).collect();
        let mut other = hypothesis.clone();
        other[20..40].rotate_left(7);
        let distance = Matrix::new(&hypothesis, &reference).distance_of(&other, 20);
        assert_eq!(distance, Matrix::new(&other, &reference).distance());
    }

    #[test]
    fn the_band_reaches_the_end_of_a_much_longer_reference() {
        // From 51 words on the band misses one of the two common words, as in sacrebleu.
        for (words, distance) in [(3, 1), (49, 47), (50, 48), (51, 50), (101, 99), (102, 100), (1_000, 1_000)]
        {
            let reference: Vec<u32> = (0..words).collect();
            assert_eq!(Matrix::new(&[0, words - 1], &reference).distance(), distance, "{words}");
            assert_eq!(Matrix::new(&reference, &[0, words - 1]).distance(), words - 2, "{words}");
        }
    }

    #[test]
    fn alignment_follows_the_cheapest_edits() {
        let alignment = Matrix::new(&[1, 5, 2, 3], &[1, 2, 4, 7]).alignment();
        assert_eq!(alignment.places, [0, 1, 2, 3, 4]);
        assert_eq!(alignment.wrong_in_reference, [false, true, true, true]);
        let alignment = Matrix::new(&[9, 1, 2], &[1, 2, 3]).alignment();
        assert_eq!(alignment.places, [0, 2, 3, 3]);
        assert_eq!(alignment.wrong_in_hypothesis, [true, false, false]);
        assert_eq!(alignment.wrong_in_reference, [false, false, true]);
    }
}
