//! SIGTERM as a flag, and the life signs of long orders.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::failure::EngineError;

/// Life signs are this far apart.
const APART: Duration = Duration::from_secs(1);

static STOPPED: AtomicBool = AtomicBool::new(false);
/// Whether the engine waits for an order.
static IDLE: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: i32) {
    STOPPED.store(true, Ordering::SeqCst);
    if IDLE.load(Ordering::SeqCst) {
        // SAFETY: `_exit` may be called in a handler; an engine that waits has nothing to write down.
        unsafe { nix::libc::_exit(0) }
    }
}

/// Whether the engine waits for an order from now on: a SIGTERM then ends it at once.
pub(crate) fn set_idle(idle: bool) {
    IDLE.store(idle, Ordering::SeqCst);
}

/// From now on SIGTERM sets the flag while an order is carried out, and ends an engine that waits for one.
pub(crate) fn listen() {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler stores into an atomic, which may be done in one.
    let set = unsafe { sigaction(Signal::SIGTERM, &action) };
    if let Err(error) = set {
        tracing::warn!("SIGTERM is not heard: {error}");
    }
}

/// Whether the order is to be stopped.
pub(crate) fn is_stopped() -> bool {
    STOPPED.load(Ordering::SeqCst)
}

/// When the last life sign was given.
pub(crate) struct LifeSigns(Instant);

impl LifeSigns {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// After a pass: tells, where it is time, that the engine lives. Errors: the order is stopped, the sign cannot be sent.
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

/// What an order calls after each pass.
pub(crate) struct Pulse<'a> {
    signs: LifeSigns,
    tell: &'a mut dyn FnMut() -> Result<(), EngineError>,
}

impl<'a> Pulse<'a> {
    pub(crate) fn new(tell: &'a mut dyn FnMut() -> Result<(), EngineError>) -> Self {
        Self { signs: LifeSigns::new(), tell }
    }

    /// After a pass. Errors: the order is stopped, the sign cannot be sent.
    pub(crate) fn beat(&mut self) -> Result<(), EngineError> {
        self.signs.beat(self.tell)
    }
}
