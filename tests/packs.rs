//! Jobs that share an engine's passes: each has its own lease and its own end, and none ends the others.

use crate::lab::{Lab, succeeded, wait_until};
use crate::support::stderr;

/// A base model, and four jobs that form one pack.
const GRID: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n";

/// Number of trainings that the fake engine started.
fn trainings(lab: &Lab) -> usize {
    let logs = std::fs::read_dir(lab.0.path().join("results/logs")).unwrap();
    let texts = logs.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    texts.map(|text| text.lines().filter(|line| line.starts_with("trains")).count()).sum()
}

#[test]
fn jobs_of_a_pack_share_an_engine_and_a_log_and_have_a_lease_each() {
    let lab = Lab::new(GRID);
    succeeded(&lab.packed(None, &[]).output().unwrap());
    assert!(lab.is_done());
    assert_eq!(lab.attempts(), 5);
    assert_eq!(lab.ask::<String>("SELECT DISTINCT log FROM attempts").len(), 2, "the base's, and the pack's");
    // The additional task is scored alone.
    let of_two = lab.packed(None, &["--set", "limit=11", "--pack", "2"]).output().unwrap();
    succeeded(&of_two);
    assert_eq!(lab.attempts(), 10);
    assert_eq!(lab.ask::<String>("SELECT DISTINCT log FROM attempts").len(), 5, "the base's, and two of two");
    assert_eq!(trainings(&lab), 4);
}

#[test]
fn a_member_that_diverges_leaves_and_the_others_are_done() {
    let lab = Lab::new(GRID);
    let output = lab.packed(Some("diverge@train"), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::JobsFailed as i32), "{}", stderr(&output));
    let states = lab.ask::<String>("SELECT state FROM jobs WHERE kind = 'train' ORDER BY state");
    assert_eq!(states, ["diverged", "done", "done", "done"]);
    assert_eq!(lab.attempts(), 5);
}

#[test]
fn where_the_engine_of_a_pack_dies_each_job_goes_on_alone_and_the_guilty_one_fails() {
    let lab = Lab::new(
        "[axes]\nseed = [1, 2]\n\"lora.rank\" = [2, 4]\n[[exclude]]\nif = \"seed == 2 && lora.rank == 4\"\n",
    );
    let mut command = lab.packed(None, &[]);
    command.env("LORAGRID_FAKE", "die@seed2");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::JobsFailed as i32), "{}", stderr(&output));
    let states = lab.ask::<String>("SELECT state FROM jobs WHERE kind = 'train' ORDER BY state");
    assert_eq!(states, ["done", "done", "failed"]);
    let outcomes = lab.ask::<String>("SELECT outcome FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE j.state = 'failed' ORDER BY a.attempt");
    assert_eq!(outcomes, ["requeued", "requeued", "requeued", "failed"], "once with the others, then alone");
}

#[test]
fn a_job_that_is_paused_leaves_its_neighbours_going_on() {
    let lab = Lab::new(GRID);
    let run = lab.spawn(lab.packed(Some("hang@train"), &[]));
    lab.wait_for_fault();
    let job =
        lab.ask::<String>("SELECT id FROM jobs WHERE kind = 'train' AND state = 'running' LIMIT 1").remove(0);
    lab.0.json(&["pause", &job, "--json"]);
    succeeded(&run.wait());
    let states = lab.ask::<String>("SELECT state FROM jobs WHERE kind = 'train' ORDER BY state");
    assert_eq!(states, ["done", "done", "done", "paused"]);
    let outcomes =
        lab.ask::<String>("SELECT outcome FROM attempts WHERE outcome <> 'finished' ORDER BY outcome");
    assert_eq!(outcomes, ["paused", "requeued", "requeued", "requeued"]);
    lab.0.json(&["resume", &job, "--json"]);
    succeeded(&lab.packed(None, &[]).output().unwrap());
    assert!(lab.is_done());
}

#[test]
fn an_interrupt_puts_every_job_of_a_pack_back() {
    let lab = Lab::new(GRID);
    let run = lab.spawn(lab.packed(Some("hang@train"), &[]));
    lab.wait_for_fault();
    run.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(run.wait().status.code(), Some(130));
    wait_until("nothing runs", || lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'running'") == 0);
    assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE reason = 'stopped by the user'"), 4);
    succeeded(&lab.packed(None, &[]).output().unwrap());
    assert!(lab.is_done());
}

#[test]
fn an_engine_that_dies_while_a_pack_is_scored_costs_no_training() {
    let lab = Lab::new(GRID);
    succeeded(&lab.packed(Some("die@adapters"), &[]).output().unwrap());
    assert!(lab.is_done());
    assert_eq!(lab.attempts(), 9, "the base's, four, and four again");
    assert_eq!(trainings(&lab), 4);
}

#[test]
fn what_an_order_says_after_its_last_member_left_is_not_taken_for_the_next_packs() {
    let lab = Lab::new(GRID);
    let output = lab.packed(Some("infinite@score"), &["--pack", "2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::JobsFailed as i32), "{}", stderr(&output));
    assert_eq!(lab.ask::<String>("SELECT state FROM jobs WHERE kind = 'base'"), ["diverged"]);
    let states = lab.ask::<String>("SELECT DISTINCT state FROM jobs WHERE kind = 'train'");
    assert_eq!(states, ["done"]);
    assert_eq!((lab.attempts(), trainings(&lab)), (5, 4));
}

#[test]
fn a_plan_shows_packs_and_what_they_save() {
    let lab = Lab::new(GRID);
    let plan = lab.0.json(&["plan", "sweep.toml", "--json"]);
    let sizes: Vec<usize> =
        plan["packs"].as_array().unwrap().iter().map(|pack| pack["jobs"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [1, 4]);
    let time = |name: &str| plan["makespan"][name].as_f64().unwrap();
    assert!(time("packed") < time("one_by_one"), "{}", plan["makespan"]);
    let alone = lab.0.json(&["plan", "sweep.toml", "--pack", "1", "--json"]);
    assert_eq!(alone["packs"].as_array().unwrap().len(), 5);
    assert_eq!(alone["makespan"]["packed"], alone["makespan"]["one_by_one"]);
}
