//! 4-bit weights in plain Rust: a bit-exact reference of bitsandbytes' nf4 and fp4 (Dettmers et al. 2023).
//!
//! A tensor is flattened and split into blocks of [`BLOCK`] elements, each with its largest magnitude; two elements
//! share a byte, the even one in the high nibble. With double quantization the magnitudes, minus their mean, are 8-bit
//! codes in blocks of [`NESTED_BLOCK`].

mod codebook;
mod double;
mod four_bit;

pub use codebook::{Code, FP4, NF4, dynamic_code};
pub use double::NestedAbsmax;
pub use four_bit::{FourBit, dequantize, quantize};

/// Elements per magnitude.
pub const BLOCK: usize = 64;
/// Magnitudes per nested magnitude.
pub const NESTED_BLOCK: usize = 256;
