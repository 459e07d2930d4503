//! One training run.

use std::path::Path;
use std::time::{Duration, Instant};

use loragrid::data::Example;
use loragrid::job::{Digest, LoraConfig, Seconds, Tokens, TrainConfig};
use loragrid::passes::schedule::Shape;
use loragrid::passes::{Pass, RowSequence, plan_passes, split_rows, token_weights};
use loragrid::protocol::{StepReport, Trained};
use tch::Tensor;

use super::checkpoint::{self, Standing};
use super::loss::{Backward, WeightedRow, loss_only, scored_positions};
use crate::failure::EngineError;
use crate::fault;
use crate::interrupt::{Pulse, is_stopped};
use crate::lora::{Adapter, MaskedRow, RowMasks};
use crate::memory::{peak_resident, within_memory};
use crate::model::Model;
use crate::optimizer::{Optimizer, clip};
use crate::shim::set_deterministic;
use crate::tensor::wide;

/// The adapter's own tensor in checkpoints.
const FLAT: &str = "adapter";

/// What a run needs beside the model and the adapter.
pub(crate) struct Run<'a> {
    pub(crate) train: &'a TrainConfig,
    pub(crate) lora: &'a LoraConfig,
    pub(crate) seed: u64,
    pub(crate) examples: &'a [Example],
    /// Most tokens of a pass.
    pub(crate) token_budget: usize,
    /// Where checkpoints go, if anywhere.
    pub(crate) checkpoints: Option<Checkpoints<'a>>,
}

/// Where and how often checkpoints are written.
pub(crate) struct Checkpoints<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) every: Duration,
    pub(crate) key: Digest,
}

/// What a training tells while it runs.
pub(crate) enum Told {
    /// It goes on from a checkpoint after this step, with every step before it told again.
    Resumed(u64),
    /// A step was made.
    Step(StepReport),
    /// A pass was made.
    Pass,
}

/// Trains the adapter in place and reports each step; goes on from a checkpoint of the same run. Returns the end with the
/// reports of all steps. Errors: a loss that is not
/// finite, a pass that needs too much memory, a stop (both with a checkpoint of the last step), or what `tell` returns.
pub(crate) fn train(
    model: &Model,
    adapter: &mut Adapter,
    run: &Run<'_>,
    mut tell: impl FnMut(Told) -> Result<(), EngineError>,
) -> Result<(Trained, Vec<StepReport>), EngineError> {
    set_deterministic(run.train.strict);
    let rows = Rows::of(run);
    let rates = adapter.rates(run.lora.plus_ratio).map(|rates| rates.to_kind(wide(model.kind)));
    let optimizer = Optimizer::new(&adapter.flat, run.train, rates);
    let mut training = Training { model, adapter, run, rows: &rows, optimizer, at: Standing::start(run) };
    if training.resume() {
        training.at.reports.iter().try_for_each(|report| tell(Told::Step(*report)))?;
        tell(Told::Resumed(training.at.step))?;
    }
    let ended = training.steps(&mut tell);
    if let Err(EngineError::Stopped | EngineError::OutOfMemory { .. }) = ended {
        training.checkpoint()?;
    }
    ended?;
    let Standing { reports, tokens, seconds, validation_loss, .. } = &training.at;
    let tenth = &reports[reports.len() - reports.len().div_ceil(10)..];
    let trained = Trained {
        steps: training.at.step,
        tokens: Tokens(*tokens),
        seconds: Seconds(*seconds),
        last_losses: tenth.iter().map(|report| report.loss).sum::<f64>() / tenth.len() as f64,
        validation_loss: *validation_loss,
        trainable: training.adapter.parameters(),
        peak_memory: peak_resident(),
    };
    Ok((trained, training.at.reports))
}

impl Standing {
    fn start(run: &Run<'_>) -> Self {
        Self {
            key: run.checkpoints.as_ref().map_or_else(|| Digest::of(b""), |checkpoints| checkpoints.key),
            step: 0,
            tokens: 0,
            seconds: 0.0,
            reports: Vec::new(),
            validation_loss: None,
            optimizer_steps: 0,
        }
    }
}

/// A training between two steps.
struct Training<'a, 'r> {
    model: &'a Model,
    adapter: &'a mut Adapter,
    run: &'a Run<'r>,
    rows: &'a Rows<'r>,
    optimizer: Optimizer,
    at: Standing,
}

