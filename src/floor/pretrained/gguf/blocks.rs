//! GGUF element and block types and their decoding (layouts from ggml-org's `ggml-quants`).

use std::fmt;

use half::{bf16, f16};

use super::k_quants;

/// How a tensor's elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// 32 elements: a half scale, 16 bytes of nibbles; value = scale × (nibble − 8).
    Q4_0,
    /// 32 elements: a half scale, a half minimum, 16 bytes of nibbles; value = scale × nibble + minimum.
    Q4_1,
    /// 32 elements: a half scale, 4 bytes of fifth bits, 16 bytes of nibbles; value = scale × (5-bit − 16).
    Q5_0,
    /// 32 elements: a half scale, a half minimum, 4 bytes of fifth bits, 16 bytes of nibbles;
    /// value = scale × 5-bit + minimum.
    Q5_1,
    /// 32 elements: a half scale, 32 signed bytes; value = scale × byte.
    Q8_0,
    /// 256 elements in 4 bits with 6-bit scales and minimums.
    Q4K,
    /// 256 elements in 5 bits with 6-bit scales and minimums.
    Q5K,
    /// 256 elements in 6 bits with 8-bit scales.
    Q6K,
}

/// Names of ggml's type numbers, for errors about unsupported types.
const TYPE_NAMES: &[(u32, &str)] = &[
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

impl BlockType {
    /// The type with ggml's number; the error is the name of an unsupported type.
    pub(super) fn from_tag(tag: u32) -> Result<Self, String> {
        Ok(match tag {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            other => {
                let known = TYPE_NAMES.iter().find(|(n, _)| *n == other);
                return Err(known.map_or_else(|| format!("number {other}"), |(_, name)| (*name).to_owned()));
            }
        })
    }

    /// Elements per block.
    pub fn elements(self) -> u64 {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => k_quants::ELEMENTS as u64,
        }
    }

    /// Block size in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// All elements of whole blocks as f32, rounded in f32 where ggml rounds.
    pub(super) fn dequantize(self, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::with_capacity(bytes.len() / self.bytes() as usize * self.elements() as usize);
        for block in bytes.chunks_exact(self.bytes() as usize) {
            match self {
                Self::F32 => out.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
                Self::F16 => out.push(half_at(block, 0)),
                Self::Bf16 => out.push(bf16::from_le_bytes([block[0], block[1]]).to_f32()),
                Self::Q4_0 => {
                    let scale = half_at(block, 0);
                    nibbles(&block[2..], &mut out, |n| (f32::from(n) - 8.0) * scale);
                }
                Self::Q4_1 => {
                    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
                    nibbles(&block[4..], &mut out, |n| f32::from(n) * scale + minimum);
                }
                Self::Q5_0 => {
                    let scale = half_at(block, 0);
                    fives(&block[2..6], &block[6..], &mut out, |n| (f32::from(n) - 16.0) * scale);
                }
                Self::Q5_1 => {
                    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
                    fives(&block[4..8], &block[8..], &mut out, |n| f32::from(n) * scale + minimum);
                }
                Self::Q4K => k_quants::q4_k(block, &mut out),
                Self::Q5K => k_quants::q5_k(block, &mut out),
                Self::Q6K => k_quants::q6_k(block, &mut out),
                Self::Q8_0 => {
                    let scale = half_at(block, 0);
                    out.extend(block[2..].iter().map(|&byte| f32::from(byte as i8) * scale));
                }
            }
        }
        out
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        })
    }
}

pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// All bytes' low nibbles first, then the high ones.
fn nibbles(bytes: &[u8], out: &mut Vec<f32>, value: impl Fn(u8) -> f32) {
    out.extend(bytes.iter().map(|byte| value(byte & 0x0F)));
    out.extend(bytes.iter().map(|byte| value(byte >> 4)));
}

/// Like [`nibbles`] with a fifth bit: bit n of the four bytes belongs to element n.
fn fives(bits: &[u8], bytes: &[u8], out: &mut Vec<f32>, value: impl Fn(u8) -> f32) {
    let high = |n: usize| (bits[n / 8] >> (n % 8) & 1) << 4;
    out.extend(bytes.iter().enumerate().map(|(n, byte)| value(byte & 0x0F | high(n))));
    out.extend(bytes.iter().enumerate().map(|(n, byte)| value(byte >> 4 | high(n + 16))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::{Elements, SafetensorsFile};

    #[test]
    fn blocks_have_the_values_of_the_python_package_to_the_bit() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference");
        let file = SafetensorsFile::open(&folder.join("gguf_blocks.safetensors")).unwrap();
        for tag in [2, 3, 6, 7, 8, 12, 13, 14] {
            let kind = BlockType::from_tag(tag).unwrap();
            let (_, blocks) = file.read_bytes(&format!("{kind}.blocks")).unwrap();
            let Elements::F32(expected) = file.read(&format!("{kind}.values")).unwrap().elements else {
                panic!("values are in single precision")
            };
            assert_eq!(kind.dequantize(blocks), expected, "{kind}");
        }
    }

    #[test]
    fn q4_1_reads_low_nibbles_first_then_high_ones() {
        let mut block = Vec::new();
        block.extend(f16::from_f32(0.5).to_le_bytes());
        block.extend(f16::from_f32(-1.0).to_le_bytes());
        block.extend((0..16u8).map(|n| n | ((15 - n) << 4)));
        let values = BlockType::Q4_1.dequantize(&block);
        assert_eq!(values.len(), 32);
        assert_eq!(values[..3], [-1.0, -0.5, 0.0]);
        assert_eq!(values[16..19], [6.5, 6.0, 5.5]);
    }

    #[test]
    fn q4_0_is_centred_at_eight_and_q8_0_is_signed() {
        let mut block = f16::from_f32(2.0).to_le_bytes().to_vec();
        block.extend([0x80; 16]);
        let values = BlockType::Q4_0.dequantize(&block);
        assert_eq!((values[0], values[16]), (-16.0, 0.0));
        let mut block = f16::from_f32(0.25).to_le_bytes().to_vec();
        block.extend([0xFF; 32]);
        assert_eq!(BlockType::Q8_0.dequantize(&block), [-0.25; 32]);
    }

    #[test]
    fn a_type_that_is_not_read_is_refused_by_name() {
        assert_eq!(BlockType::from_tag(10), Err("Q2_K".to_owned()));
        assert_eq!(BlockType::from_tag(999), Err("number 999".to_owned()));
    }
}
