//! The loss of a pass and its gradients.

use std::ops::Range;

use floor::data::Example;
use floor::pretrained::LayerName;
use tch::{Device, Kind, Tensor};

use super::targets::{HEAD_CHUNK, PassRow, Targets, scored_positions};
use crate::lora::{Active, Adapter, Masks, Part};
use crate::model::{Batch, Model, Passage};
use crate::shim::vector_jacobian;

/// One member's share of a pass.
pub(super) struct Share<'a> {
    pub(super) adapter: &'a Adapter,
    pub(super) rows: Vec<PassRow<'a>>,
    /// Dropout probability of an adapter's input; none at 0.
    pub(super) dropout: Option<f64>,
    pub(super) seed: u64,
    /// `[parameters]`; the gradient is added to it.
    pub(super) gradient: &'a mut Tensor,
    /// A scalar on the device; the loss is added to it.
    pub(super) loss: &'a mut Tensor,
}

impl Share<'_> {
    fn tokens(&self) -> i64 {
        self.rows.iter().map(|row| row.example.tokens.len() as i64).sum()
    }

    /// Scored tokens.
    fn scored(&self) -> i64 {
        self.rows.iter().map(|row| scored_positions(row.example).len() as i64).sum()
    }

    /// Masks of all tokens in its rows.
    fn token_masks(&self) -> Option<Masks> {
        let mut masks = Masks::new(self.dropout?, self.seed);
        self.rows.iter().for_each(|row| masks.add(row.place, 0, row.example.tokens.len()));
        Some(masks)
    }

    /// Masks of its rows' scored positions, one by one.
    fn scored_masks(&self) -> Option<Masks> {
        let mut masks = Masks::new(self.dropout?, self.seed);
        for row in &self.rows {
            scored_positions(row.example).into_iter().for_each(|at| masks.add(row.place, at, 1));
        }
        Some(masks)
    }

    /// The adapter's matrices per block, first in the flat buffer and in its order.
    fn block_leaves(&self, layers: u64) -> Vec<Vec<&Tensor>> {
        let mut leaves = vec![Vec::new(); layers as usize];
        for (name, pair) in &self.adapter.pairs {
            if let LayerName::Block(n, _) = name {
                leaves[*n].extend(pair.leaves());
            }
        }
        leaves
    }

    /// The head's matrices, last in the flat buffer.
    fn head_leaves(&self) -> Vec<&Tensor> {
        self.adapter.pair(LayerName::Head).into_iter().flat_map(|(_, pair)| pair.leaves()).collect()
    }
}

