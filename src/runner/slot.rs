//! The engine of a slot.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::engines::{EngineControl, EngineMessages, Engines};
use crate::device::Slot;
use crate::engine_process::WorkerError;
use crate::job::{BaseForm, Digest};

/// A running engine, with its current log file.
pub(super) struct SlotEngine {
    pub(super) handle: Box<dyn EngineControl>,
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
        engines: &dyn Engines,
        slot: &Slot,
        log: &std::path::Path,
        messages: EngineMessages,
    ) -> Result<Self, WorkerError> {
        let (sender, receiver) = watch::channel(None);
        let handle = engines.start(slot, log, receiver, messages)?;
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
