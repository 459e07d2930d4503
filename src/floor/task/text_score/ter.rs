//! Translation edit rate (Snover et al. 2006) as sacrebleu computes it: words in lower case, and a search for shifts
//! with the order and the limits of Tercom.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::edit_distance::{Alignment, Matrix};
use super::ngrams::words;

/// Longest shifted sequence, in words.
const MAX_LENGTH: usize = 10;
/// Largest distance between the places of a sequence in hypothesis and reference, in words.
const MAX_DISTANCE: usize = 50;
/// The search ends after so many shifts were tried; the last round's best is then not made.
const MAX_TRIED: usize = 1_000;

/// A document's statistics, to be summed over documents: the fewest edits that make the hypothesis one of the
/// references (insertions, deletions, substitutions and shifts of sequences), and the references' mean number of
/// words.
pub fn statistics(hypothesis: &str, references: &[&str]) -> Vec<f64> {
    let hypothesis = hypothesis.to_lowercase();
    let references: Vec<String> = references.iter().map(|text| text.to_lowercase()).collect();
    let mut numbers = HashMap::new();
    let mut numbered = |text| -> Vec<u32> { number(&mut numbers, text) };
    let hypothesis = numbered(&hypothesis);
    let references: Vec<Vec<u32>> = references.iter().map(|text| numbered(text)).collect();
    let fewest = references.iter().map(|reference| edits(&hypothesis, reference)).min();
    let length: usize = references.iter().map(Vec::len).sum();
    vec![fewest.unwrap_or(hypothesis.len()) as f64, length as f64 / references.len().max(1) as f64]
}

/// TER in percent from sums of [`statistics`]: edits per word of the references, so above 100 for long hypotheses.
/// 100 if only the references are empty. Lower is better.
pub fn score(sums: &[f64]) -> f64 {
    let [edits, length] = sums else { return 0.0 };
    let rate = if *length > 0.0 { edits / length } else { f64::from(u8::from(*edits > 0.0)) };
    100.0 * rate
}

/// A text's words as numbers, equal for equal words.
fn number<'a>(numbers: &mut HashMap<&'a str, u32>, text: &'a str) -> Vec<u32> {
    let number = |word| {
        let next = numbers.len() as u32;
        *numbers.entry(word).or_insert(next)
    };
    words(text).into_iter().map(number).collect()
}

/// Number of shifts and other edits: makes the shift that saves most, as long as one saves anything.
fn edits(hypothesis: &[u32], reference: &[u32]) -> usize {
    if reference.is_empty() {
        return hypothesis.len();
    }
    let mut hypothesis = hypothesis.to_vec();
    let (mut shifts, mut tried) = (0, 0);
    loop {
        let matrix = Matrix::new(&hypothesis, reference);
        let best = best_shift(&hypothesis, reference, &matrix, &mut tried);
        match best {
            Some((saved, shift)) if saved > 0 && tried < MAX_TRIED => shift.make(&mut hypothesis),
            _ => return shifts + matrix.distance() as usize,
        }
        shifts += 1;
    }
}

/// The shift that saves the most edits, and how many. Of equal ones the longest, then the first in the hypothesis,
/// then the one with the first target.
fn best_shift(
    hypothesis: &[u32],
    reference: &[u32],
    matrix: &Matrix<'_>,
    tried: &mut usize,
) -> Option<(i64, Shift)> {
    let alignment = matrix.alignment();
    let distance = i64::from(matrix.distance());
    let mut shifted = hypothesis.to_vec();
    let mut best = None;
    for common in common_sequences(hypothesis, reference) {
        if !common.is_worth_a_shift(&alignment) {
            continue;
        }
        for shift in common.shifts(&alignment) {
            shifted.copy_from_slice(hypothesis);
            shift.make(&mut shifted);
            let saved = distance - i64::from(matrix.distance_of(&shifted, shift.start.min(shift.target)));
            let rank = (saved, shift.length, Reverse(shift.start), Reverse(shift.target));
            if best.is_none_or(|(highest, _)| rank > highest) {
                best = Some((rank, shift));
            }
            *tried += 1;
        }
        if *tried >= MAX_TRIED {
            break;
        }
    }
    best.map(|((saved, ..), shift)| (saved, shift))
}

/// A sequence of words that both texts have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Common {
    in_hypothesis: usize,
    in_reference: usize,
    length: usize,
}

/// By place in the hypothesis, then in the reference, then by length.
fn common_sequences<'a>(hypothesis: &'a [u32], reference: &'a [u32]) -> impl Iterator<Item = Common> + 'a {
    (0..hypothesis.len()).flat_map(move |in_hypothesis| {
        let end = reference.len().min(in_hypothesis + MAX_DISTANCE + 1);
        (in_hypothesis.saturating_sub(MAX_DISTANCE)..end).flat_map(move |in_reference| {
            let pairs = hypothesis[in_hypothesis..].iter().zip(&reference[in_reference..]);
            let longest = pairs.take(MAX_LENGTH).take_while(|(own, other)| own == other).count();
            (1..=longest).map(move |length| Common { in_hypothesis, in_reference, length })
        })
    })
}

impl Common {
    /// Whether there are errors at both places, and the words are not aligned with themselves.
    fn is_worth_a_shift(self, alignment: &Alignment) -> bool {
        let own = self.in_hypothesis..self.in_hypothesis + self.length;
        let other = self.in_reference..self.in_reference + self.length;
        let aligned = alignment.places[self.in_reference + 1];
        alignment.wrong_in_hypothesis[own.clone()].contains(&true)
            && alignment.wrong_in_reference[other].contains(&true)
            && !(own.start < aligned && aligned <= own.end)
    }

