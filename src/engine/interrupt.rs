//! SIGTERM as a flag, and heartbeats during long orders.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::failure::EngineError;

/// Heartbeat interval.
const APART: Duration = Duration::from_secs(1);

static STOPPED: AtomicBool = AtomicBool::new(false);
/// Whether the engine is idle, waiting for an order.
static IDLE: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: i32) {
    STOPPED.store(true, Ordering::SeqCst);
    if IDLE.load(Ordering::SeqCst) {
        // SAFETY: `_exit` is async-signal-safe; an idle engine has nothing to save.
        unsafe { nix::libc::_exit(0) }
    }
}

/// Marks the engine idle or busy; SIGTERM ends an idle engine at once.
pub(crate) fn set_idle(idle: bool) {
    IDLE.store(idle, Ordering::SeqCst);
}

/// Installs the handler: SIGTERM sets the flag while an order runs, and ends an idle engine.
pub(crate) fn listen() {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
    let set = unsafe { sigaction(Signal::SIGTERM, &action) };
    if let Err(error) = set {
        tracing::warn!("SIGTERM is not heard: {error}");
    }
}

/// Whether the order should stop.
pub(crate) fn is_stopped() -> bool {
    STOPPED.load(Ordering::SeqCst)
}

/// Time of the last heartbeat.
pub(crate) struct LifeSigns(Instant);

impl LifeSigns {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// After a pass: sends a heartbeat if one is due. Errors: the order is stopped, the heartbeat cannot be sent.
    pub(crate) fn beat(
        &mut self,
        tell: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        if self.0.elapsed() > APART {
            self.0 = Instant::now();
            tell()?;
        }
        if is_stopped() { Err(EngineError::Stopped) } else { Ok(()) }
    }
}

/// Called by an order after each pass.
pub(crate) struct Pulse<'a> {
    signs: LifeSigns,
    tell: &'a mut dyn FnMut() -> Result<(), EngineError>,
}

impl<'a> Pulse<'a> {
    pub(crate) fn new(tell: &'a mut dyn FnMut() -> Result<(), EngineError>) -> Self {
        Self { signs: LifeSigns::new(), tell }
    }

    /// After a pass. Errors: the order is stopped, the heartbeat cannot be sent.
    pub(crate) fn beat(&mut self) -> Result<(), EngineError> {
        self.signs.beat(self.tell)
    }
}
