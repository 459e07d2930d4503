//! Runs with the fake engine: the order of jobs, and no duplicate work.

use serde_json::Value as Json;

use crate::lab::{Lab, notes, succeeded};
use crate::support::{stderr, stdout, sweep};

const GRID: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n";

#[test]
fn a_run_ends_with_a_row_for_the_base_and_one_for_each_cell() {
    let lab = Lab::new(GRID);
    let output = lab.run(None, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("loragrid best tiny"), "{}", stdout(&output));
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

#[test]
fn what_the_plan_warned_of_is_with_the_job() {
    let lab = Lab::new(
        "eval = [\"two_digit_subtraction\"]\nlimit = 5\n[train]\niterations = 8\nwarmup_steps = 100\n",
    );
    succeeded(&lab.run(None, &[]));
    let job = lab.ask::<String>("SELECT id FROM jobs WHERE kind = 'train'")[0].clone();
    let shown = crate::support::stdout(&lab.0.run(&["show", &job]));
    assert!(shown.contains("warning: train.warmup_steps = 100 is not below"), "{shown}");
    let warnings = lab.0.json(&["show", &job, "--json"])["warnings"].as_array().unwrap().len();
    assert_eq!(warnings, 1);
}