/// Runs a pass forward and backward; adds to each share's loss and gradient. `checkpointing`: blocks keep only their
/// input and run again in backward.
///
/// Cross-entropy is computed at scored positions only, in chunks. Each chunk's gradient with respect to the hidden
/// states is taken at once and its logits are freed; then backward runs once through the blocks.
pub(super) fn run_pass(model: &Model, checkpointing: bool, shares: &mut [Share<'_>]) {
    let sequences: Vec<&[u32]> =
        shares.iter().flat_map(|share| &share.rows).map(|row| row.example.tokens.as_slice()).collect();
    let batch = Batch::filled(&sequences, model.device());
    let mut start = 0;
    let parts = shares.iter().map(|share| {
        let rows = start..start + share.tokens();
        start = rows.end;
        Part { adapter: share.adapter, rows: Some(rows), masks: share.token_masks() }
    });
    let active = Active { parts: parts.collect() };
    let passage = model.passage(&batch, Some(&active));
    let mut kept = Vec::new();
    let states = if checkpointing {
        forward_keeping_inputs(model, &passage, &mut kept)
    } else {
        let blocks = 0..model.config.layers as usize;
        blocks.fold(passage.embedded(), |states, number| passage.block(number, &states))
    };
    // The last norm runs again for each chunk's gradient; below it only gradients of states are needed.
    let last = states.detach().set_requires_grad(true);
    let state_gradient = head(model, &last, shares);
    let leaves: Vec<Vec<Vec<Tensor>>> = shares
        .iter()
        .map(|share| {
            let blocks = share.block_leaves(model.config.layers).into_iter();
            blocks.map(|block| block.into_iter().map(Tensor::shallow_clone).collect()).collect()
        })
        .collect();
    if checkpointing {
        return backward_again(&passage, kept, state_gradient, &leaves, shares);
    }
    let all: Vec<&Tensor> = leaves.iter().flatten().flatten().collect();
    if all.is_empty() {
        return;
    }
    let mut gradients = vector_jacobian(&states, &state_gradient, &all).into_iter();
    for (share, leaves) in shares.iter_mut().zip(&leaves) {
        let share_gradients: Vec<Tensor> =
            gradients.by_ref().take(leaves.iter().map(Vec::len).sum()).collect();
        add_from(&share_gradients, 0, share.gradient);
    }
}

/// Adds each share's loss and the gradients of head adapters; returns the gradient with respect to the states before
/// the last norm `[tokens, hidden]`.
fn head(model: &Model, last: &Tensor, shares: &mut [Share<'_>]) -> Tensor {
    let targets = Targets::of(shares.iter().flat_map(|share| &share.rows), model.device());
    let normed = model.last_norm(&last.index_select(0, &targets.filled_positions()));
    let head_input = normed.detach().set_requires_grad(true);
    let masks: Vec<Option<Masks>> = shares.iter().map(Share::scored_masks).collect();
    let mut starts = vec![0];
    starts.extend(shares.iter().scan(0, |sum, share| {
        *sum += share.scored();
        Some(*sum)
    }));
    let (mut parts, mut losses) = (Vec::new(), Vec::new());
    for start in (0..targets.count()).step_by(HEAD_CHUNK as usize) {
        let chunk = start..(start + HEAD_CHUNK).min(targets.count());
        let active = Active { parts: chunk_parts(shares, &masks, &starts, &chunk) };
        let input = head_input.narrow(0, chunk.start, targets.rows_of(&chunk));
        let (loss, logits, cotangent) = targets.loss_of(model, &input, &active, &chunk);
        losses.push(loss);
        drop(active);
        let leaves: Vec<Tensor> =
            shares.iter().flat_map(Share::head_leaves).map(Tensor::shallow_clone).collect();
        let wanted: Vec<&Tensor> = std::iter::once(&input).chain(&leaves).collect();
        let mut gradients = vector_jacobian(&logits, &cotangent, &wanted);
        let mut of_leaves = gradients.split_off(1).into_iter();
        parts.extend(gradients);
        for share in shares.iter_mut() {
            let share_gradients: Vec<Tensor> = of_leaves.by_ref().take(share.head_leaves().len()).collect();
            let size: i64 = share_gradients.iter().map(|g| g.numel() as i64).sum();
            add_from(&share_gradients, share.gradient.numel() as i64 - size, share.gradient);
        }
    }
    if parts.is_empty() {
        return last.zeros_like();
    }
    let losses = Tensor::cat(&losses, 0);
    for (share, range) in shares.iter_mut().zip(starts.windows(2)) {
        *share.loss += losses.narrow(0, range[0], range[1] - range[0]).sum(Kind::Double);
    }
    vector_jacobian(&normed, &Tensor::cat(&parts, 0), &[last]).swap_remove(0)
}

/// The adapters of a chunk of scored rows; the rows of share n begin at `starts[n]`.
fn chunk_parts<'a>(
    shares: &'a [Share<'_>],
    masks: &[Option<Masks>],
    starts: &[i64],
    chunk: &Range<i64>,
) -> Vec<Part<'a>> {
    let part = |(n, share): (usize, &'a Share<'_>)| {
        let (start, end) = (starts[n].max(chunk.start), starts[n + 1].min(chunk.end));
        let range = (start - starts[n]) as usize..(end - starts[n]).max(0) as usize;
        (start < end).then(|| Part {
            adapter: share.adapter,
            rows: Some(start - chunk.start..end - chunk.start),
            masks: masks[n].as_ref().map(|masks| masks.slice(range)),
        })
    };
    shares.iter().enumerate().filter_map(part).collect()
}

