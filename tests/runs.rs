//! Runs with the fake engine: order, resuming, recovery.

use std::path::Path;

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
        let arguments =
            [&["run", "sweep.toml", "--engine", env!("CARGO_BIN_EXE_fake-engine")], more].concat();
        let mut command = self.0.command(&arguments);
        if let Some(fault) = fault {
            command.env("LORAGRID_FAKE", format!("{fault}={}", self.0.path().join("fault").display()));
        }
        command.output().unwrap()
    }

    fn rows(&self) -> Vec<Json> {
        self.0.json(&["top", "--json"])["rows"].as_array().unwrap().clone()
    }

    /// Number of attempts in the database.
    fn attempts(&self) -> usize {
        let logs = std::fs::read_dir(self.0.path().join("results/logs")).unwrap();
        // A claimed attempt names its log; the fake engine writes none, so count them in the store.
        drop(logs);
        count(&self.0.path().join("results/loragrid.db"), "SELECT COUNT(*) FROM attempts")
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
    assert_eq!(count(&lab.0.path().join("results/loragrid.db"), "SELECT COUNT(*) FROM sweep_versions"), 1);
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
fn the_jobs_of_a_killed_orchestrator_are_taken_up_again() {
    let lab = Lab::new(GRID);
    assert!(lab.run(None, &[]).status.success());
    // What a kill leaves behind: a running job whose process is gone.
    let path = lab.0.path().join("results/loragrid.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use sqlx::Connection;
        let mut connection = sqlx::SqliteConnection::connect(&path.display().to_string()).await.unwrap();
        for statement in [
            "DELETE FROM scores",
            "UPDATE jobs SET state = 'running'",
            "UPDATE attempts SET owner = replace(owner, '/', '/9'), ended_ms = NULL, outcome = NULL",
        ] {
            sqlx::query(statement).execute(&mut connection).await.unwrap();
        }
    });
    let output = lab.run(None, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(lab.rows().iter().all(|row| row["state"] == "done"));
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
