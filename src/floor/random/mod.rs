//! Counter-based random numbers: a value is a function of (seed, purpose, step, element), independent of earlier draws.

/// A stream's purpose; streams with different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial values of an adapter; the step is the tensor's number.
    Init = 1,
    /// Permutation of an epoch; the step is the epoch.
    Order = 2,
    /// Dropout; the step is the row's index in the run.
    Dropout = 3,
    /// Rows of a generated data set.
    Data = 4,
    /// Choice of validation rows.
    Validation = 5,
    /// Token sampling; the step is the token's position.
    Sample = 6,
    /// Draws of a statistical test.
    Test = 7,
}

/// The stream of one (seed, purpose, step): SplitMix64's output function (Steele, Lea and Flood 2014) over a counter
/// that starts at a hash of the three.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    key: u64,
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Stream {
    /// The stream for a seed, a purpose and a step.
    pub fn new(seed: u64, purpose: Purpose, step: u64) -> Self {
        let fold = |state: u64, word: u64| mix(state.wrapping_add(GOLDEN) ^ mix(word.wrapping_add(GOLDEN)));
        Self { key: fold(fold(fold(0, seed), purpose as u64), step) }
    }

    /// A substream of this one.
    pub fn part(self, number: u64) -> Self {
        Self { key: mix(self.key ^ mix(number.wrapping_add(GOLDEN))) }
    }

    /// Its identity: where its counter starts.
    pub fn key(self) -> u64 {
        self.key
    }

    /// 64 random bits.
    pub fn bits(self, element: u64) -> u64 {
        mix(self.key.wrapping_add(element.wrapping_mul(GOLDEN)))
    }

    /// A number in [0, 1) with 53 random bits.
    pub fn uniform(self, element: u64) -> f64 {
        (self.bits(element) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A standard normal number (Box and Muller 1958).
    pub fn normal(self, element: u64) -> f64 {
        // 1 − u is in (0, 1], so its logarithm is finite.
        let (radius, angle) = (1.0 - self.uniform(2 * element), self.uniform(2 * element + 1));
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// An integer below `n` (n > 0). The bias is below n / 2⁶⁴.
    pub fn below(self, element: u64, n: u64) -> u64 {
        ((u128::from(self.bits(element)) * u128::from(n)) >> 64) as u64
    }

    /// A permutation of 0..n (Fisher and Yates).
    pub fn permutation(self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u64, i as u64 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn uniform_numbers_have_the_moments_of_the_unit_interval() {
        let stream = Stream::new(1, Purpose::Dropout, 7);
        let n = 100_000;
        let mean = (0..n).map(|i| stream.uniform(i)).sum::<f64>() / n as f64;
        let square = (0..n).map(|i| stream.uniform(i).powi(2)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        assert!((square - 1.0 / 3.0).abs() < 0.005, "{square}");
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let stream = Stream::new(1, Purpose::Init, 3);
        let n = 100_000;
        let mean = (0..n).map(|i| stream.normal(i)).sum::<f64>() / n as f64;
        let square = (0..n).map(|i| stream.normal(i).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.02 && (square - 1.0).abs() < 0.02, "{mean} {square}");
    }

    #[test]
    fn streams_of_other_seeds_purposes_and_steps_differ() {
        let base = Stream::new(1, Purpose::Init, 0).bits(0);
        for other in [
            Stream::new(2, Purpose::Init, 0),
            Stream::new(1, Purpose::Order, 0),
            Stream::new(1, Purpose::Init, 1),
            Stream::new(1, Purpose::Init, 0).part(0),
        ] {
            assert_ne!(other.bits(0), base);
        }
    }

    proptest! {
        #[test]
        fn a_permutation_has_each_number_once(seed: u64, n in 0usize..200) {
            let mut order = Stream::new(seed, Purpose::Order, 0).permutation(n);
            order.sort_unstable();
            prop_assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }
}
