//! Processes that crash, hang, stop and race, with the fake engine: no job is lost, and none is done twice.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{FAKE, Lab, gone, succeeded, wait_until};
use crate::support::stderr;

const GRID: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n";

/// A grid with this many cells.
fn grid(cells: usize) -> String {
    let seeds: Vec<String> = (1..=cells).map(|seed| seed.to_string()).collect();
    format!("eval = [\"two_digit_subtraction\"]\nlimit = 1\n[axes]\nseed = [{}]\n", seeds.join(", "))
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
fn an_interrupt_puts_the_job_back_and_leaves_no_engine() {
    for (sent, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let lab = Lab::new(GRID);
        let run = lab.spawn(lab.command(Some("hang@train"), &[]));
        let engine = lab.wait_for_fault();
        run.signal(sent);
        let output = run.wait();
        assert_eq!(output.status.code(), Some(code), "{sent}: {}", stderr(&output));
        assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'running'"), 0);
        assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE reason = 'stopped by the user'"), 1);
        wait_until("the engine is gone", || gone(&engine));
        succeeded(&lab.run(None, &[]));
        assert!(lab.is_done(), "{sent}");
    }
}

#[test]
fn the_engine_of_a_killed_orchestrator_dies_and_its_job_runs_again() {
    let lab = Lab::new(GRID);
    let run = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    run.signal(Signal::SIGKILL);
    run.wait();
    wait_until("the engine is gone", || gone(&engine));
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'running'"), 1);
    succeeded(&lab.run(None, &[]));
    assert!(lab.is_done());
    let reasons = lab.ask::<String>("SELECT reason FROM attempts WHERE outcome = 'requeued'");
    assert_eq!(reasons, ["the process that ran it exited"]);
}

#[test]
fn an_engine_that_says_nothing_any_more_is_killed_and_its_job_goes_on() {
    for stop in [false, true] {
        let lab = Lab::new(GRID);
        let mut command = lab.command(Some("hang@train"), &[]);
        command.env("LORAGRID_HANG", "0.3");
        let run = lab.spawn(command);
        let engine = lab.wait_for_fault();
        if stop {
            // It may have been killed already for being silent.
            let _ = kill(Pid::from_raw(engine.parse().unwrap()), Signal::SIGSTOP);
        }
        succeeded(&run.wait());
        assert!(lab.is_done() && gone(&engine));
        let reasons = lab.ask::<String>("SELECT reason FROM attempts WHERE outcome = 'requeued'");
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        assert!(reasons[0].starts_with("the engine was killed: it was silent for"), "{reasons:?}");
    }
}

#[test]
fn a_job_whose_engines_always_die_fails_with_what_they_said_and_the_others_go_on() {
    let lab = Lab::new(
        "[axes]\nseed = [1, 2]\n\"lora.rank\" = [2, 4]\n[[exclude]]\nif = \"seed == 2 && lora.rank == 4\"\n",
    );
    let mut command = lab.command(None, &["--json"]);
    command.env("LORAGRID_FAKE", "die@seed2");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::JobsFailed as i32), "{}", stderr(&output));
    assert_eq!(
        lab.ask::<String>("SELECT state FROM jobs WHERE kind = 'train' ORDER BY state"),
        ["done", "done", "failed"]
    );
    let outcomes = lab.ask::<String>("SELECT outcome FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE j.state = 'failed' ORDER BY a.attempt");
    assert_eq!(outcomes, ["requeued", "requeued", "failed"]);
    let messages = stderr(&output);
    assert!(messages.contains("killed by SIGABRT") && messages.contains("2 done, 1 failed"), "{messages}");
    // Only the user can retry it.
    let moved = lab.0.json(&["retry", "tiny", "--failed", "--json"]);
    assert_eq!(moved["jobs"].as_array().unwrap().len(), 1);
    succeeded(&lab.run(None, &[]));
    assert!(lab.is_done());
}

#[test]
fn a_slot_whose_jobs_all_die_is_left_alone_and_its_jobs_are_done_elsewhere() {
    let lab = Lab::new(&grid(8));
    let mut command = lab.command(None, &["--devices", "cpu:2"]);
    command.env("LORAGRID_FAKE", "die@cpu:1");
    let messages = succeeded(&command.output().unwrap());
    assert!(messages.contains("quarantined cpu:1"), "{messages}");
    assert!(lab.is_done());
    let on = |outcome: &str| {
        lab.ask::<String>(&format!("SELECT DISTINCT device FROM attempts WHERE outcome = '{outcome}'"))
    };
    assert_eq!((on("finished"), on("requeued")), (vec!["cpu:0".to_owned()], vec!["cpu:1".to_owned()]));
    assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE outcome = 'requeued'"), 3);
}

