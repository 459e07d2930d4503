//! How an engine ended.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

/// Bytes of the log's end that are looked at.
const TAIL: usize = 4096;

/// How an engine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// The signal that killed it, if one did.
    pub signal: Option<i32>,
    /// The last line of its log.
    pub last_words: Option<String>,
}

impl Death {
    /// The certificate of a process that ended with this status and wrote this log.
    pub(super) fn of(status: ExitStatus, log: &Path) -> Self {
        Self { code: status.code(), signal: status.signal(), last_words: last_line(log) }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (_, Some(9)) => f.write_str("the engine was killed (SIGKILL, perhaps for want of memory)")?,
            (_, Some(signal)) => match Signal::try_from(signal) {
                Ok(signal) => write!(f, "the engine was killed by {}", signal.as_str())?,
                Err(_) => write!(f, "the engine was killed by signal {signal}")?,
            },
            (Some(code), None) => write!(f, "the engine exited with code {code}")?,
            (None, None) => f.write_str("the engine ended")?,
        }
        match &self.last_words {
            Some(words) => write!(f, "; its last words: {words}"),
            None => Ok(()),
        }
    }
}

fn last_line(log: &Path) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).into_owned();
    tail.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}
