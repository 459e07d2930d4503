//! Time limits of a run and of heartbeats.

use std::time::Duration;

use tokio::time::Instant;

/// Time limits of a run and of heartbeats.
#[derive(Debug, Clone)]
pub struct Limits {
    /// When to stop starting jobs and requeue the running ones.
    pub until: Option<Instant>,
    /// Number of failed jobs after which nothing more starts.
    pub max_failures: Option<u64>,
    /// How long a process may send no heartbeat before its jobs are taken over.
    pub lease: Duration,
    /// How long an engine may be silent before it is killed; longer for longer passes.
    pub hang: Duration,
    /// How long a device is quarantined.
    pub rest: Duration,
    /// Whether to wait for jobs that other processes run.
    pub wait_for_others: bool,
    /// Whether to wait for jobs that are submitted later.
    pub forever: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            until: None,
            max_failures: None,
            lease: Duration::from_secs(30),
            hang: Duration::from_secs(300),
            rest: Duration::from_secs(600),
            wait_for_others: true,
            forever: false,
        }
    }
}

impl Limits {
    /// The defaults, with the seconds set in `LORAGRID_LEASE`, `LORAGRID_HANG` and `LORAGRID_REST`.
    pub fn from_environment() -> Self {
        let seconds = |name: &str| {
            let text = std::env::var(name).ok()?;
            let seconds = text.parse().ok().filter(|s: &f64| *s > 0.0)?;
            // Durations beyond the representable range mean no limit.
            Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(u64::from(u32::MAX))))
        };
        let plain = Self::default();
        Self {
            lease: seconds("LORAGRID_LEASE").unwrap_or(plain.lease),
            hang: seconds("LORAGRID_HANG").unwrap_or(plain.hang),
            rest: seconds("LORAGRID_REST").unwrap_or(plain.rest),
            ..plain
        }
    }
}
