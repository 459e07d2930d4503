//! ggml's K types: super-blocks of 256 elements whose sub-blocks have scales of a few bits.

use super::blocks::half_at;

/// Elements per super-block.
pub(super) const ELEMENTS: usize = 256;

/// Scale and minimum of each of the 8 sub-blocks, 6 bits each: the first four in the low bits of bytes 0–7, the last
/// four in bytes 8–11 with their two highest bits above those of the first four.
fn scales_and_minimums(bytes: &[u8]) -> [(u8, u8); 8] {
    std::array::from_fn(|n| match n {
        0..4 => (bytes[n] & 63, bytes[n + 4] & 63),
        _ => {
            ((bytes[n + 4] & 0x0F) | ((bytes[n - 4] >> 6) << 4), (bytes[n + 4] >> 4) | ((bytes[n] >> 6) << 4))
        }
    })
}

/// A half scale, a half minimum, 12 bytes of sub-scales, 128 bytes of nibbles:
/// value = scale × sub-scale × nibble − minimum × sub-minimum.
pub(super) fn q4_k(block: &[u8], out: &mut Vec<f32>) {
    four_and_five_bits(block, &block[16..144], None, out);
}

/// As Q4_K with the fifth bits of all elements between, bit n of byte l for element l of sub-block n.
pub(super) fn q5_k(block: &[u8], out: &mut Vec<f32>) {
    four_and_five_bits(block, &block[48..176], Some(&block[16..48]), out);
}

fn four_and_five_bits(block: &[u8], nibbles: &[u8], fifth: Option<&[u8]>, out: &mut Vec<f32>) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    for (n, (factor, least)) in scales_and_minimums(&block[4..16]).into_iter().enumerate() {
        let (scale, minimum) = (scale * f32::from(factor), minimum * f32::from(least));
        let bytes = &nibbles[n / 2 * 32..n / 2 * 32 + 32];
        out.extend(bytes.iter().enumerate().map(|(at, byte)| {
            let low = if n.is_multiple_of(2) { byte & 0x0F } else { byte >> 4 };
            let high = fifth.map_or(0, |bits| (bits[at] >> n & 1) << 4);
            scale * f32::from(low | high) - minimum
        }));
    }
}

/// 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, a half scale: value = scale × sub-scale ×
/// (6-bit − 32). Each half of the block stores four runs of 32 elements in the same bytes.
pub(super) fn q6_k(block: &[u8], out: &mut Vec<f32>) {
    let scale = half_at(block, 208);
    for half in 0..2 {
        let (low, high) = (&block[half * 64..half * 64 + 64], &block[128 + half * 32..160 + half * 32]);
        let scales = &block[192 + half * 8..200 + half * 8];
        for run in 0..4 {
            out.extend((0..32).map(|at| {
                let byte = low[at + run % 2 * 32];
                let nibble = if run < 2 { byte & 0x0F } else { byte >> 4 };
                let six = nibble | ((high[at] >> (2 * run) & 3) << 4);
                let run_scale = scale * f32::from(scales[run * 2 + at / 16] as i8);
                run_scale * (f32::from(six) - 32.0)
            }));
        }
    }
}
