//! Runs with the fake engine: order, resuming, recovery.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use serde_json::Value as Json;

use crate::support::{Scratch, stderr, stdout, sweep, tiny_model};

const GRID: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n";

struct Lab(Scratch);

impl Lab {
    fn new(rest: &str) -> Self {
        let scratch = Scratch::new();
        tiny_model(&scratch);
        scratch.write("sweep.toml", sweep(rest));
        Self(scratch)
    }

    /// `run sweep.toml` with the fake engine and a fault, if one is named.
    fn run(&self, fault: Option<&str>, more: &[&str]) -> std::process::Output {
        self.command(fault, more).output().unwrap()
    }

    fn command(&self, fault: Option<&str>, more: &[&str]) -> Command {
        let arguments =
            [&["run", "sweep.toml", "--engine", env!("CARGO_BIN_EXE_fake-engine")], more].concat();
        let mut command = self.0.command(&arguments);
        if let Some(fault) = fault {
            command.env("LORAGRID_FAKE", format!("{fault}={}", self.0.path().join("fault").display()));
        }
        command
    }

    fn rows(&self) -> Vec<Json> {
        self.0.json(&["top", "--json"])["rows"].as_array().unwrap().clone()
    }

    /// Number of attempts in the database.
    fn attempts(&self) -> usize {
        self.count("SELECT COUNT(*) FROM attempts")
    }

    /// A number from the database.
    fn count(&self, query: &str) -> usize {
        count(&self.0.path().join("results/loragrid.db"), query)
    }
}

/// A number from a database.
fn count(path: &Path, query: &str) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let number: i64 = runtime.block_on(async {
        use sqlx::{Connection, Row};
        let mut connection = sqlx::SqliteConnection::connect(&path.display().to_string()).await.unwrap();
        sqlx::query(query).fetch_one(&mut connection).await.unwrap().get(0)
    });
    number as usize
}

#[test]
fn a_run_ends_with_a_row_for_the_base_and_one_for_each_cell() {
    let lab = Lab::new(GRID);
    let output = lab.run(None, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("loragrid top tiny --json"), "{}", stdout(&output));
    let rows = lab.rows();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["label"], "base");
    for row in &rows[1..] {
        assert_eq!(row["scores"][0]["seeds"], 2);
        assert_eq!(row["scores"][0]["documents"], 10);
        assert_eq!(row["state"], "done");
    }
}

#[test]
fn a_second_run_repeats_nothing() {
    let lab = Lab::new(GRID);
    assert!(lab.run(None, &[]).status.success());
    let first = lab.attempts();
    assert_eq!(first, 5);
    let output = lab.run(None, &[]);
    assert!(output.status.success());
    assert!(stderr(&output).contains("5 jobs, 0 to run"), "{}", stderr(&output));
    assert_eq!(lab.attempts(), first);
    assert_eq!(lab.count("SELECT COUNT(*) FROM sweep_versions"), 1);
}

#[test]
fn a_task_that_was_added_is_scored_without_training_again() {
    let lab = Lab::new(GRID);
    assert!(lab.run(None, &[]).status.success());
    lab.0.write("sweep.toml", sweep(&GRID.replace("]\nlimit", ", \"two_digit_addition\"]\nlimit")));
    let plan = lab.0.json(&["plan", "sweep.toml", "--json"]);
    for job in plan["jobs"].as_array().unwrap() {
        assert_eq!(job["train"], false);
        assert_eq!(job["score"], serde_json::json!(["two_digit_addition"]));
    }
    assert!(lab.run(None, &[]).status.success());
    assert!(
        lab.rows().iter().all(|row| row["scores"].as_array().unwrap().len() == 2 && row["state"] == "done")
    );
}

#[test]
fn an_axis_value_that_was_added_runs_alone() {
    let lab = Lab::new(GRID);
    assert!(lab.run(None, &[]).status.success());
    lab.0.write("sweep.toml", sweep(&GRID.replace("[2, 4]", "[2, 4, 8]")));
    let plan = lab.0.json(&["plan", "sweep.toml", "--json"]);
    let left: Vec<&Json> =
        plan["jobs"].as_array().unwrap().iter().filter(|job| job["done"] == false).collect();
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|job| job["label"].as_str().unwrap().starts_with("r=8 ")), "{left:?}");
}

#[test]
fn the_job_of_an_engine_that_dies_runs_again() {
    for fault in ["die@train", "half@score"] {
        let lab = Lab::new(GRID);
        let output = lab.run(Some(fault), &[]);
        assert!(output.status.success(), "{fault}: {}", stderr(&output));
        assert!(lab.0.path().join("fault").exists(), "{fault} did not happen");
        assert_eq!(lab.attempts(), 6, "{fault}");
        assert!(lab.rows().iter().all(|row| row["state"] == "done"), "{fault}");
    }
}

/// The lines that all attempts of the fake engine wrote into their logs.
fn notes(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
            }
        }
    }
    lines
}

