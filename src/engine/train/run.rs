//! One training run.

use std::time::Instant;

use loragrid::data::Example;
use loragrid::job::{LoraConfig, Seconds, Tokens, TrainConfig};
use loragrid::passes::schedule::Shape;
use loragrid::passes::{Pass, RowSequence, plan_passes, token_weights};
use loragrid::protocol::{StepReport, Trained};
use tch::Tensor;

use super::loss::{WeightedRow, backward, scored_positions};
use crate::failure::EngineError;
use crate::lora::{Adapter, MaskedRow, RowMasks};
use crate::memory::peak_resident;
use crate::model::Model;
use crate::optimizer::{Optimizer, clip};

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
    let steps = run.train.steps();
    let shape = Shape::of(run.train);
    let lengths = run.examples.iter().map(|example| example.tokens.len());
    let mut rows = RowSequence::new(run.train.order, run.seed, lengths);
    let mut optimizer = Optimizer::new(&adapter.flat, run.train);
    let mut gradient = adapter.flat.zeros_like();
    let mut tokens = 0;
    for step in 0..steps {
        let window = Window::of(run, step, &mut rows);
        let _ = gradient.zero_();
        let mut loss = 0.0;
        for pass in plan_passes(&window.lengths(), run.token_budget) {
            loss += window.run_pass(model, adapter, run, &pass, &mut gradient);
        }
        tokens += window.lengths().iter().sum::<usize>() as u64;
        if !loss.is_finite() {
            return Err(EngineError::LossNotFinite { step, loss });
        }
        clip(&mut gradient, run.train.clip_norm);
        let learning_rate = run.train.learning_rate * shape.factor(step, steps);
        optimizer.step(&mut adapter.flat, &gradient, learning_rate);
        let seconds = Seconds(started.elapsed().as_secs_f64());
        report(StepReport { step: step + 1, steps, loss, learning_rate, tokens: Tokens(tokens), seconds })?;
    }
    Ok(Trained {
        steps,
        tokens: Tokens(tokens),
        seconds: Seconds(started.elapsed().as_secs_f64()),
        trainable: adapter.parameters(),
        peak_memory: peak_resident(),
    })
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
    fn of(run: &Run<'a>, step: u64, rows: &mut RowSequence) -> Self {
        let first = step * run.train.batch_size;
        let end = (first + run.train.batch_size).min(run.train.iterations * run.train.micro_batch_size);
        let examples: Vec<&Example> = (first..end).map(|place| &run.examples[rows.row(place)]).collect();
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
        backward(model, adapter, masks, &rows, gradient)
    }
}
