//! The library without a shell, and workers without the environment of the submitter.

use std::process::Stdio;

use loragrid::plan::PlanStage;
use loragrid::queue::Queue;
use loragrid::report::{document_markdown, sweep_report, task_differences};
use loragrid::runner::{Limits, Progress};
use loragrid::workspace::{
    Config, ConfigFlags, SweepRequest, WorkRequest, Workspace, WorkspaceEvent, board, compare, report_input,
};

use crate::lab::{FAKE, Lab, succeeded, wait_until};
use crate::support::sweep;

const GRID: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n";

/// A workspace independent of this machine's environment.
fn workspace_at(db: std::path::PathBuf) -> Workspace {
    let folder = db.parent().unwrap().to_owned();
    let devices = Some("cpu".to_owned());
    let flags = ConfigFlags { db: Some(db), devices, engine: Some(FAKE.into()), ..ConfigFlags::default() };
    Workspace::new(&Config::read(&flags, &folder, &|_| None).unwrap())
}

#[tokio::test]
async fn a_sweep_goes_from_its_file_to_a_report_without_a_shell() {
    let lab = Lab::new(GRID);
    let workspace = workspace_at(lab.db());
    let request = SweepRequest::of(lab.0.path().join("sweep.toml"));
    let mut events = Vec::new();
    let prepared = workspace.prepare(&request, &mut |event| events.push(event)).await.unwrap();
    let stages = [
        PlanStage::Sweep { name: "tiny".to_owned() },
        PlanStage::Model { name: "model".to_owned() },
        PlanStage::Documents { name: "two_digit_subtraction".to_owned() },
        PlanStage::Rows { name: "two_digit_subtraction".to_owned() },
    ];
    assert_eq!((prepared.plan.jobs.len(), &events[..]), (5, &stages.map(WorkspaceEvent::Planning)[..]));
    assert!(!lab.db().exists(), "planning touches no database");
    let (store, plan) = workspace.submit(prepared, &mut |event| events.push(event)).await.unwrap();
    assert_eq!(store.active().await.unwrap().len(), 5);

    let (_sender, mut stops) = tokio::sync::mpsc::channel(1);
    let mut ended = 0;
    let mut watch = |progress: Progress| ended += u64::from(matches!(progress, Progress::Ended { .. }));
    let request = WorkRequest::of_plan(&plan, Limits::default(), 8);
    let summary = workspace.work(&store, request, |open| open(), &mut watch, &mut stops).await.unwrap();
    assert_eq!((summary.finished, ended, summary.stopped), (5, 5, None));

    let board = board(&store, Some("tiny")).await.unwrap();
    assert!(board.jobs.iter().all(|job| job.scores.iter().all(|score| score.documents == 10)));
    let mut jobs = Vec::new();
    for job in &board.jobs[1..3] {
        jobs.push(store.job(job.id.as_str()).await.unwrap());
    }
    let [first, second] = compare(&store, jobs.remove(0), jobs.remove(0)).await.unwrap();
    let (tasks, untested) = task_differences(&first.values, &second.values);
    assert_eq!((tasks.len(), untested.len()), (1, 0));
    let input = report_input(&store, board).await.unwrap();
    let (text, _) = document_markdown(&sweep_report("Results", &[input], &[]), None);
    assert!(text.starts_with("# Results") && text.contains("two_digit_subtraction"), "{text}");
    store.close().await;
}

#[test]
fn two_workers_elsewhere_finish_three_sweeps_without_a_sweep_file() {
    let lab = Lab::new(GRID);
    std::fs::create_dir(lab.0.path().join("data")).unwrap();
    let row = serde_json::json!({ "instruction": "Name a sea.", "input": "", "output": "The Baltic." });
    lab.0.write("data/alpaca.json", serde_json::json!(vec![row; 20]).to_string());
    for (name, data) in [("one", "two_digit_subtraction"), ("two", "alpaca"), ("three", "two_digit_addition")]
    {
        let text = sweep(GRID).replace("tiny", name).replacen(
            "data = \"two_digit_subtraction\"",
            &format!("data = \"{data}\""),
            1,
        );
        lab.0.write(&format!("{name}.toml"), text);
        let mut submit = lab.with_engine(FAKE, &["submit", &format!("{name}.toml")]);
        succeeded(&submit.env("LORAGRID_DATA", "data").output().unwrap());
    }
    for file in ["one.toml", "two.toml", "three.toml", "sweep.toml", "data/alpaca.json"] {
        std::fs::remove_file(lab.0.path().join(file)).unwrap();
    }
    let worker = |folder: &str, data: &str| {
        let folder = lab.0.path().join(folder);
        std::fs::create_dir(&folder).unwrap();
        let mut work =
            lab.with_engine(FAKE, &["work", "--db", "../results/loragrid.db", "--devices", "cpu:2"]);
        work.current_dir(folder).env("LORAGRID_DATA", data).env("LORAGRID_PACK", "2");
        work.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let workers = [worker("here", "nowhere"), worker("there", "/")];
    for mut worker in workers {
        assert_eq!(worker.wait().unwrap().code(), Some(0));
    }
    // The untrained model is one job shared by all three.
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'done'"), 13);
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs"), 13);
    assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE outcome = 'finished'"), 13);
}

#[test]
fn a_sweep_fills_the_slots_that_the_tail_of_another_leaves() {
    let lab = Lab::new("eval = [\"two_digit_subtraction\"]\nlimit = 2\nseed = 7\n");
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    lab.0.write(
        "other.toml",
        sweep("eval = [\"two_digit_subtraction\"]\nlimit = 2\nseed = 8\n").replace("tiny", "other"),
    );
    succeeded(&lab.0.run(&["submit", "other.toml"]));
    let mut work = lab.with_engine(FAKE, &["work", "--devices", "cpu:2"]);
    work.env("LORAGRID_FAKE", format!("hang@train={}", lab.fault().display())).env("LORAGRID_HANG", "600");
    let running = lab.spawn(work);
    // One of the two trainings hangs on its slot; the other sweep's completes in parallel.
    wait_until("the other sweep is done", || {
        lab.count("SELECT COUNT(*) FROM runs WHERE kind = 'train' AND state = 'done'") == 1
    });
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'running'"), 1);
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(running.wait().status.code(), Some(143));
}

#[test]
fn failures_count_over_all_sweeps_of_a_run() {
    let lab = Lab::new("eval = [\"two_digit_subtraction\"]\nlimit = 2\nseed = 7\n");
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let other = sweep("eval = [\"two_digit_subtraction\"]\nlimit = 2\n[axes]\nseed = [8, 9, 10]\n");
    lab.0.write("other.toml", other.replace("tiny", "other"));
    succeeded(&lab.0.run(&["submit", "other.toml"]));
    let mut work = lab.with_engine(FAKE, &["work", "--max-failures", "1"]);
    work.env("LORAGRID_FAKE", format!("diverge@train={}", lab.fault().display()));
    let output = work.output().unwrap();
    let messages = crate::support::stderr(&output);
    assert!(messages.contains("too many jobs failed"), "{messages}");
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'diverged'"), 1);
    assert_eq!(
        lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'queued'"),
        3,
        "the next sweep is not begun"
    );
}