/// States after the blocks; only each block's input is kept, in `kept`.
fn forward_keeping_inputs(model: &Model, passage: &Passage<'_>, kept: &mut Vec<Tensor>) -> Tensor {
    tch::no_grad(|| {
        let mut states = passage.embedded();
        for number in 0..model.config.layers as usize {
            let next = passage.block(number, &states);
            kept.push(std::mem::replace(&mut states, next));
        }
        states
    })
}

/// Goes backward through the blocks, recomputing each from its input. Masks depend on row and position only, so they
/// are identical. `leaves` are the shares' matrices by block.
fn backward_again(
    passage: &Passage<'_>,
    mut kept: Vec<Tensor>,
    mut state_gradient: Tensor,
    leaves: &[Vec<Vec<Tensor>>],
    shares: &mut [Share<'_>],
) {
    let size = |leaves: &[Tensor]| leaves.iter().map(|leaf| leaf.numel() as i64).sum::<i64>();
    let mut ends: Vec<i64> =
        leaves.iter().map(|blocks| blocks.iter().map(|block| size(block)).sum()).collect();
    // Below the first block with an adapter nothing requires a gradient.
    let has_leaves = |block: &usize| leaves.iter().any(|blocks| !blocks[*block].is_empty());
    let Some(first) = (0..kept.len()).find(has_leaves) else { return };
    for number in (first..kept.len()).rev() {
        let Some(input) = kept.pop() else { return };
        let input = input.detach().set_requires_grad(true);
        let output = passage.block(number, &input);
        let block_leaves = leaves.iter().flat_map(|blocks| &blocks[number]);
        let wanted: Vec<&Tensor> = std::iter::once(&input).chain(block_leaves).collect();
        let mut gradients = vector_jacobian(&output, &state_gradient, &wanted);
        let mut of_leaves = gradients.split_off(1).into_iter();
        for (n, share) in shares.iter_mut().enumerate() {
            let share_gradients: Vec<Tensor> = of_leaves.by_ref().take(leaves[n][number].len()).collect();
            ends[n] -= size(&share_gradients);
            add_from(&share_gradients, ends[n], share.gradient);
        }
        state_gradient = gradients.swap_remove(0);
    }
}

/// Loss of rows without a gradient: the sum over scored tokens, and their count.
pub(super) fn loss_only(model: &Model, adapter: &Adapter, rows: &[&Example]) -> (f64, u64) {
    let rows: Vec<PassRow<'_>> =
        rows.iter().map(|&example| PassRow { example, weight: 1.0, place: 0 }).collect();
    let sequences: Vec<&[u32]> = rows.iter().map(|row| row.example.tokens.as_slice()).collect();
    tch::no_grad(|| {
        let batch = Batch::filled(&sequences, model.device());
        let active = Active::of(adapter);
        let states = model.hidden_states(&batch, Some(&active));
        let targets = Targets::of(&rows, model.device());
        let mut loss = 0.0;
        for start in (0..targets.count()).step_by(HEAD_CHUNK as usize) {
            let chunk = start..(start + HEAD_CHUNK).min(targets.count());
            let rows = targets.rows_of(&chunk);
            let chunk_states =
                states.index_select(0, &targets.filled_positions().narrow(0, chunk.start, rows));
            loss +=
                targets.loss_of(model, &chunk_states, &active, &chunk).0.sum(Kind::Double).double_value(&[]);
        }
        (loss, targets.count() as u64)
    })
}

/// Adds consecutive gradients to the flat buffer, from offset `start`.
fn add_from(gradients: &[Tensor], mut start: i64, flat: &mut Tensor) {
    tch::no_grad(|| {
        for gradient in gradients {
            let size = gradient.numel() as i64;
            let mut part = flat.narrow(0, start, size);
            part += gradient.reshape([-1]);
            start += size;
        }
    });
}

/// A double-precision zero on the device.
pub(super) fn zero(device: Device) -> Tensor {
    Tensor::zeros([] as [i64; 0], (Kind::Double, device))
}
