//! Engines as the runner sees them: started for a slot, given orders, stopped. Their events come as messages.

use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::device::Slot;
use crate::engine_process::{Engine, EngineDevice, EngineExit, EngineHandle, Launcher, WorkerError};
use crate::job::SlotId;
use crate::protocol::{Event, FrameError, Order};

/// A message of a slot's engine.
#[derive(Debug)]
pub enum EngineMessage {
    /// An event, with the time of its arrival.
    Event(Event, Instant),
    /// The engine is gone. Nothing follows.
    Exited(EngineExit),
}

/// Where the messages of all slots arrive.
pub type EngineMessages = mpsc::Sender<(SlotId, EngineMessage)>;

/// Starts engines.
pub trait Engines {
    /// Starts the engine of a slot. Until it is given a log of its own, what it prints goes to `log`; `logs` names the file that it writes
    /// now. Error: it cannot be started.
    fn start(
        &self,
        slot: &Slot,
        log: &Path,
        logs: watch::Receiver<Option<PathBuf>>,
        messages: EngineMessages,
    ) -> Result<Box<dyn EngineControl>, WorkerError>;
}

/// A running engine.
pub trait EngineControl {
    /// Sends an order without waiting until it is read. Error: an order that cannot be encoded.
    fn send(&self, order: &Order) -> Result<(), FrameError>;
    /// Asks it to write a checkpoint and exit.
    fn terminate(&self);
    /// Kills it.
    fn kill(&self);
    /// Its process on this machine.
    fn pid(&self) -> u32;
}

/// Engines as processes of this program, or of a launcher's.
#[derive(Debug, Clone)]
pub struct EngineProcesses {
    /// The engine's program.
    pub program: PathBuf,
    /// Starts it elsewhere; this program starts it if not set.
    pub launcher: Option<Launcher>,
    /// Whether each is pinned to the cores of its slot: where there are several.
    pub is_pinned: bool,
}

impl Engines for EngineProcesses {
    fn start(
        &self,
        slot: &Slot,
        log: &Path,
        logs: watch::Receiver<Option<PathBuf>>,
        messages: EngineMessages,
    ) -> Result<Box<dyn EngineControl>, WorkerError> {
        let cores = if self.is_pinned { slot.cores.clone() } else { Vec::new() };
        let cards = slot.visible_cards();
        let (device, launcher) = (slot.device.for_engine(), self.launcher.clone());
        let place = EngineDevice { device, cores, cards, launcher };
        let (engine, handle) = Engine::start(&self.program, log, &place)?;
        tokio::spawn(read_events(slot.id, engine, logs, messages));
        Ok(Box::new(handle))
    }
}

impl EngineControl for EngineHandle {
    fn send(&self, order: &Order) -> Result<(), FrameError> {
        Self::send(self, order)
    }

    fn terminate(&self) {
        Self::terminate(self);
    }

    fn kill(&self) {
        Self::kill(self);
    }

    fn pid(&self) -> u32 {
        Self::pid(self)
    }
}

async fn read_events(
    slot: SlotId,
    mut engine: Engine,
    log: watch::Receiver<Option<PathBuf>>,
    messages: EngineMessages,
) {
    loop {
        match engine.next_event().await {
            Ok(Some(event)) => {
                // The time of arrival, not of handling.
                let message = EngineMessage::Event(event, Instant::now());
                if messages.send((slot, message)).await.is_err() {
                    return;
                }
            }
            // An engine whose stream ended or cannot be parsed is useless: `death` waits for it, and dropping it kills the rest of its
            // group.
            Ok(None) => break,
            Err(error) => {
                tracing::warn!("slot {}: {error}", slot.0);
                engine.kill();
                break;
            }
        }
    }
    let log = log.borrow().clone();
    let death = engine.death(log).await;
    // The receiver is gone when the run is over.
    let _ = messages.send((slot, EngineMessage::Exited(death))).await;
}
