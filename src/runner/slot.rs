//! The engine of a slot, and the task that reads its events.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::engine_process::{Engine, EngineDevice, EngineExit, EngineHandle, WorkerError};
use crate::job::{BaseForm, Digest, SlotId};
use crate::protocol::Event;

/// What the reader of a slot's events says.
#[derive(Debug)]
pub(super) enum SlotMessage {
    /// The engine said something, at this time.
    Event(Event, Instant),
    /// The engine is gone.
    Exited(EngineExit),
}

/// An engine that was started, with the file that it logs to at present.
pub(super) struct SlotEngine {
    pub(super) handle: EngineHandle,
    pub(super) log: watch::Sender<Option<PathBuf>>,
    /// The model that it has loaded.
    pub(super) loaded: Option<(Digest, BaseForm)>,
    /// Whether it has said that it is there.
    pub(super) greeted: bool,
    /// How long it had been silent when it was killed for it.
    pub(super) silent: Option<Duration>,
    /// When it said something last.
    pub(super) last_sign: Instant,
    /// The longest that it was silent between two signs of a job.
    pub(super) longest_silence: Duration,
    /// When it was given its job.
    pub(super) given: Instant,
    /// When it was first killed.
    pub(super) killed: Option<Instant>,
}

impl SlotEngine {
    /// Starts an engine whose messages go to `messages`. Error: it cannot be started.
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

    /// Notes a sign of life.
    pub(super) fn sign(&mut self, at: Instant) {
        // How long a model takes to load says nothing of passes.
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

    /// Kills it, once: one that does not die of it is beyond us.
    pub(super) fn kill(&mut self) {
        if self.killed.is_none() {
            self.killed = Some(Instant::now());
            self.handle.kill();
        }
    }

    /// Notes that it has a new job.
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
                // The time when it was said, not when somebody finds the time to listen.
                let message = SlotMessage::Event(event, Instant::now());
                if messages.send((slot, message)).await.is_err() {
                    return;
                }
            }
            // An engine whose stream ended or is not understood is of no use: `death` waits for it, and dropping it
            // kills what is left of it.
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
