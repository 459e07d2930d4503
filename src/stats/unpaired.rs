//! Two groups of independent runs.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{mean, sample_deviation};

/// The result of an unpaired comparison of two means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unpaired {
    /// Mean of the second less the first.
    pub difference: f64,
    /// Its 95 % confidence interval.
    pub interval: (f64, f64),
    /// Probability of such a difference or a larger one if the means are equal; never 0.
    pub p: f64,
}

/// Welch's t-test (1947), two-sided, for unequal variances. None unless both groups have two finite numbers or more.
pub fn welch(first: &[f64], second: &[f64]) -> Option<Unpaired> {
    if first.iter().chain(second).any(|value| !value.is_finite()) {
        return None;
    }
    let part = |sample: &[f64]| {
        Some((
            mean(sample)?,
            sample_deviation(sample)?.powi(2) / sample.len() as f64,
            sample.len() as f64 - 1.0,
        ))
    };
    let ((a, va, fa), (b, vb, fb)) = (part(first)?, part(second)?);
    let (difference, variance) = (b - a, va + vb);
    if variance == 0.0 {
        // Without any spread of runs, every difference is an effect.
        let p = if difference == 0.0 { 1.0 } else { f64::MIN_POSITIVE };
        return Some(Unpaired { difference, interval: (difference, difference), p });
    }
    let freedom = variance.powi(2) / (va.powi(2) / fa + vb.powi(2) / fb);
    let distribution = StudentsT::new(0.0, 1.0, freedom).ok()?;
    let t = difference / variance.sqrt();
    let p = (2.0 * distribution.sf(t.abs())).clamp(f64::MIN_POSITIVE, 1.0);
    let half = distribution.inverse_cdf(0.975) * variance.sqrt();
    Some(Unpaired { difference, interval: (difference - half, difference + half), p })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_do_not_spread_have_a_defined_answer_and_single_runs_have_none() {
        let same = welch(&[0.5, 0.5], &[0.5, 0.5, 0.5]).unwrap();
        assert_eq!((same.difference, same.p), (0.0, 1.0));
        let other = welch(&[0.5, 0.5], &[0.75, 0.75]).unwrap();
        assert!(other.p > 0.0 && other.interval == (0.25, 0.25));
        assert_eq!(welch(&[0.5], &[0.5, 0.6]), None);
        assert_eq!(welch(&[0.5, f64::NAN], &[0.5, 0.6]), None);
    }
}
