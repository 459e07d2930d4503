//! One run in a pack: rows, optimizer and progress.

use std::path::Path;
use std::time::{Duration, Instant};

use floor::data::Example;
use floor::job::{AttemptNumber, Digest, LoraConfig, Seconds, Tokens, TrainConfig};
use floor::passes::{Pass, RowSequence, plan_passes, split_rows, token_weights};
use floor::protocol::{StepReport, Trained};
use floor::schedule::Shape;
use tch::Tensor;

use super::checkpoint::{self, TrainingState};
use super::loss::{Share, loss_only, zero};
use super::replica::{add_across, share_of};
use super::targets::PassRow;
use crate::failure::EngineError;
use crate::lora::{Adapter, forms};
use crate::memory::{peak_memory, within_memory};
use crate::model::Model;
use crate::optimizer::{Optimizer, clip};
use crate::tensor::wide;

/// The name of the adapter's tensor in checkpoints.
const FLAT: &str = "adapter";

/// A run's inputs besides the model and the adapter.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) train: &'a TrainConfig,
    pub(crate) lora: &'a LoraConfig,
    pub(crate) seed: u64,
    pub(crate) examples: &'a [Example],
    /// Checkpoint settings, if any.
    pub(crate) checkpoints: Option<Checkpoints<'a>>,
}

/// Where and how often checkpoints are written.
#[derive(Clone, Copy)]
pub(crate) struct Checkpoints<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) every: Duration,
    pub(crate) key: Digest,
    pub(crate) attempt: AttemptNumber,
}

/// What is computed of a run in a pass, wherever that is.
pub(super) struct ShareInputs<'a> {
    pub(super) rows: Vec<PassRow<'a>>,
    /// Dropout probability of an adapter's input; none at 0.
    pub(super) dropout: Option<f64>,
    pub(super) seed: u64,
}

/// A run between two steps, or within a window.
pub(crate) struct Member<'a> {
    pub(crate) adapter: &'a mut Adapter,
    run: Run<'a>,
    train: Vec<&'a Example>,
    validation: Vec<&'a Example>,
    sequence: RowSequence,
    optimizer: Optimizer,
    at: TrainingState,
    window: Option<Window<'a>>,
    /// Gradients of a window's passes are summed in single precision for any adapter dtype.
    gradient: Tensor,
    /// Loss so far, on the device.
    loss: Tensor,
    saved: Instant,
}

