//! ROUGE (Lin 2004) as the package `rouge_score` computes it, with its default tokenizer and without stemming.

use std::collections::HashMap;

use super::ngrams::{counts, matches, total};

/// What two texts are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rouge {
    /// `rouge1`: single tokens.
    One,
    /// `rouge2`: pairs of adjacent tokens.
    Two,
    /// `rougeL`: the longest common subsequence.
    L,
    /// `rougeLsum`: for each line of the target, the tokens that are in its longest common subsequence with some line
    /// of the prediction.
    Lsum,
}

/// F-measure of a generated `prediction` against a reference `target`, a fraction: the harmonic mean of precision and
/// recall (Lin 2004, sections 2 and 3). 0 if a text has no tokens, which are sequences of ASCII letters and digits,
/// in lower case. `Lsum` takes each line for a sentence.
pub fn rouge(kind: Rouge, target: &str, prediction: &str) -> f64 {
    let (target, prediction) = (target.to_lowercase(), prediction.to_lowercase());
    let (target_tokens, prediction_tokens) = (tokens(&target), tokens(&prediction));
    let of_order = |order| {
        let hits = matches(&counts(&prediction_tokens, order), &counts(&target_tokens, order));
        f_measure(hits, total(target_tokens.len(), order), total(prediction_tokens.len(), order))
    };
    let by_subsequence = |hits| f_measure(hits, target_tokens.len(), prediction_tokens.len());
    match kind {
        Rouge::One => of_order(1),
        Rouge::Two => of_order(2),
        Rouge::L => by_subsequence(common_length(&target_tokens, &prediction_tokens)),
        Rouge::Lsum => by_subsequence(common_by_line(&target, &prediction)),
    }
}

/// From the number of common tokens or n-grams, and that of all in each text.
fn f_measure(hits: usize, target: usize, prediction: usize) -> f64 {
    let precision = hits as f64 / prediction.max(1) as f64;
    let recall = hits as f64 / target.max(1) as f64;
    if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
}

/// Of a text in lower case.
fn tokens(text: &str) -> Vec<&str> {
    let is_between = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit());
    text.split(is_between).filter(|token| !token.is_empty()).collect()
}

/// Length of the longest common subsequence.
fn common_length(target: &[&str], prediction: &[&str]) -> usize {
    let mut lengths = vec![0; prediction.len() + 1];
    for token in target {
        next_row(&mut lengths, token, prediction, |_| ());
    }
    lengths[prediction.len()]
}

/// Number of the target's tokens that are in a longest common subsequence of their line and a line of the prediction,
/// each at most as often as it occurs in the prediction.
fn common_by_line(target: &str, prediction: &str) -> usize {
    let lines: Vec<Vec<&str>> = prediction.split('\n').map(tokens).collect();
    let mut left: HashMap<&str, usize> = HashMap::new();
    for token in lines.iter().flatten() {
        *left.entry(token).or_default() += 1;
    }
    let mut hits = 0;
    for line in target.split('\n').map(tokens) {
        let mut is_common = vec![false; line.len()];
        for other in &lines {
            mark_common(&line, other, &mut is_common);
        }
        for (token, _) in line.iter().zip(is_common).filter(|(_, is_common)| *is_common) {
            if let Some(count) = left.get_mut(token).filter(|count| **count > 0) {
                *count -= 1;
                hits += 1;
            }
        }
    }
    hits
}

/// Marks the target's tokens of one longest common subsequence, the same one as `rouge_score` finds.
fn mark_common(target: &[&str], prediction: &[&str], is_common: &mut [bool]) {
    let width = prediction.len();
    // Whether the subsequence is longer than without the target's last token: a bit for each cell.
    let mut grows = vec![0u64; (target.len() * width).div_ceil(64)];
    let mut lengths = vec![0; width + 1];
    for (row, token) in target.iter().enumerate() {
        next_row(&mut lengths, token, prediction, |column| {
            let cell = row * width + column;
            grows[cell / 64] |= 1 << (cell % 64);
        });
    }
    let (mut row, mut column) = (target.len(), width);
    while row > 0 && column > 0 {
        let cell = (row - 1) * width + column - 1;
        if target[row - 1] == prediction[column - 1] {
            row -= 1;
            column -= 1;
            is_common[row] = true;
        } else if grows[cell / 64] >> (cell % 64) & 1 == 1 {
            column -= 1;
        } else {
            row -= 1;
        }
    }
}

/// From the lengths of the longest common subsequences of a target and each beginning of the prediction to those of
/// the target with one more token. Reports the columns at which they grow.
fn next_row(lengths: &mut [usize], token: &str, prediction: &[&str], mut grows: impl FnMut(usize)) {
    let (mut diagonal, mut left) = (0, 0);
    for (column, other) in prediction.iter().enumerate() {
        let above = lengths[column + 1];
        let length = if token == *other { diagonal + 1 } else { above.max(left) };
        if length > above {
            grows(column);
        }
        (diagonal, left) = (above, length);
        lengths[column + 1] = length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_rouge(target: &str, prediction: &str, expected: [f64; 4]) {
        for (kind, expected) in [Rouge::One, Rouge::Two, Rouge::L, Rouge::Lsum].into_iter().zip(expected) {
            let value = rouge(kind, target, prediction);
            assert!((value - expected).abs() < 1e-9, "{kind:?}: {value} is not {expected}");
        }
    }

    #[test]
    fn shared_words_pairs_and_subsequences_count() {
        let (target, prediction) =
            ("The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log.");
        assert_rouge(target, prediction, [12.0 / 17.0, 4.0 / 15.0, 10.0 / 17.0, 10.0 / 17.0]);
    }

    #[test]
    fn a_repeated_word_counts_no_more_often_than_in_the_other_text() {
        assert_rouge("the the the", "the", [0.5, 0.0, 0.5, 0.5]);
        assert_rouge("a b a b\nb a", "b a b\na a", [10.0 / 11.0, 2.0 / 3.0, 8.0 / 11.0, 10.0 / 11.0]);
    }

    #[test]
    fn only_lsum_ignores_the_order_of_lines() {
        assert_rouge("a b c\nd e f", "d e f\na b c", [1.0, 0.8, 0.5, 1.0]);
        assert_rouge("\n\na b\n", "a\nb", [1.0; 4]);
    }

    #[test]
    fn of_several_longest_subsequences_lsum_takes_that_of_rouge_score() {
        let expected = [0.9411764705882353, 0.4, 0.5882352941176471, 0.823529411764706];
        assert_rouge("a b c b d a b\nc a", "b d c a b a\na c", expected);
    }

    #[test]
    fn tokens_are_lowercase_ascii_letters_and_digits() {
        // The Kelvin sign in lower case is a k.
        assert_eq!(tokens(&"Don't 1,234.5 \u{212a}é".to_lowercase()), ["don", "t", "1", "234", "5", "k"]);
        assert_rouge("don't 1,234.5 \u{212a}", "Don T 1 234 5 k", [1.0; 4]);
    }

    #[test]
    fn texts_without_tokens_score_0() {
        for (target, prediction) in [("", "a"), ("a", ""), ("", ""), ("...", "!"), ("東京", "東京")] {
            assert_rouge(target, prediction, [0.0; 4]);
        }
    }
}
