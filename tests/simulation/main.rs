//! A simulated cluster: several workers with the real runner and scheduler on the queue in memory, engines and a clock that are
//! simulated, and faults drawn from a seed. Thousands of nights a minute; one that goes wrong is printed with its seed, and goes wrong
//! again under that seed. Run by `make simulate`.
//!
//! `SIMULATE_SEED` (the first seed; one run only if `SIMULATE_SECONDS` is not set), `SIMULATE_SECONDS` (default 10).
//! `SIMULATE_AGAINST` (`sqlite` or `postgres`: a database answers the same calls, and every answer must be alike).
//! Seeds that once failed stay in `seeds.txt`, and are run first.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

#[path = "../support.rs"]
#[allow(dead_code, reason = "it is for the other tests too")]
mod support;

mod engine;
mod queue;
mod twin;
mod verdict;
mod worker;
mod world;

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use verdict::Outcome;
use world::{Scene, World};

/// Seeds that found a fault, each with what it was.
const CORPUS: &str = include_str!("seeds.txt");

/// Panics so far. The runtime keeps those of a worker or an engine to itself.
static PANICS: AtomicU64 = AtomicU64::new(0);

fn main() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        told(panic);
    }));
    // `cargo test -- --list` and filters are for other harnesses.
    if std::env::args().any(|word| word == "--list") {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (seed, seconds) = (number("SIMULATE_SEED"), number("SIMULATE_SECONDS"));
    let scene = Scene::new();
    let reference = simulate(&scene, 0, false).scores;
    let mut runs = 0;
    let mut total = Outcome::default();
    let mut run = |seed: u64| {
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let outcome = simulate(&scene, seed, true);
            verdict::compare(&outcome, &reference);
            outcome
        }));
        match caught {
            Ok(outcome) => total.add(&outcome),
            Err(panic) => {
                say(&format!("SIMULATE_SEED={seed} cargo test --test simulation   shows it again"));
                std::panic::resume_unwind(panic);
            }
        }
        runs += 1;
    };
    if let (Some(seed), None) = (seed, seconds) {
        run(seed);
    } else {
        corpus().for_each(&mut run);
        let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(10));
        let mut next = seed.unwrap_or(1);
        while Instant::now() < end {
            run(next);
            next += 1;
        }
    }
    say(&format!("simulated {runs} nights: {total}"));
}

/// The seeds of the corpus: the first word of each line.
fn corpus() -> impl Iterator<Item = u64> {
    let lines = CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
}

/// One night, with its own clock.
fn simulate(scene: &Scene, seed: u64, faults: bool) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    let world = World::new(scene, seed, faults);
    let before = PANICS.load(Ordering::SeqCst);
    tasks.block_on(&runtime, world::night(&world));
    assert_eq!(PANICS.load(Ordering::SeqCst), before, "a worker or an engine panicked");
    verdict::verdict(&world)
}

pub(crate) fn say(text: &str) {
    // A reader that is gone misses it.
    let _ = writeln!(std::io::stdout(), "{text}");
}
