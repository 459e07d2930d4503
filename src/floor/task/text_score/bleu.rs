//! BLEU (Papineni et al. 2002) as sacrebleu computes it (Post 2018).

use std::collections::HashMap;

use super::ngrams::{counts, matches, total, words};
pub use super::tokenizer::Tokenizer;

/// Longest n-grams.
const MAX_ORDER: usize = 4;

/// A document's statistics, to be summed over documents: the hypothesis' number of tokens, that of the reference
/// closest in length (the shorter of two), how many n-grams of 1 … 4 tokens occur in a reference, and how many there
/// are. An n-gram counts at most as often as in the reference that has it most often.
pub fn statistics(hypothesis: &str, references: &[&str], tokenizer: Tokenizer) -> Vec<f64> {
    let hypothesis = tokenizer.space_out(hypothesis);
    let references: Vec<String> = references.iter().map(|text| tokenizer.space_out(text)).collect();
    let hypothesis = words(&hypothesis);
    let references: Vec<Vec<&str>> = references.iter().map(|text| words(text)).collect();
    let lengths = references.iter().map(Vec::len);
    let closest = lengths.min_by_key(|length| (length.abs_diff(hypothesis.len()), *length)).unwrap_or(0);
    let correct = (1..=MAX_ORDER).map(|order| correct(&hypothesis, &references, order));
    let totals = (1..=MAX_ORDER).map(|order| total(hypothesis.len(), order));
    [hypothesis.len(), closest].into_iter().chain(correct).chain(totals).map(|count| count as f64).collect()
}

/// Number of the hypothesis' n-grams that a reference has.
fn correct(hypothesis: &[&str], references: &[Vec<&str>], order: usize) -> usize {
    let mut most = HashMap::new();
    for reference in references {
        for (ngram, count) in counts(reference, order) {
            let known = most.entry(ngram).or_insert(0);
            *known = count.max(*known);
        }
    }
    matches(&counts(hypothesis, order), &most)
}

/// BLEU in percent from sums of [`statistics`]: geometric mean of the four precisions times the brevity penalty
/// (Papineni et al. 2002, section 2.3). A precision without a match is smoothed as in `mteval-v13a`: 1/2, 1/4, … of a
/// match. 0 without any match, and if the hypotheses have no n-grams of some order.
pub fn score(sums: &[f64]) -> f64 {
    let [hypothesis_length, reference_length, counts @ ..] = sums else { return 0.0 };
    let (correct, totals) = counts.split_at(counts.len() / 2);
    if correct.iter().all(|count| *count == 0.0) || totals.contains(&0.0) {
        return 0.0;
    }
    let mut smoothing = 1.0;
    let mut logarithms = 0.0;
    for (correct, total) in correct.iter().zip(totals) {
        let precision = if *correct == 0.0 {
            smoothing *= 2.0;
            100.0 / (smoothing * total)
        } else {
            100.0 * correct / total
        };
        logarithms += precision.ln();
    }
    let is_brief = hypothesis_length < reference_length;
    let penalty = if is_brief { (1.0 - reference_length / hypothesis_length).exp() } else { 1.0 };
    penalty * (logarithms / correct.len() as f64).exp()
}

/// BLEU in percent of one pair of texts, as in lm_eval's `truthfulqa_gen`: international tokens, and like a corpus of
/// one document, so 0 for less than four tokens.
pub fn sentence(hypothesis: &str, reference: &str) -> f64 {
    score(&statistics(hypothesis, &[reference], Tokenizer::International))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_bleu(hypothesis: &str, references: &[&str], counts: [f64; 10], expected: f64) {
        let statistics = statistics(hypothesis, references, Tokenizer::default());
        assert_eq!(statistics, counts);
        let value = score(&statistics);
        assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
    }

    #[test]
    fn a_repeated_word_counts_no_more_often_than_in_a_reference() {
        let references = ["the cat is on the mat", "there is a cat on the mat"];
        let counts = [7.0, 7.0, 2.0, 0.0, 0.0, 0.0, 7.0, 6.0, 5.0, 4.0];
        assert_bleu("the the the the the the the", &references, counts, 7.809849842300637);
    }

    #[test]
    fn of_two_references_equally_close_in_length_the_shorter_one_counts() {
        let counts = [2.0, 1.0, 2.0, 1.0, 0.0, 0.0, 2.0, 1.0, 0.0, 0.0];
        assert_bleu("a b", &["a b c", "a"], counts, 0.0);
    }

    #[test]
    fn orders_without_a_match_are_smoothed_and_brevity_is_penalized() {
        let counts = [5.0, 6.0, 3.0, 0.0, 0.0, 0.0, 5.0, 4.0, 3.0, 2.0];
        assert_bleu("a x b y c", &["a b c d e f"], counts, 11.51015341649912);
    }

    #[test]
    fn less_than_four_tokens_score_0() {
        assert_bleu("a b c", &["a b c"], [3.0, 3.0, 3.0, 2.0, 1.0, 0.0, 3.0, 2.0, 1.0, 0.0], 0.0);
        let counts = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        assert_bleu("東京は日本の首都です。", &["東京は日本の首都です。"], counts, 0.0);
        assert_bleu("a b c d", &["a b c d"], [4.0, 4.0, 4.0, 3.0, 2.0, 1.0, 4.0, 3.0, 2.0, 1.0], 100.0);
        assert_bleu("x y z w", &["a b c d"], [4.0, 4.0, 0.0, 0.0, 0.0, 0.0, 4.0, 3.0, 2.0, 1.0], 0.0);
    }

    #[test]
    fn empty_texts_score_0() {
        let none = [0.0; 8];
        assert_eq!(statistics("", &["a"], Tokenizer::default())[..2], [0.0, 1.0]);
        assert_eq!(statistics("", &[], Tokenizer::default())[2..], none);
        assert_eq!(statistics("a", &[], Tokenizer::default())[..3], [1.0, 0.0, 0.0]);
        for sums in [statistics("", &[""], Tokenizer::default()), vec![0.0; 10], Vec::new()] {
            assert_eq!(score(&sums), 0.0);
        }
    }

    #[test]
    fn a_corpus_is_scored_by_its_sums() {
        let documents: [(&str, &[&str]); 3] = [
            ("The cat sat on the mat.", &["The cat is on the mat.", "There is a cat on the mat."]),
            (
                "It costs 1,234.5 euros - &quot;cheap&quot;, he said",
                &["It costs 1,234.5 euros: \"cheap\", she said."],
            ),
            ("", &["Nothing here."]),
        ];
        for (tokenizer, expected) in
            [(Tokenizer::Mteval13a, 38.91845703011454), (Tokenizer::International, 27.530972572811415)]
        {
            let mut sums = [0.0; 10];
            for (hypothesis, references) in documents {
                let statistics = statistics(hypothesis, references, tokenizer);
                sums.iter_mut().zip(statistics).for_each(|(sum, count)| *sum += count);
            }
            assert!((score(&sums) - expected).abs() < 1e-9, "{tokenizer:?}: {}", score(&sums));
        }
    }

    #[test]
    fn a_sentence_is_scored_with_international_tokens() {
        for (hypothesis, reference, expected) in [
            ("Paris is the capital of France.", "The capital of France is Paris.", 29.071536848410968),
            ("東京は、日本の首都です。", "東京は日本の首都です。", 15.97357760615681),
            ("No.", "No comment.", 0.0),
        ] {
            let value = sentence(hypothesis, reference);
            assert!((value - expected).abs() < 1e-9, "{hypothesis}: {value} is not {expected}");
        }
    }
}
