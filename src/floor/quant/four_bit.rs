//! 4-bit quantization and dequantization.

use super::BLOCK;
use super::codebook::Code;

/// A quantized tensor of any shape.
#[derive(Debug, Clone, PartialEq)]
pub struct FourBit {
    /// Two codes per byte, the even element in the high nibble; an odd last element is padded with the code of zero.
    pub packed: Vec<u8>,
    /// Largest magnitude of each block of 64 elements.
    pub absmax: Vec<f32>,
}

/// Quantizes a flat tensor as bitsandbytes 0.50 does on every shape: whole blocks are multiplied by the reciprocal of
/// their magnitude, a partial block at the end is divided by it.
pub fn quantize(values: &[f32], code: Code) -> FourBit {
    let mut packed = vec![0u8; values.len().div_ceil(2)];
    let mut absmax = vec![0.0f32; values.len().div_ceil(BLOCK)];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // Blocks are independent; a thread pays off from a few milliseconds on.
    let part = (values.len().div_ceil(threads).div_ceil(BLOCK) * BLOCK).max(LEAST_PART);
    std::thread::scope(|scope| {
        let parts = values.chunks(part).zip(packed.chunks_mut(part / 2)).zip(absmax.chunks_mut(part / BLOCK));
        for ((values, packed), absmax) in parts {
            if values.len() == part {
                scope.spawn(move || quantize_blocks(values, code, packed, absmax));
            } else {
                // The rest, on this thread.
                quantize_blocks(values, code, packed, absmax);
            }
        }
    });
    FourBit { packed, absmax }
}

/// Minimum elements per thread.
const LEAST_PART: usize = 1 << 16;

/// Quantizes blocks into the output.
fn quantize_blocks(values: &[f32], code: Code, packed: &mut [u8], absmax: &mut [f32]) {
    let bounds = code.bounds();
    let codes: [u8; 16] = std::array::from_fn(|n| code.nth(n));
    for ((block, bytes), magnitude) in values.chunks(BLOCK).zip(packed.chunks_mut(BLOCK / 2)).zip(absmax) {
        let largest = block.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let floor = largest.max(1e-38);
        let mut scaled = [0.0f32; BLOCK];
        if block.len() == BLOCK {
            *magnitude = largest;
            let reciprocal = 1.0 / floor;
            scaled.iter_mut().zip(block).for_each(|(to, x)| *to = (x * reciprocal).clamp(-1.0, 1.0));
        } else {
            *magnitude = floor;
            scaled.iter_mut().zip(block).for_each(|(to, x)| *to = (x / floor).clamp(-1.0, 1.0));
        }
        // A value's code rank is the number of bounds below it. Loop over bounds outside and the block inside, so the
        // comparisons vectorize.
        let mut places = [0u32; BLOCK];
        for bound in bounds {
            places.iter_mut().zip(&scaled).for_each(|(place, x)| *place += u32::from(bound < *x));
        }
        for (byte, pair) in bytes.iter_mut().zip(places.chunks_exact(2)) {
            *byte = codes[pair[0] as usize] << 4 | codes[pair[1] as usize];
        }
    }
}

/// The first `len` values, each one product in single precision.
pub fn dequantize(packed: &[u8], absmax: &[f32], code: Code, len: usize) -> Vec<f32> {
    let values = code.values();
    let mut out = Vec::with_capacity(packed.len() * 2);
    for (bytes, scale) in packed.chunks(BLOCK / 2).zip(absmax) {
        for byte in bytes {
            out.push(values[usize::from(byte >> 4)] * scale);
            out.push(values[usize::from(byte & 0x0F)] * scale);
        }
    }
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_that_codes_stand_for_come_back_to_the_bit(
            codes in proptest::collection::vec(0u8..16, 1..200),
            scale in 1e-3f32..1e3,
        ) {
            for code in [Code::Nf4, Code::Fp4] {
                // Each block starts with its largest magnitude, so its scale is recovered.
                let mut values: Vec<f32> = codes.iter().map(|c| code.values()[usize::from(*c)] * scale).collect();
                values.iter_mut().step_by(BLOCK).for_each(|x| *x = scale);
                let quantized = quantize(&values, code);
                prop_assert_eq!(quantized.packed.len(), values.len().div_ceil(2));
                prop_assert_eq!(dequantize(&quantized.packed, &quantized.absmax, code, values.len()), values);
            }
        }
    }

    #[test]
    fn an_odd_last_element_shares_its_byte_with_a_zero() {
        let quantized = quantize(&[0.5, -1.0, 1.0], Code::Nf4);
        assert_eq!(quantized.packed, [0xC0, 0xF7]);
        assert_eq!(dequantize(&quantized.packed, &quantized.absmax, Code::Nf4, 3)[1..], [-1.0, 1.0]);
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        for code in [Code::Nf4, Code::Fp4] {
            let quantized = quantize(&[0.0; 70], code);
            assert_eq!(quantized.absmax[0], 0.0);
            assert_eq!(dequantize(&quantized.packed, &quantized.absmax, code, 70), [0.0; 70]);
        }
    }
}
