//! Tensors as stored in a file, before any device.

use std::ops::Range;

use half::{bf16, f16};

/// Name, shape and type of a stored tensor. `stored_as` is the file's type name (`Q4_1`, `BF16`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in Hugging Face checkpoints of the architecture.
    pub name: String,
    /// Shape, slowest dimension first.
    pub shape: Vec<u64>,
    /// The file's name for the element or block type.
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

/// A tensor in memory: the product of `shape` is the number of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorData {
    /// Shape, slowest dimension first.
    pub shape: Vec<u64>,
    /// The elements, row-major.
    pub elements: Elements,
}

impl TensorData {
    /// Its bytes.
    pub fn size(&self) -> u64 {
        match &self.elements {
            Elements::F32(values) => 4 * values.len() as u64,
            Elements::F16(values) => 2 * values.len() as u64,
            Elements::Bf16(values) => 2 * values.len() as u64,
        }
    }

    /// Some of its rows, in the given order. The ranges must be in bounds.
    pub fn rows(self, rows: &[Range<u64>]) -> Self {
        let width = self.shape[1..].iter().product::<u64>();
        fn pick<T: Copy>(values: &[T], width: u64, rows: &[Range<u64>]) -> Vec<T> {
            let part =
                |range: &Range<u64>| &values[(range.start * width) as usize..(range.end * width) as usize];
            rows.iter().flat_map(part).copied().collect()
        }
        let elements = match &self.elements {
            Elements::F32(values) => Elements::F32(pick(values, width, rows)),
            Elements::F16(values) => Elements::F16(pick(values, width, rows)),
            Elements::Bf16(values) => Elements::Bf16(pick(values, width, rows)),
        };
        let mut shape = self.shape;
        shape[0] = rows.iter().map(|range| range.end - range.start).sum();
        Self { shape, elements }
    }
}
