//! An engine for one call: a model is loaded, and one order after another is carried out. Merging, comparing, generating and serving.

mod compare;
mod generate;
mod merge;
mod serving;
mod stop_texts;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use compare::{CompareRequest, ComparedModel, compare_models};
pub use generate::{Answer, GenerationLimits, Generator};
pub use merge::{MergeRequest, Merged, merge, require_adapter};
pub use serving::{AnswerError, AnswerPart, AnswerStream, ModelServer, Question};

use crate::device::{DeviceError, DeviceKind, Inventory, Slot, slots};
use crate::engine_process::{Engine, EngineDevice, EngineHandle, EngineNotFound, WorkerError, find_engine};
use crate::job::{BaseForm, DType, Quantize};
use crate::protocol::{Device, EngineFailure, Event, FrameError, Inquiry, LoadOrder, Order};

/// Why an engine did not do what it was asked.
#[derive(Debug, Error)]
pub enum SessionError {
    /// A device that cannot be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Several devices, or none.
    #[error("--device must be one device, not '{0}'")]
    NotOneDevice(String),
    /// There is no engine.
    #[error(transparent)]
    NoEngine(#[from] EngineNotFound),
    /// It does not start, or is not understood.
    #[error(transparent)]
    Process(#[from] WorkerError),
    /// An order did not reach it.
    #[error(transparent)]
    Order(#[from] FrameError),
    /// It computes on the CPU though a GPU is wanted.
    #[error("the engine found no GPU for --device {0}")]
    NoGpu(String),
    /// It could not carry out an order.
    #[error("{}", .0.message)]
    Failed(EngineFailure),
    /// It ended.
    #[error("the engine ended: {0}")]
    Ended(String),
    /// It answered something that does not belong to the order.
    #[error("unexpected answer from the engine")]
    OtherAnswer,
    /// What it says cannot be shown.
    #[error("output failed: {0}")]
    Output(#[from] std::io::Error),
}

/// Where a model is computed, and by which engine.
#[derive(Debug, Clone)]
pub struct SessionDevice {
    /// `cpu`, or one GPU as `cuda:0`.
    pub device: String,
    /// The engine, where it is named.
    pub engine: Option<PathBuf>,
}

impl SessionDevice {
    /// How a model is held: in this dtype, or in that of a sweep on this device.
    pub fn form(&self, dtype: Option<DType>, quantize: Quantize) -> BaseForm {
        let auto = || {
            let kind = DeviceKind::named(&self.device, &Inventory::find(), &|| true);
            kind.unwrap_or_else(|_| DeviceKind::of_this_cpu()).auto_dtype()
        };
        BaseForm { quantize, ..BaseForm::dense(dtype.unwrap_or_else(auto)) }
    }

    /// The one slot of the device. Errors: there is none, or several.
    fn slot(&self) -> Result<Slot, SessionError> {
        let mut found = slots(&self.device, &Inventory::find(), &|| true)?;
        match (found.pop(), found.is_empty()) {
            (Some(slot), true) => Ok(slot),
            (None, _) | (Some(_), false) => Err(SessionError::NotOneDevice(self.device.clone())),
        }
    }
}

/// A running engine.
pub(super) struct Session {
    engine: Engine,
    handle: EngineHandle,
    slot: Slot,
    log: PathBuf,
    scratch: tempfile::TempDir,
}

impl Session {
    /// Starts the engine. Errors: there is none, it does not start.
    pub(super) fn start(on: &SessionDevice) -> Result<Self, SessionError> {
        let program = std::env::current_exe().ok();
        let path = std::env::var_os("PATH");
        let program = find_engine(on.engine.as_deref(), program.as_deref(), path.as_deref())?;
        let scratch = tempfile::tempdir()?;
        let log = scratch.path().join("engine.log");
        let slot = on.slot()?;
        let cards = slot.visible_cards();
        let device = EngineDevice { device: slot.device.to_string(), cards, ..EngineDevice::default() };
        let (engine, handle) = Engine::start(&program, &log, &device)?;
        Ok(Self { engine, handle, slot, log, scratch })
    }

    /// A folder for files of the call, removed with the session.
    pub(super) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Loads a model.
    pub(super) async fn load(&mut self, model: &Path, form: BaseForm) -> Result<(), SessionError> {
        let order = LoadOrder { model: model.to_owned(), form, threads: self.slot.threads, devices: 1 };
        self.carry_out(&Order::Load(order), |_| Ok(())).await.map(drop)
    }

    /// Sends an order and waits for its last event, which is returned; those before it go to `watch`. Errors: the
    /// engine's, of `watch`, a dead engine.
    pub(super) async fn carry_out(
        &mut self,
        order: &Order,
        mut watch: impl FnMut(&Event) -> Result<(), SessionError>,
    ) -> Result<Event, SessionError> {
        self.handle.send(order)?;
        loop {
            match self.next().await? {
                Event::Hello { device: Device::Cpu, .. } if !self.slot.cards.is_empty() => {
                    return Err(SessionError::NoGpu(self.slot.device.to_string()));
                }
                event @ (Event::Hello { .. }
                | Event::Pass
                | Event::Step { .. }
                | Event::Document { .. }
                | Event::Sample { .. }
                | Event::Token { .. }) => watch(&event)?,
                event => return Ok(event),
            }
        }
    }

    /// Sends an inquiry to an engine that is serving. Error: one that cannot be encoded.
    pub(super) fn inquire(&self, inquiry: &Inquiry) -> Result<(), SessionError> {
        Ok(self.handle.inquire(inquiry)?)
    }

    /// The next event. Errors: the engine's failure, a dead engine.
    pub(super) async fn next(&mut self) -> Result<Event, SessionError> {
        match self.engine.next_event().await? {
            Some(Event::Failed(failure) | Event::MemberFailed { failure, .. }) => {
                Err(SessionError::Failed(failure))
            }
            Some(event) => Ok(event),
            None => {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                Err(SessionError::Ended(log.lines().last().unwrap_or("no output").to_owned()))
            }
        }
    }
}
