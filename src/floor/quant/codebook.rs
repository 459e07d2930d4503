//! The values of 4-bit and 8-bit codes.

use serde::{Deserialize, Serialize};

/// A 4-bit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// 4-bit NormalFloat: quantiles of the normal distribution.
    Nf4,
    /// A sign, two exponent bits, one mantissa bit.
    Fp4,
}

/// Values of nf4's codes, ascending (QLoRA, appendix E).
pub const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Values of fp4's codes in bit order: multiples of 1/12, the sign in the highest bit.
pub const FP4: [f32; 16] = {
    let magnitudes = [0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0];
    let mut values = [0.0; 16];
    let mut n = 0;
    while n < 8 {
        values[n] = magnitudes[n] / 12.0;
        values[n + 8] = -magnitudes[n] / 12.0;
        n += 1;
    }
    values
};

/// fp4's codes by ascending value.
const FP4_ORDER: [u8; 16] = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3];

impl Code {
    /// The value of each code.
    pub fn values(self) -> &'static [f32; 16] {
        match self {
            Self::Nf4 => &NF4,
            Self::Fp4 => &FP4,
        }
    }

    /// The code of the n-th smallest value.
    pub(super) fn nth(self, n: usize) -> u8 {
        match self {
            Self::Nf4 => n as u8,
            Self::Fp4 => FP4_ORDER[n],
        }
    }

    /// The midpoints between adjacent values.
    pub(super) fn bounds(self) -> [f32; 15] {
        let value = |n: usize| self.values()[usize::from(self.nth(n))];
        std::array::from_fn(|n| (value(n) + value(n + 1)) / 2.0)
    }
}

/// The 256 values of the signed 8-bit dynamic code (Dettmers et al. 2022): seven decades, each divided more finely than
/// the one below, with 0 and 1. Computed step by step in single precision as in bitsandbytes.
pub fn dynamic_code() -> [f32; 256] {
    let mut values = vec![0.0f32, 1.0];
    for decade in 0..7i32 {
        let steps = 1usize << decade;
        let scale = 10f64.powi(decade - 6) as f32;
        let bounds: Vec<f32> = (0..=steps).map(|n| linspace(n, steps)).collect();
        for pair in bounds.windows(2) {
            let mean = (pair[0] + pair[1]) / 2.0 * scale;
            values.extend([mean, -mean]);
        }
    }
    values.sort_by(f32::total_cmp);
    std::array::from_fn(|n| values[n])
}

/// Element n of `torch.linspace(0.1, 1, steps + 1)`: counted from the nearer end, each product and sum rounded once.
fn linspace(n: usize, steps: usize) -> f32 {
    let (start, end) = (0.1f32, 1.0f32);
    let step = (end - start) / steps as f32;
    if n < steps.div_ceil(2) {
        step.mul_add(n as f32, start)
    } else {
        (-step).mul_add((steps - n) as f32, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_by_ascending_value_ascend() {
        for code in [Code::Nf4, Code::Fp4] {
            let sorted: Vec<f32> = (0..16).map(|n| code.values()[usize::from(code.nth(n))]).collect();
            assert!(sorted.is_sorted(), "{code:?}");
            assert_eq!((sorted[0], sorted[15]), (-1.0, 1.0));
        }
    }

    #[test]
    fn the_dynamic_code_has_256_ascending_values() {
        let code = dynamic_code();
        assert!(code.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((code[127], code[255]), (0.0, 1.0));
    }
}
