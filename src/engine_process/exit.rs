//! How an engine ended.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

/// Bytes at the end of the log that are searched.
const TAIL: u64 = 1 << 16;

/// How an engine ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineExit {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// The signal that killed it, if one did.
    pub signal: Option<i32>,
    /// The line of its log with the cause, or the last line.
    pub last_words: Option<String>,
    /// Whether the kernel's OOM killer killed a process while it ran.
    pub oom_killed: bool,
}

/// Out-of-memory messages: Rust's allocator, C++'s, and libtorch's on the CPU and on a GPU.
const NO_MEMORY: [&str; 4] =
    ["memory allocation of", "std::bad_alloc", "can't allocate memory", "CUDA out of memory"];
/// The message of a Rust panic.
const PANIC: &str = "panicked at";
/// Most characters of it that are shown.
const LONGEST: usize = 300;

impl EngineExit {
    /// The exit of a process with this status that wrote this log from an offset on; `oom_kills` is the value of [`oom_kills`] when it
    /// was started.
    pub(super) fn of(status: ExitStatus, log: &Path, from: u64, oom_kills: u64) -> Self {
        let (code, signal, last_words) = (status.code(), status.signal(), last_words(log, from));
        let oom_killed = signal == Some(9) && self::oom_kills() > oom_kills;
        Self { code, signal, last_words, oom_killed }
    }

    /// Whether the log shows that it ran out of memory.
    pub fn wants_memory(&self) -> bool {
        self.last_words.as_ref().is_some_and(|words| NO_MEMORY.iter().any(|sign| words.contains(sign)))
    }
}

impl fmt::Display for EngineExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (_, Some(9)) if self.oom_killed => {
                f.write_str("the engine was killed by the kernel: out of memory")?
            }
            (_, Some(9)) => f.write_str("the engine was killed (SIGKILL)")?,
            (_, Some(signal)) => match Signal::try_from(signal) {
                Ok(signal) => write!(f, "the engine was killed by {}", signal.as_str())?,
                Err(_) => write!(f, "the engine was killed by signal {signal}")?,
            },
            (Some(code), None) => write!(f, "the engine exited with code {code}")?,
            (None, None) => f.write_str("the engine ended")?,
        }
        match &self.last_words {
            Some(words) => write!(f, "; last log line: {words}"),
            None => Ok(()),
        }
    }
}

/// Number of OOM kills so far, in this process's memory cgroup or on the machine.
pub(super) fn oom_kills() -> u64 {
    let count = |text: String, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().to_owned();
        line.parse::<u64>().ok()
    };
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let events = group.map(|group| format!("/sys/fs/cgroup{group}/memory.events"));
    let of_group = events.and_then(|path| count(std::fs::read_to_string(path).ok()?, "oom_kill"));
    let of_machine = || count(std::fs::read_to_string("/proc/vmstat").ok()?, "oom_kill");
    of_group.or_else(of_machine).unwrap_or_default()
}

/// The line of a log with the exit cause, among those written from an offset on.
fn last_words(log: &Path, from: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL)).min(length))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let tail = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<&str> = tail.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let says_why = |line: &&str| line.contains(PANIC) || NO_MEMORY.iter().any(|sign| line.contains(sign));
    let at = lines.iter().rposition(says_why).or_else(|| lines.len().checked_sub(1))?;
    // A panic prints the location on one line, and the message on the next.
    let what = lines.get(at + 1).filter(|_| lines[at].contains(PANIC));
    let words = what.map_or(lines[at].to_owned(), |what| format!("{} {what}", lines[at]));
    // For out of memory only the message itself, without the surrounding source location and stack.
    let sign = NO_MEMORY.iter().filter_map(|sign| words.find(sign)).min();
    let words = sign.map_or(words.as_str(), |at| words[at..].split("\\n").next().unwrap_or_default());
    // Engine output must not move a terminal's cursor.
    let plain = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
    Some(words.chars().take(LONGEST).map(plain).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(log: &str) -> EngineExit {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, log).unwrap();
        EngineExit { signal: Some(6), last_words: last_words(&path, 0), ..EngineExit::default() }
    }

    #[test]
    fn a_want_of_memory_that_libtorch_tells_in_a_panic_is_known_and_told_without_its_stack() {
        let log = "thread 'main' panicked at /home/somebody/tch/src/wrappers/tensor.rs:507:50:\n\
                   called `Result::unwrap()` on an `Err` value: Torch(\"[enforce fail at alloc_cpu.cpp:127] err == 0. \
                   DefaultCPUAllocator: can't allocate memory: you tried to allocate 113 bytes.\\nException raised from\n";
        let death = words(log);
        assert!(death.wants_memory());
        let last_words = death.last_words.unwrap();
        assert_eq!(last_words, "can't allocate memory: you tried to allocate 113 bytes.");
    }

    #[test]
    fn what_an_earlier_process_wrote_into_the_log_is_not_this_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let old = "memory allocation of 42 bytes failed\n";
        std::fs::write(&path, format!("{old}loading\n")).unwrap();
        assert_eq!(last_words(&path, old.len() as u64).as_deref(), Some("loading"));
        assert_eq!(last_words(&path, 1 << 40), None);
    }

    #[test]
    fn the_line_that_says_why_comes_before_the_last_one() {
        let death = words("step 3/9\nmemory allocation of 42 bytes failed\nstack backtrace:\n   0: abort\n");
        assert_eq!(death.last_words.as_deref(), Some("memory allocation of 42 bytes failed"));
        assert!(death.wants_memory());
        let death =
            words("thread 'main' panicked at a.rs:1:2:\nno kernel for it\nnote: run with a backtrace\n");
        let last_words = death.last_words.as_deref();
        assert_eq!(last_words, Some("thread 'main' panicked at a.rs:1:2: no kernel for it"));
        let death = words("step 3/9\nstep 4/9\n\n");
        assert_eq!(death.to_string(), "the engine was killed by SIGABRT; last log line: step 4/9");
        assert!(!death.wants_memory());
        assert_eq!(words(&"x".repeat(5000)).last_words.map(|words| words.len()), Some(LONGEST));
    }
}
