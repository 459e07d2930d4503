//! Sequences laid end to end, as tensors.

use tch::{Device, Tensor};

/// Rows from which a matrix product gives each row the same number whatever the others are: fewer go through other kernels.
const LEAST_ROWS: i64 = 16;
/// Rows up to which their number is a multiple of the least; beyond, of this.
const ROWS_STEP: i64 = 64;

/// The number of rows that a pass of so many is filled up to. Kernels of products are made for each number of rows, which takes
/// time and memory: passes of a few numbers only have a few of them.
pub(crate) fn filled(rows: i64) -> i64 {
    let step = if rows <= ROWS_STEP { LEAST_ROWS } else { ROWS_STEP };
    (rows.max(LEAST_ROWS) + step - 1) / step * step
}

/// Neighboring sequences of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// How many sequences.
    pub(crate) count: i64,
    /// Tokens of each.
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
    /// Lays sequences end to end in the given order, and after them one that nobody asks for, so that there are [`filled`]
    /// rows.
    pub(crate) fn filled(sequences: &[&[u32]], device: Device) -> Self {
        let rows: i64 = sequences.iter().map(|sequence| sequence.len() as i64).sum();
        let filling = vec![0; (filled(rows) - rows) as usize];
        let mut all = sequences.to_vec();
        if !filling.is_empty() {
            all.push(&filling);
        }
        Self::new(&all, device)
    }

    /// Lays sequences end to end in the given order.
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

    /// Runs of tokens, each from its own position on. What a token sees is not said here.
    pub(crate) fn branches(branches: &[(usize, &[u32])], device: Device) -> Self {
        let tokens: Vec<i64> =
            branches.iter().flat_map(|(_, tokens)| tokens.iter().map(|&t| t.into())).collect();
        let places = branches.iter().flat_map(|(start, tokens)| *start..start + tokens.len());
        let positions: Vec<i64> = places.map(|place| place as i64).collect();
        Self {
            tokens: Tensor::from_slice(&tokens).to_device(device),
            positions: Tensor::from_slice(&positions).to_device(device),
            runs: Vec::new(),
        }
    }

    /// One sequence's next tokens, after `start` of them.
    pub(crate) fn following(start: i64, tokens: &[u32], device: Device) -> Self {
        let mut batch = Self::new(&[tokens], device);
        batch.positions += start;
        batch
    }
}
