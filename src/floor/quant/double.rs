//! Block magnitudes as 8-bit codes.

use super::NESTED_BLOCK;
use super::codebook::dynamic_code;

/// Grid points in −1 … 1 with a precomputed nearest code.
const POINTS: usize = 65_536;

/// The quantized magnitudes of a tensor's blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct NestedAbsmax {
    /// One code per block.
    pub codes: Vec<u8>,
    /// Largest distance from the mean in each block of 256 codes.
    pub absmax: Vec<f32>,
    /// Mean of the magnitudes.
    pub offset: f32,
    /// Value of each code.
    pub code: Vec<f32>,
}

impl NestedAbsmax {
    /// Quantizes magnitudes. `mean` is their mean from libtorch, whose summation order differs.
    pub fn quantize(magnitudes: &[f32], mean: f32) -> Self {
        let code = dynamic_code();
        let nearest = nearest_codes(&code);
        let mut codes = Vec::with_capacity(magnitudes.len());
        let mut absmax = Vec::with_capacity(magnitudes.len().div_ceil(NESTED_BLOCK));
        for block in magnitudes.chunks(NESTED_BLOCK) {
            let distances: Vec<f32> = block.iter().map(|x| x - mean).collect();
            let largest = distances.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            absmax.push(largest);
            let reciprocal = 1.0 / largest;
            let index = |x: &f32| {
                let value = (x * reciprocal).clamp(-1.0, 1.0);
                nearest[((value + 1.0) * 0.5).mul_add((POINTS - 1) as f32, 0.5) as usize]
            };
            // A constant block is all zeros in bitsandbytes: the first code, times zero.
            codes.extend(distances.iter().map(|x| if largest == 0.0 { 0 } else { index(x) }));
        }
        Self { codes, absmax, offset: mean, code: code.to_vec() }
    }

    /// Dequantizes the magnitudes: a product and a sum, each rounded to single precision.
    pub fn dequantize(&self) -> Vec<f32> {
        let blocks = self.codes.chunks(NESTED_BLOCK).zip(&self.absmax);
        let value = |code: &u8, scale: &f32| self.code[usize::from(*code)] * scale + self.offset;
        blocks.flat_map(|(codes, scale)| codes.iter().map(move |code| value(code, scale))).collect()
    }
}

/// The nearest code of each grid point, the lower one in a tie.
fn nearest_codes(code: &[f32; 256]) -> Vec<u8> {
    let mut at = 0;
    let point = |n: usize| -1.0 + (2.0 * n as f32) / (POINTS - 1) as f32;
    let advance = |n: usize| {
        while at < 255 && 0.5 * (code[at] + code[at + 1]) < point(n) {
            at += 1;
        }
        at as u8
    };
    (0..POINTS).map(advance).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_come_back_within_half_a_code() {
        let magnitudes: Vec<f32> = (0..600).map(|n| 1.0 + (n % 37) as f32 / 37.0).collect();
        let mean = magnitudes.iter().sum::<f32>() / 600.0;
        let nested = NestedAbsmax::quantize(&magnitudes, mean);
        assert_eq!(nested.absmax.len(), 3);
        for (magnitude, exact) in nested.dequantize().iter().zip(&magnitudes) {
            assert!((magnitude - exact).abs() < 0.01, "{magnitude} for {exact}");
        }
    }

    #[test]
    fn equal_magnitudes_come_back_to_the_bit() {
        assert_eq!(NestedAbsmax::quantize(&[0.25; 10], 0.25).dequantize(), [0.25; 10]);
    }
}
