//! The process groups of running engines: Ctrl-Z in a terminal stops this program but does not reach them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// An engine's group, registered as long as this exists.
#[derive(Debug)]
pub(super) struct KnownGroup(i32);

impl KnownGroup {
    pub(super) fn new(group: Pid) -> Self {
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner).insert(group.as_raw());
        Self(group.as_raw())
    }
}

impl Drop for KnownGroup {
    fn drop(&mut self) {
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Stops every engine.
pub fn stop_engines() {
    signal(Signal::SIGSTOP);
}

/// Continues stopped engines.
pub fn continue_engines() {
    signal(Signal::SIGCONT);
}

fn signal(signal: Signal) {
    for group in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|group| **group > 0) {
        // It may be gone already.
        let _ = killpg(Pid::from_raw(*group), signal);
    }
}