#[test]
fn scoring_that_dies_goes_on_with_the_documents_that_are_left() {
    let lab = Lab::new("train = false\neval = [\"two_digit_subtraction\"]\nlimit = 200\n");
    let output = lab.run(Some("die@document"), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(lab.attempts(), 2);
    assert_eq!(lab.count("SELECT COUNT(*) FROM documents"), 200);
    let mut scored = notes(&lab.0.path().join("results/logs"));
    scored.retain(|line| line.starts_with("two_digit_subtraction "));
    assert_eq!(scored.len(), 200, "no document is scored twice");
}

#[test]
fn a_group_of_tasks_is_one_column_of_its_tasks_together() {
    let lab = Lab::new("eval = [\"sums\"]\nlimit = 10\ntrain = false\n");
    std::fs::create_dir(lab.0.path().join("tasks")).unwrap();
    let group = "group: sums\ntask: [two_digit_addition, two_digit_subtraction]\naggregate_metric_list: [{metric: acc}]\n";
    lab.0.write("tasks/sums.yaml", group);
    let output = lab.run(None, &["--include-path", "tasks"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let rows = lab.rows();
    let score = &rows[0]["scores"][0];
    assert_eq!((score["task"].as_str(), score["documents"].as_u64()), (Some("sums"), Some(20)));
    let of_tasks = lab.count("SELECT CAST(10 * SUM(value) AS INTEGER) FROM scores");
    assert!((score["value"].as_f64().unwrap() - of_tasks as f64 / 20.0).abs() < 1e-12, "{score}");
}

#[test]
fn a_job_that_diverges_keeps_its_row_and_the_sweep_goes_on() {
    let lab = Lab::new(GRID);
    let output = lab.run(Some("diverge@train"), &[]);
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::JobsFailed as i32), "{}", stderr(&output));
    let rows = lab.rows();
    assert_eq!(rows.len(), 3);
    let diverged: Vec<&Json> = rows.iter().filter(|row| row["state"] == "diverged").collect();
    assert_eq!(diverged.len(), 1);
    assert_eq!(diverged[0]["reasons"], serde_json::json!(["the loss is NaN at step 4"]));
    assert_eq!(rows.last().unwrap()["state"], "diverged", "it is never ranked");
}

#[test]
fn status_counts_the_jobs_of_the_newest_version() {
    let lab = Lab::new(GRID);
    assert!(lab.run(None, &[]).status.success());
    let status = lab.0.json(&["status", "--json"]);
    assert_eq!(status["sweeps"][0]["sweep"], "tiny");
    assert_eq!(status["sweeps"][0]["done"], 5);
}

#[test]
fn a_plan_shows_what_is_done_and_what_is_left() {
    let lab = Lab::new(GRID);
    let output = lab.0.run(&["plan", "sweep.toml", "--set", "train.dtype=fp32"]);
    insta::with_settings!({ filters => vec![("[0-9a-f]{16}", "[job id........]"), ("about .*", "about [time]")] }, {
        insta::assert_snapshot!(stdout(&output));
    });
    assert!(!lab.0.path().join("results").exists(), "a plan makes no database");
}

/// Whether a process is gone, or dead and only not yet collected by its parent.
fn gone(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Waits until a condition holds, at most half a minute.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(30), "waited too long until {what}");
        std::thread::yield_now();
    }
}

#[test]
fn an_interrupt_puts_the_job_back_and_leaves_no_engine() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let lab = Lab::new(GRID);
        let run = lab
            .command(Some("hang@train"), &[])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let fault = lab.0.path().join("fault");
        let engine = || std::fs::read_to_string(&fault).unwrap_or_default();
        wait_until("the engine hangs", || !engine().is_empty());
        kill(Pid::from_raw(run.id() as i32), signal).unwrap();
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{signal}: {}", stderr(&output));
        assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'running'"), 0);
        assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE reason = 'stopped by the user'"), 1);
        wait_until("the engine is gone", || gone(&engine()));
        assert!(lab.run(None, &[]).status.success());
        assert!(lab.rows().iter().all(|row| row["state"] == "done"), "{signal}");
    }
}

#[test]
fn the_engine_of_a_killed_orchestrator_dies_and_its_job_runs_again() {
    let lab = Lab::new(GRID);
    let mut run =
        lab.command(Some("hang@train"), &[]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let fault = lab.0.path().join("fault");
    let engine = || std::fs::read_to_string(&fault).unwrap_or_default();
    wait_until("the engine hangs", || !engine().is_empty());
    run.kill().unwrap();
    run.wait().unwrap();
    wait_until("the engine is gone", || gone(&engine()));
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'running'"), 1);
    assert!(lab.run(None, &[]).status.success());
    assert!(lab.rows().iter().all(|row| row["state"] == "done"));
}

#[test]
fn a_reference_that_is_the_base_itself_is_one_row() {
    let lab = Lab::new(&format!("reference = [\"model\", \"./model\"]\n{GRID}"));
    let output = lab.run(None, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(lab.rows().len(), 3);
}

#[test]
fn one_task_with_two_limits_is_scored_with_both() {
    let rest = "eval = [\"two_digit_subtraction\"]\n[zip.a]\n\"lora.rank\" = [2, 4]\nlimit = [5, 10]\n";
    let lab = Lab::new(rest);
    let output = lab.run(None, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(lab.count("SELECT COUNT(*) FROM documents"), 5 + 10 + 5 + 10);
    assert!(lab.rows().iter().all(|row| row["state"] == "done"));
}
