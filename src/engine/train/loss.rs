//! The loss of a pass and its gradients.

use loragrid::data::Example;
use tch::{Device, Kind, Tensor};

use crate::lora::{Active, Adapter, RowMasks};
use crate::model::{Batch, Model};
use crate::tensor::wide;

/// Rows of logits that are in memory at one time; at a vocabulary of 50,000 they take 50 MB in single precision.
const HEAD_CHUNK: i64 = 256;

/// A row of a pass with the weight of its scored tokens in the window's loss.
pub(super) struct WeightedRow<'a> {
    pub(super) example: &'a Example,
    pub(super) weight: f64,
}

/// Runs rows forward and backward. Returns their part of the window's loss, and adds their gradients to `gradient`
/// (`[parameters]`, in the order of [`Adapter::leaves`]).
///
/// Cross-entropy is computed at scored positions only and in chunks: each chunk's gradient with respect to the hidden
/// states is taken at once and its logits are dropped, then all of it goes through the blocks together.
pub(super) fn backward(
    model: &Model,
    adapter: &Adapter,
    masks: Option<RowMasks>,
    rows: &[WeightedRow<'_>],
    gradient: &mut Tensor,
) -> f64 {
    let sequences: Vec<&[u32]> = rows.iter().map(|row| row.example.tokens.as_slice()).collect();
    let device = gradient.device();
    let batch = Batch::new(&sequences, device);
    let mut active = Active { adapter, masks };
    let states = model.hidden_states(&batch, Some(&active));
    let targets = Targets::of(rows, device, wide(model.kind));
    let head_input = states.index_select(0, &targets.positions).detach().set_requires_grad(true);
    let mut state_gradients = Vec::new();
    let mut loss = 0.0;
    let rows_scored = targets.positions.size()[0];
    for start in (0..rows_scored).step_by(HEAD_CHUNK as usize) {
        let length = HEAD_CHUNK.min(rows_scored - start);
        if let Some(masks) = &mut active.masks {
            masks.head_range = start as usize..(start + length) as usize;
        }
        let logits = model.logits(&head_input.narrow(0, start, length), Some(&active));
        let log_probabilities = logits.log_softmax(-1, wide(model.kind));
        let picked =
            log_probabilities.gather(1, &targets.tokens.narrow(0, start, length).unsqueeze(1), false);
        let chunk = -(picked.squeeze_dim(1) * targets.weights.narrow(0, start, length)).sum(wide(model.kind));
        loss += chunk.double_value(&[]);
        let head: Vec<&Tensor> = std::iter::once(&head_input).chain(head_leaves(adapter)).collect();
        let mut gradients = Tensor::run_backward(&[&chunk], &head, false, false);
        add_head_gradients(&gradients.split_off(1), gradient);
        state_gradients.push(gradients.swap_remove(0).narrow(0, start, length));
    }
    // The gradient of (states × g).sum() with respect to the states is g itself.
    let state_gradient = Tensor::cat(&state_gradients, 0);
    let surrogate = (states.index_select(0, &targets.positions) * state_gradient).sum(wide(model.kind));
    let leaves = block_leaves(adapter);
    if !leaves.is_empty() {
        let gradients = Tensor::run_backward(&[&surrogate], &leaves, false, false);
        add_block_gradients(&gradients, gradient);
    }
    loss
}

/// Where the pass is scored: row of hidden states, token that it must predict, weight of that token.
struct Targets {
    positions: Tensor,
    tokens: Tensor,
    weights: Tensor,
}

impl Targets {
    fn of(rows: &[WeightedRow<'_>], device: Device, kind: Kind) -> Self {
        let (mut positions, mut tokens, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for row in rows {
            for position in scored_positions(row.example) {
                positions.push((start + position) as i64);
                tokens.push(i64::from(row.example.tokens[position + 1]));
                weights.push(row.weight);
            }
            start += row.example.tokens.len();
        }
        Self {
            positions: Tensor::from_slice(&positions).to_device(device),
            tokens: Tensor::from_slice(&tokens).to_device(device),
            weights: Tensor::from_slice(&weights).to_device(device).to_kind(kind),
        }
    }
}

/// The positions whose next token is scored.
pub(super) fn scored_positions(example: &Example) -> Vec<usize> {
    (1..example.tokens.len()).filter(|&next| example.scored[next]).map(|next| next - 1).collect()
}

/// The head's pair lies last in an adapter, if it has one.
fn head_pair(adapter: &Adapter) -> Option<usize> {
    let last = adapter.pairs.len().checked_sub(1)?;
    (adapter.pairs[last].0 == loragrid::checkpoint::LayerName::Head).then_some(last)
}

fn head_leaves(adapter: &Adapter) -> Vec<&Tensor> {
    head_pair(adapter)
        .map(|at| [&adapter.pairs[at].1.a, &adapter.pairs[at].1.b])
        .into_iter()
        .flatten()
        .collect()
}

fn block_leaves(adapter: &Adapter) -> Vec<&Tensor> {
    let mut leaves = adapter.leaves();
    leaves.truncate(leaves.len() - head_leaves(adapter).len());
    leaves
}

/// Blocks' matrices lie first in the flat buffer.
fn add_block_gradients(gradients: &[Tensor], flat: &mut Tensor) {
    add_from(gradients, 0, flat);
}

/// The head's matrices lie last in the flat buffer.
fn add_head_gradients(gradients: &[Tensor], flat: &mut Tensor) {
    let size: i64 = gradients.iter().map(|g| g.numel() as i64).sum();
    let start = flat.numel() as i64 - size;
    add_from(gradients, start, flat);
}

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
