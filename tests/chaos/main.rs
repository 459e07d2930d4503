//! Chaos test: a sweep on two slots while a seeded driver kills, stops and starves its processes. Then it checks that nothing is lost,
//! done twice, unexplained, or different from an undisturbed sweep. Run by `make chaos`.
//!
//! `CHAOS_ENGINE=real|fake`, `CHAOS_KILLS`, `CHAOS_JOBS`, `CHAOS_SEED`, `CHAOS_MODEL=FILE`.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

#[path = "../lab.rs"]
#[allow(dead_code, reason = "it is for the other tests too")]
mod lab;
#[path = "../support.rs"]
#[allow(dead_code, reason = "it is for the other tests too")]
mod support;

mod driver;
mod verdict;

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use driver::Driver;
use lab::{FAKE, Lab, REAL, succeeded};

/// The settings of a run.
pub(crate) struct Settings {
    /// Whether the engine computes.
    real: bool,
    kills: u64,
    jobs: u64,
    seed: u64,
    /// A model instead of the tiny one.
    model: Option<PathBuf>,
}

impl Settings {
    fn read() -> Option<Self> {
        let number = |name: &str, otherwise: u64| match std::env::var(name) {
            Ok(text) => text.parse().unwrap(),
            Err(_) => otherwise,
        };
        let real = match std::env::var("CHAOS_ENGINE").ok()?.as_str() {
            "real" => true,
            "fake" => false,
            other => panic!("CHAOS_ENGINE is real or fake, not {other}"),
        };
        let jobs = number("CHAOS_JOBS", if real { 12 } else { 1000 });
        let model = std::env::var_os("CHAOS_MODEL").map(|path| std::path::absolute(path).unwrap());
        Some(Self { real, model, jobs, kills: number("CHAOS_KILLS", 40), seed: number("CHAOS_SEED", 1) })
    }

    /// Jobs per pack: results of the real engine are compared to the bit, so each job runs alone.
    fn pack(&self) -> &'static str {
        if self.real { "1" } else { "8" }
    }

    fn engine(&self) -> &'static str {
        if self.real { REAL } else { FAKE }
    }

    /// The sweep: every job trains and is scored. Jobs of the real engine write a checkpoint after each step.
    fn lab(&self) -> Lab {
        let seeds: Vec<String> = (1..=self.jobs).map(|seed| seed.to_string()).collect();
        let (limit, train) = if self.real {
            let batch = if self.model.is_some() { 8 } else { 32 };
            let steps =
                format!("iterations = {}\nbatch_size = {batch}\nmicro_batch_size = 1\n", STEPS * batch);
            (30, format!("[train]\n{steps}checkpoint_every = 0\n[lora]\ndropout = 0.1\n"))
        } else {
            (1, String::new())
        };
        let seeds = seeds.join(", ");
        let rest =
            format!("eval = [\"two_digit_subtraction\"]\nlimit = {limit}\n{train}[axes]\nseed = [{seeds}]\n");
        let lab = Lab::new(&rest);
        if let Some(model) = &self.model {
            let text = support::sweep(&rest).replace("\"model\"", &format!("{model:?}"));
            lab.0.write("sweep.toml", text);
        }
        lab
    }
}

/// Checkpoints of a real job.
pub(crate) const STEPS: u64 = 40;

fn main() {
    let Some(settings) = Settings::read() else {
        say("skipped: chaos: CHAOS_ENGINE says neither real nor fake; `make chaos` does");
        return;
    };
    let calm = settings.lab();
    let started = Instant::now();
    let run = ["run", "sweep.toml", "--devices", "cpu:2"];
    succeeded(
        &calm.with_engine(settings.engine(), &run).env("LORAGRID_PACK", settings.pack()).output().unwrap(),
    );
    let undisturbed = started.elapsed();
    say(&format!("undisturbed: {} jobs in {:.1} s", settings.jobs + 1, undisturbed.as_secs_f64()));

    let lab = settings.lab();
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let started = Instant::now();
    let deeds = Driver::new(&settings, &lab).run();
    let disturbed = started.elapsed();
    verdict::check(&settings, &calm, &lab, &deeds);
    let unfinished = lab.count("SELECT COUNT(*) FROM attempts WHERE outcome <> 'finished'");
    say(&format!(
        "chaos: {} engine, seed {}, {} jobs, {} of {} kills ({deeds}), {unfinished} attempts more; {:.1} s, undisturbed {:.1} s; \
         none lost, none twice, every end explained, {}",
        if settings.real { "real" } else { "fake" },
        settings.seed,
        settings.jobs + 1,
        deeds.kills(),
        settings.kills,
        disturbed.as_secs_f64(),
        undisturbed.as_secs_f64(),
        if settings.real { "adapters, curves and scores equal to the bit" } else { "scores equal" },
    ));
}

/// One line on standard error, which `make chaos` shows.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
