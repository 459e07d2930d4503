//! What a run came to.

use crate::job::{JobId, Seconds};

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct RunSummary {
    /// Jobs that finished.
    pub finished: u64,
    /// Jobs that failed, with their reasons.
    pub failed: Vec<(String, String)>,
    /// Jobs that diverged, with their reasons.
    pub diverged: Vec<(String, String)>,
    /// Attempts that went back into the queue.
    pub requeued: u64,
    /// Jobs that were taken away: paused, cancelled, or given to another process.
    pub let_go: u64,
    /// Why it stopped before its end, if it did.
    pub stopped: Option<Stopped>,
    /// What was away, where it stopped for that.
    pub trouble: String,
    /// Jobs that stay queued because something is missing on this machine, with what.
    pub waiting: Vec<(JobId, String)>,
    /// Wall time.
    pub seconds: Seconds,
    /// Time in which slots worked at jobs, all together.
    pub device: Seconds,
}

/// Why a run stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// By the user.
    User,
    /// Its time was up.
    Time,
    /// Too many jobs had failed.
    Failures,
    /// The sweep holds as much disk as `[keep]` lets it.
    Disk,
    /// Files that jobs need are away.
    Environment,
}

impl RunSummary {
    /// One line: how many jobs came to what, and how long devices worked.
    pub fn line(&self) -> String {
        let mut parts = vec![format!("{} done", self.finished)];
        let mut add = |count: usize, word: &str| {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        };
        add(self.failed.len(), "failed");
        add(self.diverged.len(), "diverged");
        add(self.requeued as usize, "attempts requeued");
        add(self.let_go as usize, "taken away");
        let Seconds(device) = self.device;
        format!("{} in {}; {:.2} device-hours", parts.join(", "), self.seconds, device / 3600.0)
    }

    /// Failures by their cause, the most frequent first; numbers in a cause are no difference.
    pub fn causes(&self) -> Vec<(String, usize)> {
        let mut causes: std::collections::BTreeMap<String, (String, usize)> =
            std::collections::BTreeMap::new();
        for (_, reason) in self.failed.iter().chain(&self.diverged) {
            let kind: String = reason.chars().filter(|c| !c.is_ascii_digit()).collect();
            causes.entry(kind).or_insert((reason.clone(), 0)).1 += 1;
        }
        let mut causes: Vec<(String, usize)> = causes.into_values().collect();
        causes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        causes
    }
}
