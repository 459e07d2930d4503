//! What is asked of results in the morning.

use loragrid::cli::ExitCode;

use crate::lab::{Lab, succeeded};
use crate::support::stderr;

/// A sweep that has been run with the fake engine, and the ids of its trained jobs.
fn done() -> (Lab, Vec<String>) {
    let lab = Lab::new(
        "eval = [\"two_digit_subtraction\"]\nlimit = 40\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n",
    );
    succeeded(&lab.run(None, &[]));
    let rows = lab.rows();
    let cells = rows.iter().filter(|row| row["base"] == false);
    let jobs = cells.flat_map(|row| row["jobs"].as_array().unwrap().clone());
    let jobs = jobs.map(|job| job.as_str().unwrap().to_owned()).collect();
    (lab, jobs)
}

#[test]
fn two_jobs_are_compared_document_by_document() {
    let (lab, jobs) = done();
    let found = lab.0.json(&["compare", &jobs[0], &jobs[2], "--json"]);
    let task = &found["tasks"][0];
    assert_eq!((task["documents"].as_u64(), task["test"].as_str()), (Some(40), Some("mcnemar")));
    let flips =
        task["gained"].as_array().unwrap().len() as f64 - task["lost"].as_array().unwrap().len() as f64;
    assert!((task["difference"].as_f64().unwrap() - flips / 40.0).abs() < 1e-12);
    let keys: Vec<&str> =
        found["settings"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert!(keys.contains(&"lora.rank"), "{keys:?}");
    let same = lab.0.json(&["compare", &jobs[0], &jobs[0], "--json"]);
    assert_eq!((same["tasks"][0]["p"].as_f64(), same["settings"].as_array().unwrap().len()), (Some(1.0), 0));
    let text = succeeded(&lab.0.run(&["compare", &jobs[0], &jobs[2], "--examples", "2"]));
    assert!(text.is_empty(), "nothing on standard error: {text}");
    let unknown = lab.0.run(&["compare", &jobs[0], "zzz"]);
    assert_eq!(unknown.status.code(), Some(ExitCode::NotFound as i32), "{}", stderr(&unknown));
}

#[test]
fn effects_say_how_much_of_the_cells_each_axis_explains() {
    let (lab, _) = done();
    let effects = lab.0.json(&["effects", "--json"]);
    assert_eq!(effects["cells"], serde_json::json!([2, 2]));
    assert_eq!(effects["axes"][0]["axes"], serde_json::json!(["lora.rank"]));
    let unknown = lab.0.run(&["effects", "--metric", "hellaswag"]);
    assert_eq!(unknown.status.code(), Some(ExitCode::NotFound as i32));
    let told = stderr(&unknown);
    assert!(told.contains("no scores of 'hellaswag'") && told.contains("two_digit_subtraction:"), "{told}");
}
