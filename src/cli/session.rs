//! An engine for one command: one order after another, their events handed on.

use std::path::{Path, PathBuf};

use super::exit_code::ExitCode;
use super::failure::Failure;
use super::model_arguments::LoadArguments;
use crate::device::{DeviceKind, Inventory, Slot, slots};
use crate::engine_process::{Engine, EngineDevice, EngineHandle, find_engine};
use crate::job::{BaseForm, DType, Quantize};
use crate::pretrained::{Checkpoint, ModelTokenizer};
use crate::protocol::{Device, Event, FailureKind, FrameError, LoadOrder, Order};

/// The one slot that `--device` names. Errors: it names none, or several.
fn slot_of(device: &str) -> Result<Slot, Failure> {
    let help = "name cpu, or one GPU as cuda:0; `loragrid doctor` shows them".to_owned();
    let usage = |message: String| Failure::new(ExitCode::Usage, message, help.clone());
    let mut found = slots(device, &Inventory::find(), &|| true).map_err(|error| usage(error.to_string()))?;
    match (found.pop(), found.is_empty()) {
        (Some(slot), true) => Ok(slot),
        _ => Err(usage(format!("--device {device} is not one device"))),
    }
}

/// The compute dtype where none is named: that of a sweep on this device.
fn auto(device: &str) -> DType {
    let kind = DeviceKind::named(device, &Inventory::find(), &|| true);
    kind.unwrap_or_else(|_| DeviceKind::of_this_cpu()).auto_dtype()
}

/// A running engine.
pub(super) struct Session {
    engine: Engine,
    handle: EngineHandle,
    slot: Slot,
    log: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Session {
    /// Starts the engine. Errors: there is none, it does not start.
    pub(super) fn start(load: &LoadArguments) -> Result<Self, Failure> {
        let program = std::env::current_exe().ok();
        let path = std::env::var_os("PATH");
        let program = find_engine(load.engine.as_deref(), program.as_deref(), path.as_deref())?;
        let scratch = tempfile::tempdir()?;
        let log = scratch.path().join("engine.log");
        let failed = |error: crate::engine_process::WorkerError| {
            Failure::new(ExitCode::Engine, error.to_string(), None)
        };
        let slot = slot_of(&load.device)?;
        let cards = slot.card.as_ref().map(|card| card.0.clone());
        let place = EngineDevice { device: slot.device.to_string(), cards, ..EngineDevice::default() };
        let (engine, handle) = Engine::start(&program, &log, &place).map_err(failed)?;
        Ok(Self { engine, handle, slot, log, _scratch: scratch })
    }

    /// A folder for the command's own files, removed with the session.
    pub(super) fn scratch(&self) -> &Path {
        self._scratch.path()
    }

    /// How the arguments hold a model.
    pub(super) fn form(load: &LoadArguments, quantize: Quantize) -> BaseForm {
        BaseForm { quantize, ..BaseForm::dense(load.dtype.unwrap_or_else(|| auto(&load.device))) }
    }

    /// Loads a model.
    pub(super) async fn load(&mut self, model: &Path, form: BaseForm) -> Result<(), Failure> {
        let order = LoadOrder { model: model.to_owned(), form, threads: self.slot.threads };
        self.carry_out(&Order::Load(order), |_| Ok(())).await.map(drop)
    }

    /// Sends an order and waits for its last event, which is returned; those before it go to `watch`. Errors: the
    /// engine's, of `watch`, a dead engine.
    pub(super) async fn carry_out(
        &mut self,
        order: &Order,
        mut watch: impl FnMut(&Event) -> Result<(), Failure>,
    ) -> Result<Event, Failure> {
        self.send(order).await?;
        loop {
            match self.next().await? {
                Event::Hello { device: Device::Cpu, .. } if self.slot.card.is_some() => {
                    let message = format!("the engine found no GPU for --device {}", self.slot.device);
                    let help = "it was built without CUDA, or the driver lost the GPU; --device cpu works";
                    return Err(Failure::new(ExitCode::Engine, message, help.to_owned()));
                }
                event @ (Event::Hello { .. }
                | Event::Pass
                | Event::Step { .. }
                | Event::Document { .. }
                | Event::Sample { .. }
                | Event::Token { .. }) => {
                    watch(&event)?;
                }
                event => return Ok(event),
            }
        }
    }

    /// Sends an order. Error: a dead engine.
    pub(super) async fn send(&mut self, order: &Order) -> Result<(), Failure> {
        let broken = |error: FrameError| Failure::new(ExitCode::Engine, error.to_string(), None);
        self.handle.send(order).map_err(broken)
    }

    /// The next event. Errors: the engine's failure, a dead engine.
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        let broken = |error: String| Failure::new(ExitCode::Engine, error, None);
        match self.engine.next_event().await.map_err(|error| broken(error.to_string()))? {
            Some(Event::Failed(failure) | Event::MemberFailed { failure, .. }) => {
                let code = match failure.kind {
                    FailureKind::BadInput => ExitCode::Model,
                    FailureKind::Diverged
                    | FailureKind::Environment
                    | FailureKind::Internal
                    | FailureKind::OutOfMemory
                    | FailureKind::DiskFull => ExitCode::Engine,
                };
                Err(Failure::new(code, failure.message, None))
            }
            Some(event) => Ok(event),
            None => {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let words = log.lines().last().unwrap_or("it said nothing").to_owned();
                Err(broken(format!("the engine ended: {words}")))
            }
        }
    }
}

/// A model's tokenizer. Errors: the checkpoint's, it has none.
pub(super) fn tokenizer(model: &Path) -> Result<ModelTokenizer, Failure> {
    let checkpoint = Checkpoint::open(model)?;
    ModelTokenizer::open(&checkpoint).map_err(|error| {
        Failure::new(ExitCode::Model, error.to_string(), "use a checkpoint with its tokenizer".to_owned())
    })
}
