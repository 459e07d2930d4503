//! The loss of a pass and its gradients.

use loragrid::checkpoint::LayerName;
use loragrid::data::Example;
use tch::{Device, Kind, Tensor};

use crate::lora::{Active, Adapter, RowMasks};
use crate::model::{Batch, Model, Passage};
use crate::tensor::wide;

/// Rows of logits that are in memory at one time; at a vocabulary of 50,000 they take 50 MB in single precision.
const HEAD_CHUNK: i64 = 256;

/// A row of a pass with the weight of its scored tokens in the window's loss.
pub(super) struct WeightedRow<'a> {
    pub(super) example: &'a Example,
    pub(super) weight: f64,
}

/// What a pass does beside its rows.
pub(super) struct Backward<'a> {
    pub(super) model: &'a Model,
    pub(super) adapter: &'a Adapter,
    /// Whether blocks keep their input only and run again in backward.
    pub(super) checkpointing: bool,
}

impl Backward<'_> {
    /// Runs rows forward and backward. Returns their part of the window's loss, and adds their gradients to `gradient`
    /// (`[parameters]`, in the order of [`Adapter::leaves`]).
    ///
    /// Cross-entropy is computed at scored positions only and in chunks: each chunk's gradient with respect to the
    /// hidden states is taken at once and its logits are dropped, then all of it goes through the blocks together.
    pub(super) fn run(
        &self,
        masks: Option<RowMasks>,
        rows: &[WeightedRow<'_>],
        gradient: &mut Tensor,
    ) -> f64 {
        let sequences: Vec<&[u32]> = rows.iter().map(|row| row.example.tokens.as_slice()).collect();
        let device = gradient.device();
        let batch = Batch::new(&sequences, device);
        let active = Active { adapter: self.adapter, masks };
        let passage = self.model.passage(&batch, Some(&active));
        let targets = Targets::of(rows, device, wide(self.model.kind));
        let mut kept = Vec::new();
        let states = if self.checkpointing {
            self.forward_keeping_inputs(&passage, &mut kept)
        } else {
            let blocks = 0..self.model.config.layers as usize;
            blocks.fold(passage.embedded(), |states, number| passage.block(number, &states))
        };
        // The last norm runs once more for each chunk's gradient; below it only gradients of states are needed.
        let last = states.detach().set_requires_grad(true);
        let (loss, state_gradient) = self.head(&last, &targets, &active, gradient);
        let leaves = self.block_leaves();
        if leaves.iter().all(Vec::is_empty) {
            return loss;
        }
        let grad = if self.checkpointing {
            self.backward_again(&passage, kept, state_gradient, gradient);
            return loss;
        } else {
            state_gradient
        };
        let leaves: Vec<&Tensor> = leaves.into_iter().flatten().collect();
        let gradients = vector_jacobian(&states, &grad, &leaves);
        add_from(&gradients, 0, gradient);
        loss
    }

    /// Loss of the pass, and its gradient with respect to the states before the last norm `[tokens, hidden]`; gradients
    /// of the head's adapter go to `gradient`.
    fn head(
        &self,
        last: &Tensor,
        targets: &Targets,
        active: &Active<'_>,
        gradient: &mut Tensor,
    ) -> (f64, Tensor) {
        let kind = wide(self.model.kind);
        let normed = self.model.last_norm(&last.index_select(0, &targets.positions));
        let head_input = normed.detach().set_requires_grad(true);
        let mut head_active = Active { adapter: self.adapter, masks: active.masks.clone() };
        let mut parts = Vec::new();
        let mut loss = 0.0;
        let rows_scored = targets.positions.size()[0];
        for start in (0..rows_scored).step_by(HEAD_CHUNK as usize) {
            let length = HEAD_CHUNK.min(rows_scored - start);
            if let Some(masks) = &mut head_active.masks {
                masks.head_range = start as usize..(start + length) as usize;
            }
            let logits = self.model.logits(&head_input.narrow(0, start, length), Some(&head_active));
            let chunk = targets.cross_entropy(&logits, start, length, kind);
            loss += chunk.double_value(&[]);
            let head: Vec<&Tensor> = std::iter::once(&head_input).chain(self.head_leaves()).collect();
            let mut gradients = Tensor::run_backward(&[&chunk], &head, false, false);
            let own = gradients.split_off(1);
            let size: i64 = own.iter().map(|g| g.numel() as i64).sum();
            add_from(&own, gradient.numel() as i64 - size, gradient);
            parts.push(gradients.swap_remove(0).narrow(0, start, length));
        }
        let gradients = vector_jacobian(&normed, &Tensor::cat(&parts, 0), &[last]);
        (loss, gradients.into_iter().next().unwrap_or_else(|| last.zeros_like()))
    }

    /// States after the blocks; each block's input is kept in `kept`, nothing else.
    fn forward_keeping_inputs(&self, passage: &Passage<'_>, kept: &mut Vec<Tensor>) -> Tensor {
        tch::no_grad(|| {
            let mut states = passage.embedded();
            for number in 0..self.model.config.layers as usize {
                let next = passage.block(number, &states);
                kept.push(std::mem::replace(&mut states, next));
            }
            states
        })
    }

    /// Goes through the blocks from the last to the first, each computed again from its input. Masks are functions of
    /// place and position, so they are the same again.
    fn backward_again(
        &self,
        passage: &Passage<'_>,
        mut kept: Vec<Tensor>,
        mut state_gradient: Tensor,
        gradient: &mut Tensor,
    ) {
        let leaves = self.block_leaves();
        let mut end: i64 = leaves.iter().flatten().map(|leaf| leaf.numel() as i64).sum();
        // Below the first block that has an adapter nothing takes a gradient.
        let first = leaves.iter().position(|own| !own.is_empty()).unwrap_or(leaves.len());
        for (number, own) in leaves.iter().enumerate().skip(first).rev() {
            let Some(input) = kept.pop() else { return };
            let input = input.detach().set_requires_grad(true);
            let output = passage.block(number, &input);
            let wanted: Vec<&Tensor> = std::iter::once(&input).chain(own.iter().copied()).collect();
            let mut gradients = vector_jacobian(&output, &state_gradient, &wanted);
            let of_leaves = gradients.split_off(1);
            end -= of_leaves.iter().map(|g| g.numel() as i64).sum::<i64>();
            add_from(&of_leaves, end, gradient);
            state_gradient = gradients.swap_remove(0);
        }
    }

    /// The adapter's matrices of each block, in the order of the flat buffer, where they lie first.
    fn block_leaves(&self) -> Vec<Vec<&Tensor>> {
        let mut leaves = vec![Vec::new(); self.model.config.layers as usize];
        for (name, pair) in &self.adapter.pairs {
            if let LayerName::Block(n, _) = name {
                leaves[*n].extend(pair.leaves());
            }
        }
        leaves
    }

    /// Those of the head, which lie last.
    fn head_leaves(&self) -> impl Iterator<Item = &Tensor> {
        self.adapter.pair(LayerName::Head).into_iter().flat_map(|(_, pair)| pair.leaves())
    }
}

