//! Two systems on the same documents.

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, StudentsT};

use super::{mean, sample_deviation};
use crate::random::{Purpose, Stream};

/// Up to this many differences, all sign assignments are enumerated; beyond it they are drawn.
pub(super) const EXACT: usize = 16;
/// Number of drawn sign assignments.
pub(super) const DRAWS: u64 = 9_999;
/// Fraction of the differences outside the interval.
const LEVEL: f64 = 0.05;

/// The result of a paired comparison of two systems.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// Documents.
    pub documents: usize,
    /// Mean of the second less the first.
    pub difference: f64,
    /// 95 % confidence interval of the difference (Student's t over the documents, by the jackknife if the value is not a mean; within −1
    /// and 1 if values are 0 and 1); none for one document.
    pub interval: Option<(f64, f64)>,
    /// Probability of such a difference or a larger one if the systems are exchangeable; never 0.
    pub p: f64,
    /// The test.
    pub test: PairedTest,
    /// Documents that only the second has right, and that only the first has right; none if values are not 0 and 1.
    pub flips: Option<(usize, usize)>,
}

/// A paired test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairedTest {
    /// McNemar's test of flips by the binomial distribution (1947).
    McNemar,
    /// Sign-flip test of the differences, enumerated or drawn (Fisher 1935).
    SignFlip {
        /// Whether all assignments were enumerated.
        exact: bool,
    },
    /// Documents of the two systems exchanged, for values that are not a mean (Yeh 2000); enumerated or drawn.
    Exchange {
        /// Whether all choices were enumerated.
        exact: bool,
    },
}

/// Compares the values of two systems on the same documents, in the same order. None without documents, with unequal numbers, or if a
/// value is not finite.
pub fn paired(first: &[f64], second: &[f64]) -> Option<Paired> {
    if first.len() != second.len() || first.iter().chain(second).any(|value| !value.is_finite()) {
        return None;
    }
    let differences: Vec<f64> = second.iter().zip(first).map(|(b, a)| b - a).collect();
    let difference = mean(&differences)?;
    let binary = first.iter().chain(second).all(|value| *value == 0.0 || *value == 1.0);
    let flips = binary.then(|| {
        let count = |sign: f64| differences.iter().filter(|d| **d == sign).count();
        (count(1.0), count(-1.0))
    });
    let (p, test) = match flips {
        Some((gained, lost)) => (mcnemar(gained, lost), PairedTest::McNemar),
        None => sign_flip(&differences),
    };
    let interval = match interval(&differences, difference) {
        Some((low, high)) if binary => Some((low.max(-1.0), high.min(1.0))),
        any => any,
    };
    Some(Paired { documents: first.len(), difference, interval, p, test, flips })
}

/// Two-sided binomial p of flips that are equally likely either way.
fn mcnemar(gained: usize, lost: usize) -> f64 {
    let flips = (gained + lost) as u64;
    let Ok(binomial) = Binomial::new(0.5, flips) else { return 1.0 };
    (2.0 * binomial.cdf(gained.min(lost) as u64)).clamp(f64::MIN_POSITIVE, 1.0)
}

fn sign_flip(differences: &[f64]) -> (f64, PairedTest) {
    // Zero differences have no sign.
    let differences: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    let sum = |signs: &dyn Fn(usize) -> bool| -> f64 {
        differences.iter().enumerate().map(|(n, d)| if signs(n) { -d } else { *d }).sum()
    };
    let size: f64 = differences.iter().map(|d| d.abs()).sum();
    // Sums of the same numbers with other signs differ in their last digits.
    let least = sum(&|_| false).abs() - 1e-12 * size;
    let exact = differences.len() <= EXACT;
    let p = if exact {
        let all = 1u64 << differences.len();
        let extreme = (0..all).filter(|choice| sum(&|n| choice >> n & 1 == 1).abs() >= least).count();
        extreme as f64 / all as f64
    } else {
        (drawn(&differences, least) + 1) as f64 / (DRAWS + 1) as f64
    };
    (p, PairedTest::SignFlip { exact })
}

