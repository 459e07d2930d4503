//! Statistics: numbers in, numbers out.

mod correction;
mod exchanged;
mod fit;
mod importance;
mod noise;
mod paired;
#[cfg(test)]
mod reference;
mod unpaired;

pub use correction::{holm, holm_of};
pub use exchanged::exchanged;
pub use importance::{AxisEffect, Factorial, Importance, LevelEffect, PairEffect, importance};
pub use noise::{CellScores, Noise, NoiseSource, noise_of};
pub use paired::{Paired, PairedTest, paired};
pub use unpaired::{Unpaired, welch};

/// The mean of values; `None` if empty.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The sample standard deviation (n − 1); `None` for fewer than two.
pub fn sample_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_a_mean_but_no_deviation() {
        assert_eq!((mean(&[2.0]), sample_deviation(&[2.0])), (Some(2.0), None));
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn the_deviation_divides_by_n_minus_one() {
        assert_eq!(sample_deviation(&[1.0, 2.0, 3.0]), Some(1.0));
    }
}
