//! Tensors as a file stores them, before any device sees them.

use half::{bf16, f16};

/// The type of a stored element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageDType {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
}

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

impl Elements {
    /// How many elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their type.
    pub fn dtype(&self) -> StorageDType {
        match self {
            Self::F32(_) => StorageDType::F32,
            Self::F16(_) => StorageDType::F16,
            Self::Bf16(_) => StorageDType::Bf16,
        }
    }

    /// Each element as f32, exactly.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::F32(v) => v.clone(),
            Self::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
            Self::Bf16(v) => v.iter().map(|x| x.to_f32()).collect(),
        }
    }
}

/// A tensor in memory: `shape` multiplies to the number of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorData {
    /// Shape, slowest dimension first.
    pub shape: Vec<u64>,
    /// The elements, row-major.
    pub elements: Elements,
}
