//! chrF (Popović 2015) and chrF++ (Popović 2017) as sacrebleu computes them: without whitespace, recall weighted over
//! precision.

use std::hash::Hash;

use super::ngrams::{Counts, counts, matches, words};
use crate::python::is_space;

/// Longest character n-grams.
const CHARACTER_ORDER: usize = 6;
/// How many times as important as precision recall is.
const BETA: f64 = 2.0;

/// Which n-grams count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chrf {
    /// chrF: of 1 … 6 characters.
    Characters,
    /// chrF++: of 1 … 6 characters and of 1 and 2 words.
    CharactersAndWords,
}

impl Chrf {
    fn word_order(self) -> usize {
        match self {
            Self::Characters => 0,
            Self::CharactersAndWords => 2,
        }
    }
}

/// A document's statistics, to be summed over documents: for each order of n-grams, first of characters, then of
/// words, the number in the hypothesis, in the reference, and in both. The reference is the one with the highest
/// score, the first of equal ones. Orders without an n-gram in the reference have no n-grams in the hypothesis
/// either.
pub fn statistics(hypothesis: &str, references: &[&str], kind: Chrf) -> Vec<f64> {
    let hypothesis = Tokens::of(hypothesis, kind);
    let (characters, words) = (hypothesis.characters(), hypothesis.words(kind));
    let against = |reference: &str| -> Vec<f64> {
        let reference = Tokens::of(reference, kind);
        let by_character =
            characters.iter().zip(reference.characters()).map(|(own, other)| triple(own, &other));
        let by_word = words.iter().zip(reference.words(kind)).map(|(own, other)| triple(own, &other));
        by_character.chain(by_word).flatten().map(|count| count as f64).collect()
    };
    let mut best: Option<(f64, Vec<f64>)> = None;
    for reference in references {
        let statistics = against(reference);
        let score = score(&statistics);
        if best.as_ref().is_none_or(|(highest, _)| score > *highest) {
            best = Some((score, statistics));
        }
    }
    best.map_or_else(|| against(""), |(_, statistics)| statistics)
}

/// chrF or chrF++ in percent from sums of [`statistics`]: F-score of mean precision and mean recall, over the orders
/// with n-grams on both sides (Popović 2015, equation 1).
pub fn score(sums: &[f64]) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for order in sums.chunks_exact(3) {
        let (hypothesis, reference, both) = (order[0], order[1], order[2]);
        if hypothesis > 0.0 && reference > 0.0 {
            precision += both / hypothesis;
            recall += both / reference;
            orders += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    precision /= orders;
    recall /= orders;
    let factor = BETA * BETA;
    100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
}

/// A text's characters without whitespace, and its words.
struct Tokens<'a> {
    characters: Vec<char>,
    words: Vec<&'a str>,
}

impl<'a> Tokens<'a> {
    fn of(text: &'a str, kind: Chrf) -> Self {
        let characters = text.chars().filter(|c| !is_space(*c)).collect();
        let words = if kind.word_order() > 0 { separate_punctuation(text) } else { Vec::new() };
        Self { characters, words }
    }

    fn characters(&self) -> Vec<Counts<'_, char>> {
        (1..=CHARACTER_ORDER).map(|order| counts(&self.characters, order)).collect()
    }

    fn words(&self, kind: Chrf) -> Vec<Counts<'_, &'a str>> {
        (1..=kind.word_order()).map(|order| counts(&self.words, order)).collect()
    }
}

/// Numbers of n-grams of one order: in the hypothesis, in the reference, in both.
fn triple<T: Hash + Eq>(hypothesis: &Counts<'_, T>, reference: &Counts<'_, T>) -> [usize; 3] {
    let own = if reference.is_empty() { 0 } else { hypothesis.values().sum() };
    [own, reference.values().sum(), matches(hypothesis, reference)]
}

/// Words, with one ASCII punctuation mark taken off: the last character, or else the first. `(hi)` gives `(hi` and
/// `)`, as in Popović's script.
fn separate_punctuation(text: &str) -> Vec<&str> {
    let mut separated = Vec::new();
    for word in words(text) {
        if word.chars().nth(1).is_some() && word.ends_with(|c: char| c.is_ascii_punctuation()) {
            let (rest, mark) = word.split_at(word.len() - 1);
            separated.extend([rest, mark]);
        } else if word.chars().nth(1).is_some() && word.starts_with(|c: char| c.is_ascii_punctuation()) {
            let (mark, rest) = word.split_at(1);
            separated.extend([mark, rest]);
        } else {
            separated.push(word);
        }
    }
    separated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_chrf(hypothesis: &str, references: &[&str], characters: f64, with_words: f64) {
        for (kind, expected) in [(Chrf::Characters, characters), (Chrf::CharactersAndWords, with_words)] {
            let value = score(&statistics(hypothesis, references, kind));
            assert!((value - expected).abs() < 1e-9, "{kind:?}: {value} is not {expected}");
        }
    }

    #[test]
    fn whitespace_matters_only_between_words() {
        assert_chrf("a b c", &["abc"], 100.0, 75.0);
        let counts = [3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0, 0];
        assert_eq!(statistics("a b c", &["abc"], Chrf::CharactersAndWords), counts.map(f64::from));
    }

    #[test]
    fn orders_longer_than_a_text_do_not_count() {
        assert_chrf("abc", &["abd"], 38.888888888888886, 29.166666666666664);
        assert_chrf("東京は日本", &["東京日本"], 39.44174757281553, 31.55339805825243);
    }

    #[test]
    fn the_best_reference_counts() {
        let references = ["xyz", "abcdef ghj", "abcdef ghk"];
        assert_chrf("abcdef ghi", &references, 83.40608465608467, 68.8045634920635);
        assert_chrf("ab", &["xy", "zw abc"], 37.57225433526011, 25.048169556840076);
        // The first if none has a match.
        assert_eq!(statistics("q", &["xy", "z"], Chrf::Characters)[..3], [1.0, 2.0, 0.0]);
    }

    #[test]
    fn one_punctuation_mark_is_taken_off_a_word() {
        let separated = ["(hi", ")", "'", "tis", "well-known", ",", ".", "..", ".", "é", "!", "«a»"];
        assert_eq!(separate_punctuation("(hi) 'tis well-known, . ... é! «a»"), separated);
        assert_chrf("(hi) there", &["(hi there)"], 47.57936507936508, 42.33526328620186);
    }

    #[test]
    fn empty_texts_score_0() {
        assert_chrf("", &["abc"], 0.0, 0.0);
        assert_chrf("", &[""], 0.0, 0.0);
        assert_eq!(statistics("", &["abc"], Chrf::Characters)[..6], [0.0, 3.0, 0.0, 0.0, 2.0, 0.0]);
        // Without n-grams in the reference those of the hypothesis are not counted.
        assert_eq!(statistics("abc", &[""], Chrf::Characters), [0.0; 18]);
        assert_eq!(statistics("abc", &[], Chrf::CharactersAndWords), [0.0; 24]);
        assert_eq!(score(&[]), 0.0);
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
        for (kind, expected) in
            [(Chrf::Characters, 56.288430807892574), (Chrf::CharactersAndWords, 55.425785386720804)]
        {
            let mut sums = vec![0.0; 24];
            for (hypothesis, references) in documents {
                let statistics = statistics(hypothesis, references, kind);
                sums.iter_mut().zip(statistics).for_each(|(sum, count)| *sum += count);
            }
            assert!((score(&sums) - expected).abs() < 1e-9, "{kind:?}: {}", score(&sums));
        }
    }
}