    /// To the places of the words in the reference, and of the word before.
    fn shifts(self, alignment: &Alignment) -> Vec<Shift> {
        let mut targets = alignment.places[self.in_reference..=self.in_reference + self.length].to_vec();
        targets.dedup();
        let shift = |target| Shift { start: self.in_hypothesis, length: self.length, target };
        targets.into_iter().map(shift).collect()
    }
}

/// A sequence of words moves before the word at `target`. A target inside the sequence or at its end moves the
/// sequence later by as many words as the target is after its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shift {
    start: usize,
    length: usize,
    target: usize,
}

impl Shift {
    fn make(self, words: &mut [u32]) {
        let Self { start, length, target } = self;
        let end = start + length;
        if target < start {
            words[target..end].rotate_right(length);
        } else {
            let target = if target > end { target } else { words.len().min(target + length) };
            words[start..target].rotate_left(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_edits(hypothesis: &str, references: &[&str], edits: f64, length: f64) {
        assert_eq!(statistics(hypothesis, references), [edits, length], "{hypothesis}");
    }

    #[test]
    fn a_shift_costs_one_edit_however_long_it_is() {
        assert_edits("b c d a", &["a b c d"], 1.0, 4.0);
        assert_edits("d e f a b c g h", &["a b c d e f g h"], 1.0, 8.0);
        assert_edits("the cat sat on the mat", &["On the mat the Cat sat"], 1.0, 6.0);
        // Two substitutions: a shift and what it leaves would cost no less.
        assert_edits("東京 は 日本", &["日本 は 東京"], 2.0, 3.0);
    }

    #[test]
    fn case_does_not_matter_and_punctuation_belongs_to_words() {
        assert_edits("ΟΔΟΣ X", &["οδος x"], 0.0, 2.0);
        assert_edits("İ said\u{a0}so.", &["i\u{307} said so"], 1.0, 3.0);
    }

    #[test]
    fn the_closest_reference_counts_and_the_mean_length() {
        assert_edits("x y", &["x y z", "x y a b c d"], 1.0, 4.5);
        assert_edits(
            "The cat sat on the mat.",
            &["The cat is on the mat.", "There is a cat on the mat."],
            1.0,
            6.5,
        );
    }

    #[test]
    fn the_search_takes_the_same_shifts_as_sacrebleu() {
        let text = |words: usize, word: &dyn Fn(usize) -> usize| {
            let words: Vec<String> = (0..words).map(|place| format!("w{}", word(place))).collect();
            words.join(" ")
        };
        assert_edits(&text(40, &|at| at * 7 % 40), &[&text(40, &|at| at)], 37.0, 40.0);
        assert_edits(&text(60, &|at| at * 7 % 5), &[&text(80, &|at| at * 3 % 7)], 46.0, 80.0);
        // Without the limit on tried shifts, 19 edits are found.
        let hypothesis = text(50, &|at| (at + at * at) % 7);
        assert_edits(&hypothesis, &[&text(55, &|at| (3 * at + 2 * at * at) % 7)], 25.0, 55.0);
    }

    #[test]
    fn shifts_are_limited_in_length_and_distance() {
        let text = |letter: char, words: u32| -> String {
            (0..words).map(|word| format!("{letter}{word} ")).collect()
        };
        for (moved, others, edits) in [(2, 50, 1.0), (2, 51, 4.0), (10, 30, 1.0), (11, 30, 2.0)] {
            let (moved_text, other_text) = (text('m', moved), text('o', others));
            let reference = format!("{other_text}{moved_text}");
            assert_edits(
                &format!("{moved_text}{other_text}"),
                &[&reference],
                edits,
                f64::from(moved + others),
            );
        }
    }

    #[test]
    fn empty_texts_are_deleted_or_inserted() {
        assert_edits("", &["a b"], 2.0, 2.0);
        assert_edits("a b", &[""], 2.0, 0.0);
        assert_edits("a b", &[], 2.0, 0.0);
        assert_eq!(score(&[2.0, 0.0]), 100.0);
        assert_eq!(score(&[0.0, 0.0]), 0.0);
    }

    #[test]
    fn the_rate_can_exceed_100_percent() {
        assert_eq!(score(&statistics("a b c d e", &["a"])), 400.0);
        assert!((score(&[8.0, 15.5]) - 51.61290322580645).abs() < 1e-9);
    }

    #[test]
    fn a_shift_to_a_target_inside_the_sequence_moves_it_later() {
        for (shift, shifted) in [
            (Shift { start: 2, length: 2, target: 0 }, [3, 4, 1, 2, 5]),
            (Shift { start: 0, length: 2, target: 4 }, [3, 4, 1, 2, 5]),
            (Shift { start: 1, length: 2, target: 2 }, [1, 4, 2, 3, 5]),
            (Shift { start: 1, length: 3, target: 4 }, [1, 5, 2, 3, 4]),
            (Shift { start: 3, length: 2, target: 5 }, [1, 2, 3, 4, 5]),
        ] {
            let mut words = [1, 2, 3, 4, 5];
            shift.make(&mut words);
            assert_eq!(words, shifted, "{shift:?}");
        }
    }
}
