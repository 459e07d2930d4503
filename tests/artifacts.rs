//! Workers that share a PostgreSQL server and an object store, and no folder: each has results of its own. The object store is a folder that
//! nobody else knows, or a bucket (`LORAGRID_TEST_S3`, see `make test-artifacts`); without `LORAGRID_TEST_POSTGRES` these tests are skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value as Json;

use crate::lab::{Lab, REAL, notes, succeeded, wait_until};
use crate::server::Hosts;
use crate::support::{stderr, stdout};

const TRAINING: &str = "[train]\nbatch_size = 8\nlearning_rate = 0.01\n[lora]\ndropout = 0.2\n";

/// Hosts that share an object store.
struct Apart {
    hosts: Hosts,
    artifacts: String,
}

impl Apart {
    fn new(rest: &str) -> Option<Self> {
        let hosts = Hosts::new(rest)?;
        let folder = hosts.lab.0.path().join("store");
        let artifacts = match std::env::var("LORAGRID_TEST_S3") {
            Ok(bucket) => {
                let own = hosts.lab.0.path().file_name().unwrap().to_string_lossy().replace('.', "");
                format!("{bucket}/{own}")
            }
            Err(_) => format!("file://{}", folder.display()),
        };
        Some(Self { hosts, artifacts })
    }

    fn results(&self, host: &str) -> PathBuf {
        self.hosts.lab.0.path().join(host).join("results")
    }

    fn command(&self, host: &str, arguments: &[&str]) -> Command {
        let mut command = self.hosts.with_engine(REAL, host, arguments);
        command.env("LORAGRID_RESULTS", self.results(host)).env("LORAGRID_ARTIFACTS", &self.artifacts);
        command
    }

    fn done(&self, host: &str, arguments: &[&str]) -> String {
        let output = self.command(host, arguments).output().unwrap();
        succeeded(&output);
        stdout(&output)
    }

    fn json(&self, host: &str, arguments: &[&str]) -> Json {
        serde_json::from_str(&self.done(host, &[arguments, &["--json"]].concat())).unwrap()
    }

    fn ask(&self, host: &str, query: &str) -> Json {
        let rows = self.json(host, &["query", query]);
        rows["rows"][0].as_object().unwrap().values().next().unwrap().clone()
    }

    fn has_logged(&self, host: &str, words: &str) -> bool {
        notes(&self.results(host).join("logs")).iter().any(|line| line.contains(words))
    }
}

/// Makes everything in a folder two minutes older.
fn age(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            age(&entry);
        } else {
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(120);
            std::fs::File::options().write(true).open(&entry).unwrap().set_modified(then).unwrap();
        }
    }
}

fn adapters_in(results: &Path) -> usize {
    std::fs::read_dir(results.join("adapters")).map_or(0, Iterator::count)
}

