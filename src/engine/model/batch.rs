//! Concatenated sequences as tensors.

use tch::{Device, Tensor};

/// From this many rows on, a matrix product's rows do not depend on each other; smaller products use other kernels.
const LEAST_ROWS: i64 = 16;
/// Up to this many rows, counts are multiples of the minimum; beyond, of this.
const ROWS_STEP: i64 = 64;

/// The padded number of rows for a pass. Product kernels are built per row count, which takes time and memory; few
/// distinct counts keep that small.
pub(crate) fn filled(rows: i64) -> i64 {
    let step = if rows <= ROWS_STEP { LEAST_ROWS } else { ROWS_STEP };
    (rows.max(LEAST_ROWS) + step - 1) / step * step
}

/// Neighboring sequences of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Number of sequences.
    pub(crate) count: i64,
    /// Tokens per sequence.
    pub(crate) length: i64,
}

/// The input of a pass.
pub(crate) struct Batch {
    /// `[tokens]`, 64-bit.
    pub(crate) tokens: Tensor,
    /// `[tokens]`, 64-bit; restarts at 0 with each sequence.
    pub(crate) positions: Tensor,
    /// The sequences, in order.
    pub(crate) runs: Vec<Run>,
}

impl Batch {
    /// Concatenates sequences in the given order, then adds an unused one to reach [`filled`] rows.
    pub(crate) fn filled(sequences: &[&[u32]], device: Device) -> Self {
        let rows: i64 = sequences.iter().map(|sequence| sequence.len() as i64).sum();
        let filling = vec![0; (filled(rows) - rows) as usize];
        let mut all = sequences.to_vec();
        if !filling.is_empty() {
            all.push(&filling);
        }
        Self::new(&all, device)
    }

    /// Concatenates sequences in the given order.
    pub(crate) fn new(sequences: &[&[u32]], device: Device) -> Self {
        let mut tokens = Vec::new();
        let mut positions = Vec::new();
        let mut runs: Vec<Run> = Vec::new();
        for sequence in sequences {
            let length = sequence.len() as i64;
            tokens.extend(sequence.iter().map(|&token| i64::from(token)));
            positions.extend(0..length);
            match runs.last_mut() {
                Some(run) if run.length == length => run.count += 1,
                _ => runs.push(Run { count: 1, length }),
            }
        }
        Self {
            tokens: Tensor::from_slice(&tokens).to_device(device),
            positions: Tensor::from_slice(&positions).to_device(device),
            runs,
        }
    }
}
