//! Words and n-gram counts, as from Python's `str.split` and `collections.Counter`.

use std::collections::HashMap;
use std::hash::Hash;

use crate::python::is_space;

/// How often each n-gram occurs.
pub(super) type Counts<'a, T> = HashMap<&'a [T], usize>;

/// `text.split()`.
pub(super) fn words(text: &str) -> Vec<&str> {
    text.split(is_space).filter(|word| !word.is_empty()).collect()
}

/// The n-grams of one order, which is at least 1.
pub(super) fn counts<T: Hash + Eq>(tokens: &[T], order: usize) -> Counts<'_, T> {
    let mut counts = Counts::new();
    for ngram in tokens.windows(order) {
        *counts.entry(ngram).or_default() += 1;
    }
    counts
}

/// Number of n-grams of the candidate that the reference has too, each at most as often as there.
pub(super) fn matches<T: Hash + Eq>(candidate: &Counts<'_, T>, reference: &Counts<'_, T>) -> usize {
    candidate.iter().map(|(ngram, count)| reference.get(ngram).map_or(0, |other| *count.min(other))).sum()
}

/// Number of n-grams of one order in so many tokens.
pub(super) fn total(tokens: usize, order: usize) -> usize {
    (tokens + 1).saturating_sub(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_at_whatever_python_calls_a_space() {
        assert_eq!(words(" a\u{1f}b\u{3000}c\u{200b}d\n"), ["a", "b", "c\u{200b}d"]);
        assert!(words("\u{85} \t").is_empty());
    }

    #[test]
    fn a_match_counts_no_more_often_than_in_the_reference() {
        let (candidate, reference) = (words("a a a b"), words("a a c"));
        assert_eq!(matches(&counts(&candidate, 1), &counts(&reference, 1)), 2);
        assert_eq!(matches(&counts(&candidate, 2), &counts(&reference, 2)), 1);
        assert!(counts(&reference, 4).is_empty());
        assert_eq!((total(3, 1), total(3, 3), total(3, 4), total(0, 4)), (3, 1, 0, 0));
    }
}