#[test]
fn where_every_slot_is_left_alone_the_jobs_stay_queued() {
    let lab = Lab::new(&grid(8));
    let mut command = lab.command(None, &["--devices", "cpu:2"]);
    command.env("LORAGRID_FAKE", "die@start");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::Engine as i32), "{}", stderr(&output));
    assert!(stderr(&output).contains("every device is quarantined"), "{}", stderr(&output));
    assert_eq!(lab.ask::<String>("SELECT DISTINCT state FROM jobs"), ["queued"]);
    succeeded(&lab.run(None, &[]));
    assert!(lab.is_done());
}

#[test]
fn an_orchestrator_that_was_stopped_loses_its_job_and_overwrites_nothing() {
    let lab = Lab::new(&grid(1));
    let first = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    first.signal(Signal::SIGSTOP);
    let mut second = lab.command(None, &[]);
    second.env("LORAGRID_LEASE", "1");
    succeeded(&second.output().unwrap());
    let attempts = "SELECT outcome || ' ' || COALESCE(a.reason, '') FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE j.kind = 'train' ORDER BY a.attempt";
    let seen = ["requeued the process that ran it stopped sending heartbeats", "finished "];
    assert_eq!(lab.ask::<String>(attempts), seen);
    // It continues, and finds its job taken over and done.
    first.signal(Signal::SIGCONT);
    succeeded(&first.wait());
    wait_until("the first engine is gone", || gone(&engine));
    assert_eq!(lab.ask::<String>(attempts), seen);
    assert!(lab.is_done());
}

/// The state letter of a process.
fn state(pid: &str) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn an_engine_stops_and_goes_on_with_the_program_that_a_terminal_stops() {
    let lab = Lab::new(&grid(1));
    let run = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    run.signal(Signal::SIGTSTP);
    wait_until("the engine is stopped", || state(&engine) == Some('T'));
    wait_until("the program is stopped", || state(&run.pid().to_string()) == Some('T'));
    run.signal(Signal::SIGCONT);
    wait_until("the engine goes on", || state(&engine).is_some_and(|state| state != 'T'));
    kill(Pid::from_raw(engine.parse().unwrap()), Signal::SIGKILL).unwrap();
    succeeded(&run.wait());
    assert!(lab.is_done());
}

#[test]
fn two_orchestrators_race_for_a_thousand_jobs_and_none_runs_twice() {
    let lab = Lab::new(&grid(1000));
    succeeded(&lab.with_engine(FAKE, &["submit", "sweep.toml"]).output().unwrap());
    let work = || lab.spawn(lab.with_engine(FAKE, &["work"]));
    let both = [work(), work()];
    for worker in both {
        succeeded(&worker.wait());
    }
    assert_eq!(lab.ask::<String>("SELECT DISTINCT state FROM jobs"), ["done"]);
    let twice = lab.ask::<String>("SELECT job_id || ' ' || attempt || ' ' || owner || ' ' || outcome || ' ' || COALESCE(reason, '') FROM attempts WHERE job_id IN (SELECT job_id FROM attempts GROUP BY job_id HAVING COUNT(*) > 1)");
    assert_eq!(twice, Vec::<String>::new());
    assert_eq!(lab.attempts(), 1001);
    let owners = lab.ask::<i64>("SELECT COUNT(*) FROM attempts GROUP BY owner");
    assert!(owners.len() == 2 && owners.iter().all(|count| *count > 50), "{owners:?}");
    assert_eq!(lab.ask::<String>("PRAGMA integrity_check"), ["ok"]);
}

#[test]
fn what_another_process_submits_is_noticed_within_a_second() {
    let lab = Lab::new(&grid(2));
    succeeded(&lab.run(None, &[]));
    let worker = lab.spawn(lab.with_engine(FAKE, &["work", "--forever"]));
    lab.0.write("sweep.toml", crate::support::sweep(&grid(3)));
    let begin = std::time::Instant::now();
    succeeded(&lab.with_engine(FAKE, &["submit", "sweep.toml"]).output().unwrap());
    let claimed = "SELECT COUNT(*) FROM attempts";
    wait_until("the new job is claimed", || lab.count(claimed) == 4);
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
    worker.signal(Signal::SIGINT);
    worker.wait();
}

#[test]
fn a_full_results_folder_or_one_that_is_read_only_is_told() {
    let lab = Lab::new(GRID);
    std::fs::create_dir(lab.0.path().join("results")).unwrap();
    // Root may write anywhere, but cannot create a folder in place of a file.
    std::fs::write(lab.0.path().join("results/logs"), "").unwrap();
    let output = lab.command(None, &[]).stdout(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    assert!(stderr(&output).contains("results/logs"), "{}", stderr(&output));
    std::fs::remove_file(lab.0.path().join("results/logs")).unwrap();
    succeeded(&lab.run(None, &[]));
    assert!(lab.is_done());
}

#[test]
fn a_worker_takes_up_what_a_dead_one_left_even_if_nothing_else_is_queued() {
    let lab = Lab::new(&grid(1));
    let first = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    wait_until("only that job is left", || {
        lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'queued'") == 0
    });
    first.signal(Signal::SIGKILL);
    first.wait();
    wait_until("the engine is gone", || gone(&engine));
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    assert!(lab.is_done());
}
