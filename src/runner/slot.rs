//! The engine of a slot, and the task that reads its events.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::engine_process::{Engine, EngineDevice, EngineExit, EngineHandle, WorkerError};
use crate::job::{BaseForm, Digest, SlotId};
use crate::protocol::Event;

/// A message from the reader of a slot's events.
#[derive(Debug)]
pub(super) enum SlotMessage {
    /// An event of the engine, with its time.
    Event(Event, Instant),
    /// The engine is gone.
    Exited(EngineExit),
}

/// A running engine, with its current log file.
pub(super) struct SlotEngine {
    pub(super) handle: EngineHandle,
    pub(super) log: watch::Sender<Option<PathBuf>>,
    /// The loaded model.
    pub(super) loaded: Option<(Digest, BaseForm)>,
    /// Whether it has sent its greeting.
    pub(super) greeted: bool,
    /// How long it had been silent when it was killed for that.
    pub(super) silent: Option<Duration>,
    /// When it last sent an event.
    pub(super) last_sign: Instant,
    /// Its longest silence between two events of a job.
    pub(super) longest_silence: Duration,
    /// When it got its current job.
    pub(super) given: Instant,
    /// When it was first killed.
    pub(super) killed: Option<Instant>,
}

impl SlotEngine {
    /// Starts an engine that sends its events to `messages`. Error: it cannot be started.
    pub(super) fn start(
        slot: SlotId,
        program: &std::path::Path,
        log: &std::path::Path,
        place: &EngineDevice,
        messages: mpsc::Sender<(SlotId, SlotMessage)>,
    ) -> Result<Self, WorkerError> {
        let (engine, handle) = Engine::start(program, log, place)?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(read_events(slot, engine, receiver, messages));
        let now = Instant::now();
        let (last_sign, given, longest_silence) = (now, now, Duration::ZERO);
        Ok(Self {
            handle,
            log: sender,
            loaded: None,
            greeted: false,
            silent: None,
            last_sign,
            longest_silence,
            given,
            killed: None,
        })
    }

    /// Records an event's time.
    pub(super) fn sign(&mut self, at: Instant) {
        // The time to load a model says nothing about passes.
        if self.greeted && self.loaded.is_some() {
            self.longest_silence = self.longest_silence.max(at.saturating_duration_since(self.last_sign));
        }
        self.greeted = true;
        self.last_sign = self.last_sign.max(at);
    }

    /// Kills it for its silence.
    pub(super) fn kill_silent(&mut self) {
        self.silent.get_or_insert(self.last_sign.elapsed());
        self.kill();
    }

    /// Kills it, once: a process that survives SIGKILL cannot be helped.
    pub(super) fn kill(&mut self) {
        if self.killed.is_none() {
            self.killed = Some(Instant::now());
            self.handle.kill();
        }
    }

    /// Records that it has a new job.
    pub(super) fn give(&mut self) {
        (self.given, self.last_sign) = (Instant::now(), Instant::now());
    }
}

async fn read_events(
    slot: SlotId,
    mut engine: Engine,
    log: watch::Receiver<Option<PathBuf>>,
    messages: mpsc::Sender<(SlotId, SlotMessage)>,
) {
    loop {
        match engine.next_event().await {
            Ok(Some(event)) => {
                // The time of arrival, not of handling.
                let message = SlotMessage::Event(event, Instant::now());
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
    let _ = messages.send((slot, SlotMessage::Exited(death))).await;
}