/// How many drawn sign assignments have a sum of at least this size. Eight differences at a time are looked up by their signs.
fn drawn(differences: &[f64], least: f64) -> usize {
    let tables: Vec<[f64; 256]> = differences
        .chunks(8)
        .map(|chunk| {
            std::array::from_fn(|signs| {
                chunk.iter().enumerate().map(|(n, d)| if signs >> n & 1 == 1 { -d } else { *d }).sum()
            })
        })
        .collect();
    let words = tables.len().div_ceil(8) as u64;
    let stream = Stream::new(0, Purpose::Test, 0);
    let sum = |draw: &u64| -> f64 {
        let of_word = |(word, tables): (usize, &[[f64; 256]])| -> f64 {
            let bits = stream.bits(draw * words + word as u64).to_le_bytes();
            tables.iter().zip(bits).map(|(table, signs)| table[usize::from(signs)]).sum()
        };
        tables.chunks(8).enumerate().map(of_word).sum()
    };
    (0..DRAWS).filter(|draw| sum(draw).abs() >= least).count()
}

fn interval(differences: &[f64], difference: f64) -> Option<(f64, f64)> {
    around(difference, sample_deviation(differences)? / (differences.len() as f64).sqrt(), differences.len())
}

/// Student's interval around a value with this standard error over this many documents.
pub(super) fn around(value: f64, error: f64, documents: usize) -> Option<(f64, f64)> {
    let freedom = documents.checked_sub(1)? as f64;
    let half = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(1.0 - LEVEL / 2.0) * error;
    Some((value - half, value + half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_system_against_itself_is_no_difference() {
        for values in [vec![0.0, 1.0, 1.0], vec![0.25, 0.5, 0.125]] {
            let same = paired(&values, &values).unwrap();
            assert_eq!((same.difference, same.p, same.interval), (0.0, 1.0, Some((0.0, 0.0))));
        }
    }

    #[test]
    fn a_constant_difference_has_a_defined_answer() {
        let first = [0.5; 100];
        let second = [0.75; 100];
        let found = paired(&first, &second).unwrap();
        assert_eq!((found.difference, found.interval), (0.25, Some((0.25, 0.25))));
        assert!(found.p > 0.0 && found.p <= 1e-3, "{}", found.p);
        let few = paired(&first[..3], &second[..3]).unwrap();
        assert_eq!((few.p, few.test), (0.25, PairedTest::SignFlip { exact: true }));
    }

    #[test]
    fn flips_that_are_all_one_way_never_have_probability_zero() {
        let (wrong, right) = (vec![0.0; 5000], vec![1.0; 5000]);
        let found = paired(&wrong, &right).unwrap();
        assert_eq!(found.flips, Some((5000, 0)));
        assert!(found.p > 0.0 && found.p < 1e-300);
    }

    #[test]
    fn what_cannot_be_compared_is_not() {
        assert_eq!(paired(&[], &[]), None);
        assert_eq!(paired(&[1.0], &[1.0, 0.0]), None);
        assert_eq!(paired(&[f64::NAN], &[1.0]), None);
        assert_eq!(paired(&[0.0], &[1.0]).unwrap().interval, None);
    }

    proptest! {
        #[test]
        fn the_order_of_systems_and_documents_does_not_matter(
            pairs in prop::collection::vec((0u8..4, 0u8..4), 1..14),
            turn in 0usize..14,
        ) {
            let column = |pairs: &[(u8, u8)], second: bool| -> Vec<f64> {
                pairs.iter().map(|(a, b)| f64::from(if second { *b } else { *a }) / 4.0).collect()
            };
            let found = paired(&column(&pairs, false), &column(&pairs, true)).unwrap();
            let back = paired(&column(&pairs, true), &column(&pairs, false)).unwrap();
            let mut turned = pairs.clone();
            turned.rotate_left(turn % pairs.len());
            let other = paired(&column(&turned, false), &column(&turned, true)).unwrap();
            prop_assert!(found.p > 0.0 && found.p <= 1.0);
            prop_assert!((found.p - back.p).abs() < 1e-12 && (found.p - other.p).abs() < 1e-12);
            prop_assert!((found.difference + back.difference).abs() < 1e-12);
        }
    }
}
