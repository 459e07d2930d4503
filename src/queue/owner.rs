//! The owner of an attempt.

use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Pid;

/// The owner of an attempt: host, boot, PID namespace, process, and the process's start time, which distinguishes reused process ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner(String);

/// The machine, boot and container in which a process id is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Realm {
    host: String,
    /// Absent in owners written by an earlier release.
    boot: Option<String>,
    namespace: Option<String>,
}

impl Owner {
    /// From its stored form.
    pub fn from_store(text: String) -> Self {
        Self(text)
    }

    /// The stored form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This process.
    pub fn this_process() -> Self {
        let Realm { host, boot, namespace } = Realm::here();
        let pid = std::process::id();
        let (boot, namespace) = (boot.unwrap_or_default(), namespace.unwrap_or_default());
        Self(format!("{host}/{boot}/{namespace}/{pid}/{}", start_time(pid).unwrap_or_default()))
    }

    /// Host and process id, as shown to users.
    pub fn process(&self) -> String {
        let parts: Vec<&str> = self.0.split('/').collect();
        match parts.as_slice() {
            [host, pid, _] | [host, _, _, pid, _] => format!("{host}:{pid}"),
            _ => self.0.clone(),
        }
    }

    /// Whether the process exists; none on another host, boot or namespace.
    pub fn liveness(&self) -> Option<bool> {
        let is_here = self.realm().is_some_and(|realm| realm.is(&Realm::here()));
        is_here.then(|| !self.is_dead())
    }

    fn realm(&self) -> Option<Realm> {
        let parts: Vec<&str> = self.0.split('/').collect();
        match parts.as_slice() {
            [host, _, _] => Some(Realm::of(host, None, None)),
            [host, boot, namespace, _, _] => Some(Realm::of(host, Some(boot), Some(namespace))),
            _ => None,
        }
    }

    /// Whether the process is known to be gone. For another host, boot or namespace, and for a process hidden by the system, only the
    /// heartbeat can tell.
    pub fn is_dead(&self) -> bool {
        let parts: Vec<&str> = self.0.split('/').collect();
        let (realm, pid, started) = match parts.as_slice() {
            [host, pid, started] => (Realm::of(host, None, None), pid, started),
            [host, boot, namespace, pid, started] => {
                (Realm::of(host, Some(boot), Some(namespace)), pid, started)
            }
            _ => return true,
        };
        let Ok(pid) = pid.parse::<u32>() else { return true };
        realm.is(&Realm::here()) && is_gone(pid, started)
    }
}

impl Realm {
    fn of(host: &str, boot: Option<&str>, namespace: Option<&str>) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self { host: host.to_owned(), boot: owned(boot), namespace: owned(namespace) }
    }

    fn here() -> Self {
        let host =
            nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let namespace = std::fs::read_link("/proc/self/ns/pid").ok();
        // pid:[4026531836]
        let namespace = namespace
            .map(|link| link.to_string_lossy().chars().filter(char::is_ascii_digit).collect::<String>());
        Self { host, boot: boot.map(|id| id.trim().to_owned()), namespace }
    }

    fn is(&self, here: &Self) -> bool {
        let same = |known: &Option<String>, here: &Option<String>| known.is_none() || known == here;
        self.host == here.host && same(&self.boot, &here.boot) && same(&self.namespace, &here.namespace)
    }
}

/// Whether no process has the id and start time. Another user's process may be hidden: it is alive as long as the kernel knows its id.
fn is_gone(pid: u32, started: &str) -> bool {
    let Ok(number) = i32::try_from(pid) else { return true };
    if nix::sys::signal::kill(Pid::from_raw(number), None) == Err(Errno::ESRCH) {
        return true;
    }
    start_time(pid).is_some_and(|now| now.to_string() != started)
}

/// Start of a process in clock ticks since boot; `None` if no process has this id, or it is hidden.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name in parentheses may contain spaces; the start time is the 20th field after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_dead_only_where_it_is_known_to_be_gone() {
        let owner = Owner::this_process();
        assert!(!owner.is_dead());
        let parts: Vec<&str> = owner.0.split('/').collect();
        let of = |host: &str, boot: &str, namespace: &str, pid: &str, start: &str| {
            Owner(format!("{host}/{boot}/{namespace}/{pid}/{start}")).is_dead()
        };
        let [host, boot, namespace, pid, start] = parts[..] else { panic!("{parts:?}") };
        assert!(of(host, boot, namespace, pid, "1"), "the number was given to another process");
        assert!(of(host, boot, namespace, "4194305", start), "no process has that number");
        assert!(!of("elsewhere", boot, namespace, "4194305", start));
        assert!(!of(host, "another boot", namespace, "4194305", start));
        assert!(!of(host, boot, "1", "4194305", start), "a container's process is not seen from here");
        assert!(Owner(format!("{host}/4194305/7")).is_dead(), "as an earlier release wrote it");
    }
}
