//! Who holds an attempt.

use std::path::Path;

/// Who holds an attempt: host, process, and the process's start time, so that a reused number is not taken for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner(String);

impl Owner {
    /// As the database has it.
    pub(super) fn from_store(text: String) -> Self {
        Self(text)
    }

    /// As the database has it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// This process.
    pub fn this_process() -> Self {
        let host =
            nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let pid = std::process::id();
        Self(format!("{host}/{pid}/{}", start_time(pid).unwrap_or_default()))
    }

    /// Whether the process is known to be gone: it was on this host, and no process with its number and start time is
    /// there now.
    pub fn is_dead(&self) -> bool {
        let parts: Vec<&str> = self.0.split('/').collect();
        let [host, pid, started] = parts.as_slice() else { return true };
        let here = nix::unistd::gethostname().is_ok_and(|name| name.to_string_lossy() == *host);
        let Ok(pid) = pid.parse() else { return true };
        here && start_time(pid).is_none_or(|now| now.to_string() != *started)
    }
}

/// Start of a process in clock ticks since boot; `None` if there is none of that number.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name in parentheses may hold spaces; the start time is the 20th field after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
