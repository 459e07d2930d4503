//! Tensors as a file stores them, before any device sees them.

use half::{bf16, f16};

/// Name, shape and type of a stored tensor. `stored_as` is the file's own word (`Q4_1`, `BF16`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name as Hugging Face checkpoints of the architecture spell it.
    pub name: String,
    /// Shape, slowest dimension first.
    pub shape: Vec<u64>,
    /// The file's word for the element or block type.
    pub stored_as: String,
}

/// The elements of a tensor, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    /// IEEE single.
    F32(Vec<f32>),
    /// IEEE half.
    F16(Vec<f16>),
    /// bfloat16.
    Bf16(Vec<bf16>),
}

/// A tensor in memory: `shape` multiplies to the number of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorData {
    /// Shape, slowest dimension first.
    pub shape: Vec<u64>,
    /// The elements, row-major.
    pub elements: Elements,
}
