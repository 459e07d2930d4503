//! Two systems on the same documents, for values that are not a mean over documents: perplexity, F1, correlation.

use super::paired::{DRAWS, EXACT, Paired, PairedTest, around};
use crate::random::{Purpose, Stream};

/// Compares two systems whose values are computed from sums over documents. Each document is exchanged between the systems or not, and
/// the difference of the two values is counted (approximate randomization). The interval is Student's, around the difference, by the
/// jackknife over documents. None without documents, with unequal numbers, or if a value is not finite.
pub fn exchanged(first: &[Vec<f64>], second: &[Vec<f64>], value: impl Fn(&[f64]) -> f64) -> Option<Paired> {
    let width = first.first()?.len();
    if first.len() != second.len() || first.iter().chain(second).any(|parts| parts.len() != width) {
        return None;
    }
    let sums = |documents: &[Vec<f64>]| -> Vec<f64> {
        (0..width).map(|at| documents.iter().map(|parts| parts[at]).sum()).collect()
    };
    let (a, b) = (sums(first), sums(second));
    let difference = value(&b) - value(&a);
    if !difference.is_finite() {
        return None;
    }
    // The change in the sums when a document is exchanged; zero for a document that is the same in both.
    let moved: Vec<Vec<f64>> = first
        .iter()
        .zip(second)
        .map(|(parts, other)| other.iter().zip(parts).map(|(b, a)| b - a).collect::<Vec<f64>>())
        .filter(|moves| moves.iter().any(|part| *part != 0.0))
        .collect();
    let exchange = |is_moved: &dyn Fn(usize) -> bool| -> f64 {
        let (mut first_sums, mut second_sums) = (a.clone(), b.clone());
        for (_, moves) in moved.iter().enumerate().filter(|(at, _)| is_moved(*at)) {
            for (at, part) in moves.iter().enumerate() {
                first_sums[at] += part;
                second_sums[at] -= part;
            }
        }
        value(&second_sums) - value(&first_sums)
    };
    // Sums in another order differ in their last digits.
    let least = difference.abs() - 1e-12 * (value(&a).abs() + value(&b).abs());
    let is_as_large = |found: f64| found.abs() >= least;
    let exact = moved.len() <= EXACT;
    let p = if exact {
        let all = 1u64 << moved.len();
        let extreme = (0..all).filter(|choice| is_as_large(exchange(&|at| choice >> at & 1 == 1))).count();
        extreme as f64 / all as f64
    } else {
        let stream = Stream::new(0, Purpose::Test, 1);
        let words = moved.len().div_ceil(64) as u64;
        let extreme = (0..DRAWS)
            .filter(|draw| {
                let bits: Vec<u64> = (0..words).map(|word| stream.bits(draw * words + word)).collect();
                is_as_large(exchange(&|at| bits[at / 64] >> (at % 64) & 1 == 1))
            })
            .count();
        (extreme + 1) as f64 / (DRAWS + 1) as f64
    };
    Some(Paired {
        documents: first.len(),
        difference,
        interval: jackknife(first, second, (&a, &b), &value)
            .and_then(|error| around(difference, error, first.len())),
        p,
        test: PairedTest::Exchange { exact },
        flips: None,
    })
}

/// The standard error of the difference, by leaving out one document at a time (Tukey 1958). None for one document, or if the value of
/// the remaining documents is undefined.
fn jackknife(
    first: &[Vec<f64>],
    second: &[Vec<f64>],
    (a, b): (&[f64], &[f64]),
    value: &impl Fn(&[f64]) -> f64,
) -> Option<f64> {
    let n = first.len() as f64;
    let without = |sums: &[f64], parts: &[f64]| {
        value(&sums.iter().zip(parts).map(|(sum, part)| sum - part).collect::<Vec<_>>())
    };
    let left: Vec<f64> =
        first.iter().zip(second).map(|(parts, other)| without(b, other) - without(a, parts)).collect();
    let mean = left.iter().sum::<f64>() / n;
    let squares: f64 = left.iter().map(|estimate| (estimate - mean).powi(2)).sum();
    (first.len() > 1 && squares.is_finite()).then(|| ((n - 1.0) / n * squares).sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::{PairedTest, paired};
    use super::*;

    fn ratio(sums: &[f64]) -> f64 {
        sums[0] / sums[1]
    }

    fn with_one(values: &[f64]) -> Vec<Vec<f64>> {
        values.iter().map(|value| vec![*value, 1.0]).collect()
    }

    #[test]
    fn of_means_it_is_the_sign_flip_test() {
        let stream = Stream::new(7, Purpose::Test, 0);
        for n in [1u64, 2, 9, 16, 200] {
            let first: Vec<f64> = (0..n).map(|at| stream.uniform(at)).collect();
            let second: Vec<f64> = (0..n).map(|at| stream.uniform(1000 + at) + 0.08).collect();
            let (flipped, exchange) = (
                paired(&first, &second).unwrap(),
                exchanged(&with_one(&first), &with_one(&second), ratio).unwrap(),
            );
            assert!((exchange.difference - flipped.difference).abs() < 1e-12);
            let same = |a: Option<(f64, f64)>, b: Option<(f64, f64)>| match (a, b) {
                (Some(a), Some(b)) => (a.0 - b.0).abs() < 1e-9 && (a.1 - b.1).abs() < 1e-9,
                (a, b) => a == b,
            };
            assert!(same(exchange.interval, flipped.interval), "{exchange:?} is not {flipped:?}");
            // Draws use other random choices.
            let allowed = if n > 16 { 0.02 } else { 1e-12 };
            assert!((exchange.p - flipped.p).abs() <= allowed, "{exchange:?} is not {flipped:?}");
        }
    }

    #[test]
    fn a_system_against_itself_a_constant_difference_and_nothing_are_defined() {
        let system = with_one(&[0.5, 0.25, 0.75]);
        let same = exchanged(&system, &system, ratio).unwrap();
        assert_eq!((same.difference, same.p, same.interval), (0.0, 1.0, Some((0.0, 0.0))));
        let (low, high) = (with_one(&[0.5; 100]), with_one(&[0.75; 100]));
        let apart = exchanged(&low, &high, ratio).unwrap();
        assert!(apart.p > 0.0 && apart.p <= 1e-3 && apart.difference == 0.25, "{apart:?}");
        assert_eq!(apart.test, PairedTest::Exchange { exact: false });
        assert!(exchanged(&[], &[], ratio).is_none() && exchanged(&system, &system[..2], ratio).is_none());
        let single = exchanged(&system[..1], &low[..1], ratio).unwrap();
        assert_eq!((single.interval, single.p), (None, 1.0));
    }

    #[test]
    fn perplexities_that_are_clearly_apart_are_told_apart() {
        // Log-likelihoods and lengths of 40 strings; the second model is better on each.
        let first: Vec<Vec<f64>> = (0..40).map(|n| vec![-3.0 * f64::from(n + 5), f64::from(n + 5)]).collect();
        let second: Vec<Vec<f64>> =
            (0..40).map(|n| vec![-2.5 * f64::from(n + 5) - f64::from(n % 3), f64::from(n + 5)]).collect();
        let perplexity = |sums: &[f64]| (-sums[0] / sums[1]).exp();
        let found = exchanged(&first, &second, perplexity).unwrap();
        let (low, high) = found.interval.unwrap();
        assert!(
            found.difference < -7.0 && found.p < 0.001 && low < found.difference && high < -6.0,
            "{found:?}"
        );
    }
}
