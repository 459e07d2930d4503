//! The summary of a run.

use crate::job::{JobId, Seconds};

/// The summary of a run.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct RunSummary {
    /// Jobs that finished.
    pub finished: u64,
    /// Jobs that failed, with their reasons.
    pub failed: Vec<(String, String)>,
    /// Jobs that diverged, with their reasons.
    pub diverged: Vec<(String, String)>,
    /// Requeued attempts.
    pub requeued: u64,
    /// Jobs that were paused, cancelled or taken over.
    pub let_go: u64,
    /// Why it stopped before its end, if it did.
    pub stopped: Option<Stopped>,
    /// The missing files, if it stopped for them.
    pub trouble: String,
    /// Jobs that stay queued because an input is missing on this machine, with the reason.
    pub waiting: Vec<(JobId, String)>,
    /// Wall time.
    pub seconds: Seconds,
    /// Device time of all slots.
    pub device: Seconds,
}

/// Why a run stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// By the user.
    User,
    /// The time limit was reached.
    Time,
    /// Too many jobs had failed.
    Failures,
    /// The sweep reached its `[keep]` disk limit.
    Disk,
    /// Files that jobs need are missing.
    Environment,
}

impl RunSummary {
    /// One line: number of jobs by outcome, and device time.
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
        add(self.let_go as usize, "paused, cancelled or taken over");
        let Seconds(device) = self.device;
        format!("{} in {}; {:.2} device-hours", parts.join(", "), self.seconds, device / 3600.0)
    }

    /// Failures by cause, most frequent first; causes that differ only in numbers are merged.
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
