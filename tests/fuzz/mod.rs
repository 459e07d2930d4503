//! Randomly damaged files: every input yields a result or an error, never a panic.
//!
//! One second per kind by default; `make fuzz SECONDS=600` for longer. The seed is printed, so that a failure can be repeated with
//! `LORAGRID_FUZZ_SEED`.

mod checkpoints;
mod sweeps;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use loragrid::random::{Purpose, Stream};

/// Calls `run` with one random stream after another until the time is over; returns the number of calls.
#[expect(clippy::print_stderr, reason = "the seed of a failure must be seen")]
fn fuzz(what: &str, mut run: impl FnMut(Stream)) -> u64 {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("LORAGRID_FUZZ_SECONDS").unwrap_or(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("LORAGRID_FUZZ_SEED").unwrap_or(now);
    eprintln!("fuzzing {what} for {seconds} s, LORAGRID_FUZZ_SEED={seed}");
    let begin = Instant::now();
    let mut tries = 0;
    while begin.elapsed() < Duration::from_secs(seconds) {
        run(Stream::new(seed, Purpose::Data, tries));
        tries += 1;
    }
    tries
}