impl Training<'_, '_> {
    /// Takes up the newest checkpoint, if there is one.
    fn resume(&mut self) -> bool {
        let Some(checkpoints) = &self.run.checkpoints else { return false };
        let Self { adapter, optimizer, .. } = self;
        let found = checkpoint::load(checkpoints.folder, checkpoints.key, |tensors| {
            let fits = |tensor: &Tensor| {
                tensor.numel() == adapter.flat.numel() && tensor.kind() == adapter.flat.kind()
            };
            let flat = tensors.iter().find(|(name, _)| name == FLAT).map(|(_, tensor)| tensor);
            let Some(flat) = flat.filter(|_| tensors.iter().all(|(_, tensor)| fits(tensor))) else {
                return false;
            };
            tch::no_grad(|| adapter.flat.copy_(flat));
            optimizer.restore(tensors)
        });
        if let Some(standing) = found {
            self.optimizer.set_steps(standing.optimizer_steps);
            self.at = standing;
            return true;
        }
        false
    }

    /// Writes a checkpoint. Error: the system's.
    fn checkpoint(&mut self) -> Result<(), EngineError> {
        let Some(checkpoints) = &self.run.checkpoints else { return Ok(()) };
        self.at.optimizer_steps = self.optimizer.steps();
        let mut tensors = vec![(FLAT, &self.adapter.flat)];
        tensors.extend(self.optimizer.state());
        checkpoint::save(checkpoints.folder, &self.at, &tensors)
    }

    fn steps(&mut self, tell: &mut dyn FnMut(Told) -> Result<(), EngineError>) -> Result<(), EngineError> {
        let run = self.run;
        let (started, before) = (Instant::now(), self.at.seconds);
        let steps = run.train.steps();
        let shape = Shape::of(run.train);
        let lengths = self.rows.train.iter().map(|row| row.tokens.len());
        let mut sequence = RowSequence::new(run.train.order, run.seed, lengths);
        // Gradients of all passes add up in single precision, whatever the adapter's dtype.
        let mut gradient = self.adapter.flat.to_kind(wide(self.model.kind)).zeros_like();
        let mut saved = Instant::now();
        for step in self.at.step..steps {
            let window = Window::of(run, step, &self.rows.train, &mut sequence);
            let _ = gradient.zero_();
            let loss = self.window(&window, &mut gradient, tell)?;
            if !loss.is_finite() {
                return Err(EngineError::LossNotFinite { step, loss });
            }
            clip(&mut gradient, run.train.clip_norm);
            let learning_rate = run.train.learning_rate * shape.factor(step, steps);
            self.optimizer.step(&mut self.adapter.flat, &gradient, learning_rate);
            let step = step + 1;
            let due =
                run.train.validate_every.is_some_and(|every| step.is_multiple_of(every)) || step == steps;
            let validated =
                due.then(|| self.rows.validation_loss(self.model, self.adapter, run.token_budget)).flatten();
            let at = &mut self.at;
            at.step = step;
            at.tokens += window.lengths().iter().sum::<usize>() as u64;
            at.validation_loss = validated.or(at.validation_loss);
            at.seconds = before + started.elapsed().as_secs_f64();
            let (tokens, seconds) = (Tokens(at.tokens), Seconds(at.seconds));
            let validation_loss = validated;
            let report = StepReport { step, steps, loss, validation_loss, learning_rate, tokens, seconds };
            at.reports.push(report);
            tell(Told::Step(report))?;
            fault::at("step");
            if run.checkpoints.as_ref().is_some_and(|own| saved.elapsed() >= own.every) && step < steps {
                self.checkpoint()?;
                saved = Instant::now();
            }
            if is_stopped() && step < steps {
                return Err(EngineError::Stopped);
            }
        }
        Ok(())
    }

    /// The loss of a window; its gradient is added up. Errors: stopped, out of memory.
    fn window(
        &self,
        window: &Window<'_>,
        gradient: &mut Tensor,
        tell: &mut dyn FnMut(Told) -> Result<(), EngineError>,
    ) -> Result<f64, EngineError> {
        let mut loss = 0.0;
        let mut sign = || tell(Told::Pass);
        let mut pulse = Pulse::new(&mut sign);
        for pass in plan_passes(&window.lengths(), self.run.token_budget) {
            loss += within_memory(self.run.token_budget, || {
                fault::at("pass");
                window.run_pass(self.model, self.adapter, self.run, &pass, gradient)
            })?;
            pulse.beat()?;
        }
        Ok(loss)
    }
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