impl<'a> Member<'a> {
    /// A new run.
    pub(crate) fn new(model: &Model, adapter: &'a mut Adapter, run: Run<'a>) -> Self {
        let count = run.examples.len();
        let (train, validation) = split_rows(count, run.train.validation_rows(count as u64) as usize);
        let pick = |indices: Vec<usize>| -> Vec<&'a Example> {
            indices.into_iter().map(|index| &run.examples[index]).collect()
        };
        let (train, validation) = (pick(train), pick(validation));
        let rates = adapter.rates(run.lora.plus_ratio).map(|rates| rates.to_kind(wide(model.kind)));
        let optimizer = Optimizer::new(&adapter.flat, run.train, rates);
        let lengths = train.iter().map(|row| row.tokens.len());
        let key = run.checkpoints.map_or_else(|| Digest::of(b""), |checkpoints| checkpoints.key);
        Self {
            sequence: RowSequence::new(run.train.order, run.seed, lengths),
            gradient: adapter.flat.to_kind(wide(model.kind)).zeros_like(),
            loss: zero(model.device()),
            at: TrainingState::start(key),
            window: None,
            saved: Instant::now(),
            adapter,
            run,
            train,
            validation,
            optimizer,
        }
    }

    /// Whether blocks keep only their input.
    pub(super) fn checkpointing(&self) -> bool {
        self.run.train.gradient_checkpointing
    }

    /// Resumes from the newest checkpoint, if there is one.
    pub(super) fn resume(&mut self) -> bool {
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
        if let Some(state) = found {
            self.optimizer.set_steps(state.optimizer_steps);
            self.at = state;
            return true;
        }
        false
    }

    /// The reports of each step so far.
    pub(super) fn reports(&self) -> &[StepReport] {
        &self.at.reports
    }

    /// Steps completed.
    pub(super) fn step(&self) -> u64 {
        self.at.step
    }

    /// Rows not yet in a window.
    pub(super) fn rows_left(&self) -> u64 {
        (self.run.train.steps() - self.at.step) * self.run.train.batch_size
    }

    /// Writes a checkpoint. Error: I/O.
    pub(super) fn checkpoint(&mut self) -> Result<(), EngineError> {
        let Some(checkpoints) = &self.run.checkpoints else { return Ok(()) };
        self.at.optimizer_steps = self.optimizer.steps();
        let mut tensors = vec![(FLAT, &self.adapter.flat)];
        tensors.extend(self.optimizer.state());
        checkpoint::save(checkpoints.folder, checkpoints.attempt, &self.at, &tensors)
    }

    /// Writes a checkpoint if one is due.
    pub(super) fn checkpoint_if_due(&mut self) -> Result<(), EngineError> {
        if self.run.checkpoints.is_some_and(|checkpoints| self.saved.elapsed() >= checkpoints.every) {
            self.checkpoint()?;
            self.saved = Instant::now();
        }
        Ok(())
    }

    /// The row lengths of the next window; none after the last step.
    pub(super) fn open_window(&mut self) -> Option<Vec<usize>> {
        self.window = None;
        if self.at.step >= self.run.train.steps() {
            return None;
        }
        let window = Window::of(&self.run, self.at.step, &self.train, &mut self.sequence);
        let lengths = window.lengths();
        self.window = Some(window);
        let _ = self.gradient.zero_();
        let _ = self.loss.zero_();
        Some(lengths)
    }

    /// What is computed of it in a pass.
    pub(super) fn inputs(&self, pass: &Pass) -> ShareInputs<'a> {
        let window = self.window.as_ref();
        let row = |index: usize| {
            window.map(|window| PassRow {
                example: window.examples[index],
                weight: window.weights[index],
                place: window.first + index as u64,
            })
        };
        ShareInputs {
            rows: pass.rows.iter().filter_map(|planned| row(planned.index)).collect(),
            dropout: Some(self.run.lora.dropout).filter(|p| *p > 0.0),
            seed: self.run.seed,
        }
    }

    /// Its share of a pass.
    pub(super) fn share(&mut self, pass: &Pass) -> Share<'_> {
        let inputs = self.inputs(pass);
        share_of(inputs, self.adapter, &mut self.gradient, &mut self.loss)
    }

    /// A copy of its adapter over the same model on another device, and a gradient of zeros beside it.
    pub(super) fn mirrored(&self, model: &Model) -> (Adapter, Tensor) {
        let kind = self.adapter.flat.kind();
        let adapter =
            Adapter::zeros(&model.config, &forms(&model.config, self.run.lora), kind, model.device());
        tch::no_grad(|| adapter.flat.shallow_clone().copy_(&self.adapter.flat));
        let gradient = adapter.flat.to_kind(wide(model.kind)).zeros_like();
        (adapter, gradient)
    }

    /// Adds a gradient `[parameters]` and a loss from another device.
    pub(super) fn add(&mut self, gradient: &Tensor, loss: &Tensor) {
        add_across(&mut self.gradient, gradient);
        add_across(&mut self.loss, loss);
    }

    /// Adds time spent on it.
    pub(super) fn spend(&mut self, seconds: f64) {
        self.at.seconds += seconds;
    }

    /// Makes the step of a completed window; `beat` is called after each validation pass. Errors: a loss that is not
    /// finite, out of memory in validation, what `beat` returns.
    pub(super) fn make_step(
        &mut self,
        model: &Model,
        token_budget: usize,
        beat: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<StepReport, EngineError> {
        let started = Instant::now();
        let train = self.run.train;
        let (step, steps) = (self.at.step, train.steps());
        let loss = self.loss.double_value(&[]);
        if !loss.is_finite() {
            return Err(EngineError::LossNotFinite { step, loss });
        }
        let norm = clip(&mut self.gradient, train.clip_norm);
        if !norm.is_finite() {
            return Err(EngineError::GradientNotFinite { step, norm });
        }
        let learning_rate = train.learning_rate * Shape::of(train).factor(step, steps);
        let Self { optimizer, adapter, gradient, .. } = self;
        within_memory(token_budget, || optimizer.step(&mut adapter.flat, gradient, learning_rate))?;
        let step = step + 1;
        if step == steps && !is_finite(&self.adapter.flat) {
            return Err(EngineError::AdapterNotFinite { step });
        }
        let due = train.validate_every.is_some_and(|every| step.is_multiple_of(every)) || step == steps;
        let window: usize = self.window.take().map_or(0, |window| window.lengths().iter().sum());
        self.at.tokens += window as u64;
        let validated = if due { self.validation_loss(model, token_budget, beat) } else { Ok(None) };
        // The step counts even if its validation fails: a run stopped there only redoes the validation.
        self.at.unvalidated = validated.is_err();
        let validation_loss = match &validated {
            Ok(loss) => *loss,
            Err(_) => None,
        };
        let at = &mut self.at;
        at.step = step;
        at.validation_loss = validation_loss.or(at.validation_loss);
        at.seconds += started.elapsed().as_secs_f64();
        let (tokens, seconds) = (Tokens(at.tokens), Seconds(at.seconds));
        let report = StepReport { step, steps, loss, validation_loss, learning_rate, tokens, seconds };
        at.reports.push(report);
        validated.map(|_| report)
    }

    /// Runs the validation of the last step again, if the run was stopped during it. Errors: as for a step.
    pub(super) fn finish_validation(
        &mut self,
        model: &Model,
        token_budget: usize,
        beat: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        if self.at.unvalidated {
            let loss = self.validation_loss(model, token_budget, beat)?;
            self.at.unvalidated = false;
            self.at.validation_loss = loss.or(self.at.validation_loss);
            if let Some(report) = self.at.reports.last_mut() {
                report.validation_loss = loss;
            }
        }
        Ok(())
    }

    /// The final report.
    pub(super) fn trained(&self) -> Trained {
        let TrainingState { reports, tokens, seconds, validation_loss, step, .. } = &self.at;
        let tenth = &reports[reports.len() - reports.len().div_ceil(10)..];
        Trained {
            steps: *step,
            tokens: Tokens(*tokens),
            seconds: Seconds(*seconds),
            last_losses: tenth.iter().map(|report| report.loss).sum::<f64>() / tenth.len() as f64,
            validation_loss: *validation_loss,
            trainable: self.adapter.parameters(),
            peak_memory: peak_memory(),
            adapter: None,
        }
    }

    /// Mean validation loss per scored token, if there are validation rows.
    fn validation_loss(
        &self,
        model: &Model,
        token_budget: usize,
        beat: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<Option<f64>, EngineError> {
        let lengths: Vec<usize> = self.validation.iter().map(|row| row.tokens.len()).collect();
        let (mut loss, mut scored) = (0.0, 0);
        for pass in plan_passes(&lengths, token_budget) {
            let rows: Vec<&Example> = pass.rows.iter().map(|row| self.validation[row.index]).collect();
            let (pass_loss, count) = within_memory(token_budget, || loss_only(model, self.adapter, &rows))?;
            loss += pass_loss;
            scored += count;
            beat()?;
        }
        Ok((scored > 0).then(|| loss / scored as f64))
    }
}

/// Whether every element of a tensor is finite.
fn is_finite(tensor: &Tensor) -> bool {
    // The norm of anything with an infinity or NaN is not finite either.
    tensor.norm().double_value(&[]).is_finite()
}

impl TrainingState {
    fn start(key: Digest) -> Self {
        Self {
            key,
            step: 0,
            tokens: 0,
            seconds: 0.0,
            reports: Vec::new(),
            validation_loss: None,
            unvalidated: false,
            optimizer_steps: 0,
        }
    }
}

/// The rows of one optimizer step.
struct Window<'a> {
    /// Position in the run of the first row.
    first: u64,
    examples: Vec<&'a Example>,
    /// Weight of each scored token, by row.
    weights: Vec<f64>,
}

impl<'a> Window<'a> {
    /// The rows of step `step`; the last window may be short.
    fn of(run: &Run<'a>, step: u64, rows: &[&'a Example], sequence: &mut RowSequence) -> Self {
        let first = step * run.train.batch_size;
        let end = (first + run.train.batch_size).min(run.train.rows(rows.len() as u64));
        let examples: Vec<&Example> = (first..end).map(|place| rows[sequence.row(place)]).collect();
        let scored: Vec<usize> = examples.iter().map(|example| example.scored_tokens()).collect();
        let weights = token_weights(run.train.loss, &scored, run.train.micro_batch_size as usize);
        Self { first, examples, weights }
    }

    fn lengths(&self) -> Vec<usize> {
        self.examples.iter().map(|example| example.tokens.len()).collect()
    }
}
