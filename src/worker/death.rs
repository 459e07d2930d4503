//! How an engine ended.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

/// Bytes of the log's end that are looked at.
const TAIL: usize = 1 << 16;

/// How an engine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// The signal that killed it, if one did.
    pub signal: Option<i32>,
    /// The line of its log that says why, or the last one.
    pub last_words: Option<String>,
}

/// What a program says that dies for want of memory: Rust's allocator, and C++'s.
const NO_MEMORY: [&str; 2] = ["memory allocation of", "std::bad_alloc"];
/// What a program says that dies by a bug of its own.
const PANIC: &str = "panicked at";
/// Most characters of it that are told.
const LONGEST: usize = 300;

impl Death {
    /// The certificate of a process that ended with this status and wrote this log.
    pub(super) fn of(status: ExitStatus, log: &Path) -> Self {
        Self { code: status.code(), signal: status.signal(), last_words: last_words(log) }
    }

    /// Whether it says that it died for want of memory.
    pub fn wants_memory(&self) -> bool {
        self.last_words.as_ref().is_some_and(|words| NO_MEMORY.iter().any(|sign| words.contains(sign)))
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

fn last_words(log: &Path) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).into_owned();
    let lines: Vec<&str> = tail.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let says_why = |line: &&str| line.contains(PANIC) || NO_MEMORY.iter().any(|sign| line.contains(sign));
    let at = lines.iter().rposition(says_why).or_else(|| lines.len().checked_sub(1))?;
    // A panic says where in one line, and what in the next.
    let what = lines.get(at + 1).filter(|_| lines[at].contains(PANIC));
    let words = what.map_or(lines[at].to_owned(), |what| format!("{} {what}", lines[at]));
    Some(words.chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(log: &str) -> Death {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, log).unwrap();
        Death { code: None, signal: Some(6), last_words: last_words(&path) }
    }

    #[test]
    fn the_line_that_says_why_comes_before_the_last_one() {
        let death = words("step 3/9\nmemory allocation of 42 bytes failed\nstack backtrace:\n   0: abort\n");
        assert_eq!(death.last_words.as_deref(), Some("memory allocation of 42 bytes failed"));
        assert!(death.wants_memory());
        let death =
            words("thread 'main' panicked at a.rs:1:2:\nno kernel for it\nnote: run with a backtrace\n");
        let said = death.last_words.as_deref();
        assert_eq!(said, Some("thread 'main' panicked at a.rs:1:2: no kernel for it"));
        let death = words("step 3/9\nstep 4/9\n\n");
        assert_eq!(death.to_string(), "the engine was killed by SIGABRT; its last words: step 4/9");
        assert!(!death.wants_memory());
        assert_eq!(words(&"x".repeat(5000)).last_words.map(|words| words.len()), Some(LONGEST));
    }
}