#[test]
fn a_training_goes_on_on_another_host_to_the_same_bits_and_any_host_has_its_adapter() {
    let sweep = format!(
        "eval = [\"two_digit_subtraction\"]\nlimit = 20\nobjective = \"two_digit_subtraction\"\n{TRAINING}"
    )
    .replace("[train]", "[train]\niterations = 1600");
    let Some(apart) = Apart::new(&sweep) else { return };
    apart.done("a", &["submit", "sweep.toml"]);
    let first = apart.hosts.lab.spawn(apart.command("b", &["work"]));
    wait_until("some steps are made", || apart.has_logged("b", "step 20/"));
    first.signal(Signal::SIGINT);
    let stopped = first.wait();
    assert_eq!(stopped.status.code(), Some(130), "{}", stderr(&stopped));
    assert_eq!(apart.ask("a", "SELECT COUNT(*) FROM runs WHERE state = 'done'"), 1, "the base model");
    apart.done("c", &["work"]);
    assert!(apart.has_logged("c", "going on after step"), "it began again");
    assert_eq!(adapters_in(&apart.results("c")), 0, "a worker keeps what runs");

    let best = apart.json("d", &["best", "tiny"]);
    let folder = PathBuf::from(best["adapter"].as_str().unwrap());
    assert!(folder.starts_with(apart.results("d")), "{}", folder.display());
    let alone = Lab::new(&sweep);
    succeeded(&alone.with_engine(REAL, &["run", "sweep.toml"]).output().unwrap());
    let weights = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    assert!(weights == alone.adapters()[0].1, "other bits than on one machine");
    let job = best["best"]["jobs"][0].as_str().unwrap();
    assert!(apart.done("e", &["logs", job]).contains("going on after step"));
    apart.done("e", &["best", "tiny", "--export", "peft", "--out", "exported"]);

    // What nothing needs is found in the store, and nothing else.
    assert_eq!(apart.json("a", &["gc", "--dry-run"])["objects"].as_array().unwrap().len(), 0);
    apart.done("a", &["rm", "tiny", "--yes"]);
    assert_eq!(apart.json("a", &["gc", "--dry-run"])["objects"].as_array().unwrap().len(), 0, "too young");
    if !apart.artifacts.starts_with("file://") {
        return;
    }
    age(&apart.hosts.lab.0.path().join("store"));
    let removed = apart.json("f", &["gc", "--yes"]);
    assert_eq!(removed["objects"].as_array().unwrap().len(), 1, "{removed}");
    assert_eq!(apart.json("a", &["gc", "--dry-run"])["objects"].as_array().unwrap().len(), 0);
}

#[test]
fn an_adapter_of_another_host_is_scored_and_a_damaged_input_is_brought_again() {
    let Some(apart) = Apart::new(&TRAINING.replace("[train]", "[train]\niterations = 32")) else { return };
    apart.done("a", &["submit", "sweep.toml"]);
    apart.done("b", &["work"]);
    let path = apart.hosts.lab.0.path().join("sweep.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let scored = "eval = [\"two_digit_subtraction\"]\nlimit = 20\n[train]";
    std::fs::write(&path, text.replace("[train]", scored)).unwrap();
    apart.done("a", &["submit", "sweep.toml"]);
    // The host has an input of this name that is not whole.
    let inputs = std::fs::read_dir(apart.results("a").join("cache")).unwrap().flatten();
    std::fs::create_dir_all(apart.results("c").join("cache")).unwrap();
    for input in inputs {
        std::fs::write(apart.results("c").join("cache").join(input.file_name()), "half").unwrap();
    }
    apart.done("c", &["work"]);
    assert_eq!(apart.ask("a", "SELECT COUNT(*) FROM trainings"), 1, "it was trained once");
    assert_eq!(apart.ask("a", "SELECT COUNT(*) FROM runs WHERE state = 'done'"), 2);
    assert_eq!(apart.ask("a", "SELECT COUNT(DISTINCT subject) FROM task_scores"), 2);
}

#[test]
fn a_store_that_is_away_costs_no_training_and_no_job() {
    if std::env::var("LORAGRID_TEST_S3").is_ok() {
        // The folder below stands in for it.
        return;
    }
    let Some(apart) = Apart::new(&TRAINING.replace("[train]", "[train]\niterations = 32")) else { return };
    apart.done("a", &["submit", "sweep.toml"]);
    let place = apart.hosts.lab.0.path().join("store/adapters");
    std::fs::write(&place, "no folder").unwrap();
    let worker = apart.hosts.lab.spawn(apart.command("b", &["work"]));
    wait_until("the store refuses", || {
        apart.ask("a", "SELECT COUNT(*) FROM attempts WHERE outcome = 'requeued'").as_u64() > Some(0)
    });
    let reason = apart.ask("a", "SELECT reason FROM attempts WHERE outcome = 'requeued'");
    assert!(reason.as_str().unwrap().contains("store"), "{reason}");
    std::fs::remove_file(&place).unwrap();
    succeeded(&worker.wait());
    assert_eq!(apart.ask("a", "SELECT COUNT(*) FROM runs WHERE state = 'done'"), 1);
    let trained =
        notes(&apart.results("b").join("logs")).iter().filter(|line| line.contains("step 4/4")).count();
    assert_eq!(trained, 1, "it was trained again");
}