/// Loss of rows without a gradient: the sum over scored tokens, and their count.
pub(super) fn loss_only(model: &Model, adapter: &Adapter, rows: &[&Example]) -> (f64, u64) {
    let rows: Vec<WeightedRow<'_>> =
        rows.iter().map(|&example| WeightedRow { example, weight: 1.0 }).collect();
    let sequences: Vec<&[u32]> = rows.iter().map(|row| row.example.tokens.as_slice()).collect();
    tch::no_grad(|| {
        let batch = Batch::new(&sequences, model.device());
        let active = Active::of(adapter);
        let states = model.hidden_states(&batch, Some(&active));
        let targets = Targets::of(&rows, model.device(), wide(model.kind));
        let scored = targets.positions.size()[0];
        let mut loss = 0.0;
        for start in (0..scored).step_by(HEAD_CHUNK as usize) {
            let length = HEAD_CHUNK.min(scored - start);
            let own = states.index_select(0, &targets.positions.narrow(0, start, length));
            let logits = model.logits(&own, Some(&active));
            loss += targets.cross_entropy(&logits, start, length, wide(model.kind)).double_value(&[]);
        }
        (loss, scored as u64)
    })
}

/// Gradients of Σ output × cotangent. Summed in double where that costs nothing; the sum itself is never read.
fn vector_jacobian(output: &Tensor, cotangent: &Tensor, wanted: &[&Tensor]) -> Vec<Tensor> {
    let surrogate = (output * cotangent).sum(wide(output.kind()));
    Tensor::run_backward(&[&surrogate], wanted, false, false)
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

    /// Weighted cross-entropy of logits `[length, vocab]` at the scored positions from `start`.
    fn cross_entropy(&self, logits: &Tensor, start: i64, length: i64, kind: Kind) -> Tensor {
        let log_probabilities = logits.log_softmax(-1, kind);
        let tokens = self.tokens.narrow(0, start, length).unsqueeze(1);
        let picked = log_probabilities.gather(1, &tokens, false).squeeze_dim(1);
        -(picked * self.weights.narrow(0, start, length)).sum(kind)
    }
}

/// The positions whose next token is scored.
pub(super) fn scored_positions(example: &Example) -> Vec<usize> {
    (1..example.tokens.len()).filter(|&next| example.scored[next]).map(|next| next - 1).collect()
}

/// Adds gradients one after another to the flat buffer, from place `start`.
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
