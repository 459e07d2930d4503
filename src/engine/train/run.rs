//! One training run.

use std::time::Instant;

use loragrid::data::Example;
use loragrid::job::{LoraConfig, Seconds, Tokens, TrainConfig};
use loragrid::passes::schedule::Shape;
use loragrid::passes::{Pass, RowSequence, plan_passes, split_rows, token_weights};
use loragrid::protocol::{StepReport, Trained};
use tch::Tensor;

use super::loss::{Backward, WeightedRow, loss_only, scored_positions};
use crate::failure::EngineError;
use crate::lora::{Adapter, MaskedRow, RowMasks};
use crate::memory::peak_resident;
use crate::model::Model;
use crate::optimizer::{Optimizer, clip};
use crate::shim::set_deterministic;
use crate::tensor::wide;

/// What a run needs beside the model and the adapter.
pub(crate) struct Run<'a> {
    pub(crate) train: &'a TrainConfig,
    pub(crate) lora: &'a LoraConfig,
    pub(crate) seed: u64,
    pub(crate) examples: &'a [Example],
    /// Most tokens of a pass.
    pub(crate) token_budget: usize,
}

/// Trains the adapter in place and reports each step. Errors: a loss that is not finite, or what `report` returns.
pub(crate) fn train(
    model: &Model,
    adapter: &mut Adapter,
    run: &Run<'_>,
    mut report: impl FnMut(StepReport) -> Result<(), EngineError>,
) -> Result<Trained, EngineError> {
    let started = Instant::now();
    set_deterministic(run.train.strict);
    let steps = run.train.steps();
    let shape = Shape::of(run.train);
    let rows = Rows::of(run);
    let mut sequence =
        RowSequence::new(run.train.order, run.seed, rows.train.iter().map(|row| row.tokens.len()));
    let rates = adapter.rates(run.lora.plus_ratio).map(|rates| rates.to_kind(wide(model.kind)));
    let mut optimizer = Optimizer::new(&adapter.flat, run.train, rates);
    // Gradients of all passes add up in single precision, whatever the adapter's dtype.
    let mut gradient = adapter.flat.to_kind(wide(model.kind)).zeros_like();
    let (mut tokens, mut losses, mut validation_loss) = (0, Vec::new(), None);
    for step in 0..steps {
        let window = Window::of(run, step, &rows.train, &mut sequence);
        let _ = gradient.zero_();
        let mut loss = 0.0;
        for pass in plan_passes(&window.lengths(), run.token_budget) {
            loss += window.run_pass(model, adapter, run, &pass, &mut gradient);
        }
        tokens += window.lengths().iter().sum::<usize>() as u64;
        if !loss.is_finite() {
            return Err(EngineError::LossNotFinite { step, loss });
        }
        losses.push(loss);
        clip(&mut gradient, run.train.clip_norm);
        let learning_rate = run.train.learning_rate * shape.factor(step, steps);
        optimizer.step(&mut adapter.flat, &gradient, learning_rate);
        let step = step + 1;
        let due = run.train.validate_every.is_some_and(|every| step.is_multiple_of(every)) || step == steps;
        let validated = due.then(|| rows.validation_loss(model, adapter, run.token_budget)).flatten();
        validation_loss = validated.or(validation_loss);
        let seconds = Seconds(started.elapsed().as_secs_f64());
        report(StepReport {
            step,
            steps,
            loss,
            validation_loss: validated,
            learning_rate,
            tokens: Tokens(tokens),
            seconds,
        })?;
    }
    let tenth = &losses[losses.len() - losses.len().div_ceil(10)..];
    Ok(Trained {
        steps,
        tokens: Tokens(tokens),
        seconds: Seconds(started.elapsed().as_secs_f64()),
        last_losses: tenth.iter().sum::<f64>() / tenth.len() as f64,
        validation_loss,
        trainable: adapter.parameters(),
        peak_memory: peak_resident(),
    })
}

/// The rows of a run, apart.
struct Rows<'a> {
    train: Vec<&'a Example>,
    validation: Vec<&'a Example>,
}

impl<'a> Rows<'a> {
    fn of(run: &Run<'a>) -> Self {
        let count = run.examples.len();
        let (train, validation) = split_rows(count, run.train.validation_rows(count as u64) as usize);
        let pick = |indices: Vec<usize>| indices.into_iter().map(|index| &run.examples[index]).collect();
        Self { train: pick(train), validation: pick(validation) }
    }

    /// Mean loss of a scored token of the rows kept for validation, if there are any.
    fn validation_loss(&self, model: &Model, adapter: &Adapter, token_budget: usize) -> Option<f64> {
        let lengths: Vec<usize> = self.validation.iter().map(|row| row.tokens.len()).collect();
        let (mut loss, mut scored) = (0.0, 0);
        for pass in plan_passes(&lengths, token_budget) {
            let rows: Vec<&Example> = pass.rows.iter().map(|row| self.validation[row.index]).collect();
            let (own, count) = loss_only(model, adapter, &rows);
            loss += own;
            scored += count;
        }
        (scored > 0).then(|| loss / scored as f64)
    }
}

/// The rows of one optimizer step.
struct Window<'a> {
    /// Place in the run of the first row.
    first: u64,
    examples: Vec<&'a Example>,
    /// Weight of each scored token, by row.
    weights: Vec<f64>,
}

impl<'a> Window<'a> {
    /// The rows of step `step`; the last window may be short.
    fn of(run: &Run<'a>, step: u64, rows: &[&'a Example], sequence: &mut RowSequence) -> Self {
        let first = step * run.train.batch_size;
        let end = (first + run.train.batch_size).min(run.train.iterations * run.train.micro_batch_size);
        let examples: Vec<&Example> = (first..end).map(|place| rows[sequence.row(place)]).collect();
        let scored: Vec<usize> = examples.iter().map(|example| example.scored_tokens()).collect();
        let weights = token_weights(run.train.loss, &scored, run.train.micro_batch_size as usize);
        Self { first, examples, weights }
    }

    fn lengths(&self) -> Vec<usize> {
        self.examples.iter().map(|example| example.tokens.len()).collect()
    }

    fn run_pass(
        &self,
        model: &Model,
        adapter: &Adapter,
        run: &Run<'_>,
        pass: &Pass,
        gradient: &mut Tensor,
    ) -> f64 {
        let weighted =
            |index: usize| WeightedRow { example: self.examples[index], weight: self.weights[index] };
        let rows: Vec<WeightedRow<'_>> = pass.rows.iter().map(|row| weighted(row.index)).collect();
        let masks = (run.lora.dropout > 0.0).then(|| RowMasks {
            p: run.lora.dropout,
            seed: run.seed,
            rows: pass
                .rows
                .iter()
                .map(|row| MaskedRow {
                    place: self.first + row.index as u64,
                    tokens: row.tokens,
                    scored: scored_positions(self.examples[row.index]),
                })
                .collect(),
            head_range: 0..0,
        });
        let checkpointing = run.train.gradient_checkpointing;
        Backward { model, adapter, checkpointing }.run(masks, &rows, gradient)
    }
}
