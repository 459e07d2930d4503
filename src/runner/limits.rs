//! How long a run goes on, and how long it waits for signs of life.

use std::time::{Duration, Instant};

/// How long a run goes on, and how long it waits for signs of life.
#[derive(Debug, Clone)]
pub struct Limits {
    /// When to stop starting and to put back what runs.
    pub until: Option<Instant>,
    /// Failed jobs after which nothing more is started.
    pub max_failures: Option<u64>,
    /// How long a process may be silent before its jobs are taken from it.
    pub lease: Duration,
    /// How long an engine may be silent before it is killed; longer where its passes are.
    pub hang: Duration,
    /// How long a device is left alone on which engines only die.
    pub rest: Duration,
    /// Whether to wait for jobs that other processes are working at.
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
    /// The defaults, with the seconds that `LORAGRID_LEASE`, `LORAGRID_HANG` and `LORAGRID_REST` name.
    pub fn from_environment() -> Self {
        let seconds = |name: &str| {
            let text = std::env::var(name).ok()?;
            let seconds = text.parse().ok().filter(|s: &f64| *s > 0.0)?;
            // Longer than any program runs is for ever.
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
