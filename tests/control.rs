//! Queue commands: submit, work, pause, resume, cancel, retry, logs, explain, gc, history.

use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::lab::{FAKE, Lab, gone, succeeded, wait_until};
use crate::support::{stderr, stdout, sweep};

const GRID: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n";

fn states(lab: &Lab) -> Vec<String> {
    lab.ask("SELECT state || ' ' || COUNT(*) FROM jobs GROUP BY state ORDER BY state")
}

/// The files of a folder with this extension.
fn files_of(folder: &std::path::Path, ending: &str) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

#[test]
fn what_is_submitted_is_run_by_a_worker() {
    let lab = Lab::new(GRID);
    let queued = lab.0.json(&["submit", "sweep.toml", "--json"]);
    assert_eq!((&queued["sweep"], &queued["queued"]), (&json!("tiny"), &json!(5)));
    assert_eq!(states(&lab), ["queued 5"]);
    let explained =
        lab.0.json(&["explain", &lab.ask::<String>("SELECT id FROM jobs ORDER BY rowid")[2], "--json"]);
    assert_eq!(
        explained["standing"],
        json!({ "state": "queued", "reason": null, "before": 2, "attempts": 0, "running": 0 })
    );
    let messages = succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    assert!(messages.contains("sweep tiny: 5 jobs to run") && messages.contains("5 done in"), "{messages}");
    assert!(lab.is_done());
    // A worker without jobs exits.
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
}

#[test]
fn a_worker_runs_what_was_submitted_and_not_what_the_file_says_now() {
    let lab = Lab::new(GRID);
    succeeded(&lab.0.run(&["submit", "sweep.toml", "--set", "limit=3"]));
    lab.0.write("sweep.toml", "name = \"broken");
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    assert_eq!(lab.count("SELECT COUNT(*) FROM documents"), 5 * 3);
}

#[test]
fn a_paused_job_stops_before_the_command_returns_and_goes_on_when_it_may() {
    let lab = Lab::new(GRID);
    let run = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    let paused = lab.0.json(&["pause", "tiny", "--reason", "the GPU is wanted", "--json"]);
    assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE ended_ms IS NULL"), 0);
    wait_until("the engine is gone", || gone(&engine));
    let output = run.wait();
    assert!(succeeded(&output).contains("paused, cancelled or taken over"), "{}", stderr(&output));
    assert_eq!(
        paused["jobs"].as_array().unwrap().len(),
        lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'paused'")
    );
    assert_eq!(
        lab.ask::<String>("SELECT DISTINCT reason FROM jobs WHERE state = 'paused'"),
        ["the GPU is wanted"]
    );
    let board = lab.0.json(&["status", "--json"]);
    assert_eq!(board["sweeps"][0]["paused"], paused["jobs"].as_array().unwrap().len());
    // A worker skips them.
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    assert_eq!(
        lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'paused'"),
        paused["jobs"].as_array().unwrap().len()
    );
    succeeded(&lab.0.run(&["resume", "tiny"]));
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    assert!(lab.is_done());
}

#[test]
fn a_cancelled_job_keeps_its_reason_and_is_tried_again_only_when_asked() {
    let lab = Lab::new(GRID);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let job = lab.ask::<String>("SELECT id FROM jobs ORDER BY rowid DESC")[0].clone();
    let output = lab.0.run(&["cancel", &job[..8], "--reason", "a wrong idea"]);
    succeeded(&output);
    assert_eq!(stdout(&output), "1 job cancelled\n");
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    assert_eq!(states(&lab), ["cancelled 1", "done 4"]);
    let explained = lab.0.run(&["explain", &job[..8]]);
    assert!(stdout(&explained).contains("cancelled: a wrong idea"), "{}", stdout(&explained));
    succeeded(&lab.0.run(&["retry", "tiny"]));
    assert_eq!(states(&lab), ["cancelled 1", "done 4"], "what was given up is not what went wrong");
    succeeded(&lab.0.run(&["retry", &job]));
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    assert_eq!(states(&lab), ["done 5"]);
    let clone = lab.0.run(&["clone", &job, "--set", "seed=7", "--name", "tiny"]);
    assert_eq!(clone.status.code(), Some(loragrid::cli::ExitCode::Usage as i32));
    assert!(stderr(&clone).contains("sweep 'tiny' exists"), "{}", stderr(&clone));
}

#[test]
fn retry_without_a_name_is_of_the_last_sweep() {
    let lab = Lab::new(GRID);
    let output = lab.command(None, &[]).env("LORAGRID_FAKE", "die@seed2").output().unwrap();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::JobsFailed as i32));
    let diverged = lab.0.json(&["retry", "--diverged", "--json"]);
    assert_eq!(diverged["jobs"], json!([]));
    let failed = lab.0.json(&["retry", "--json"]);
    assert_eq!(failed["jobs"].as_array().unwrap().len(), 2);
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    assert!(lab.is_done());
}

#[test]
fn a_clone_is_labeled_by_what_was_changed_and_found_by_its_settings() {
    let lab = Lab::new(GRID);
    succeeded(&lab.run(None, &[]));
    let job: String = lab.ask("SELECT id FROM jobs WHERE kind <> 'base' LIMIT 1").remove(0);
    succeeded(&lab.0.run(&["clone", &job, "--set", "lora.alpha=64", "--name", "again"]));
    let label: String = lab.ask("SELECT label FROM runs WHERE sweep = 'again' AND label <> 'base'").remove(0);
    assert!(label.contains("alpha=64"), "{label}");
    let found = lab.0.json(&["show", "alpha=64", "--json"]);
    assert_eq!(found["settings"]["lora.alpha"][0], json!(64.0));
}

#[test]
fn retry_tells_of_cancelled_jobs_and_wait_is_of_the_last_sweep() {
    let lab = Lab::new(GRID);
    succeeded(&lab.with_engine(FAKE, &["submit", "sweep.toml"]).output().unwrap());
    succeeded(&lab.0.run(&["cancel", "tiny"]));
    let retried = lab.0.run(&["retry", "tiny"]);
    assert!(stderr(&retried).contains("--cancelled queues them again"), "{}", stderr(&retried));
    let waited = lab.0.run(&["wait"]);
    assert!(stdout(&waited).starts_with("sweep tiny:"), "{}", stdout(&waited));
}

#[test]
fn a_worker_stops_when_its_time_is_up_or_too_many_jobs_failed() {
    let lab = Lab::new(GRID);
    let mut command = lab.command(Some("hang@train"), &["--budget", "1s"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::TimeUp as i32));
    assert!(stderr(&output).contains("time limit reached"), "{}", stderr(&output));
    assert_eq!(
        lab.ask::<String>("SELECT reason FROM attempts WHERE reason IS NOT NULL"),
        ["stopped: time limit reached"]
    );
    let mut command = lab.command(None, &["--max-failures", "2"]);
    command.env("LORAGRID_FAKE", "diverge@train");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::JobsFailed as i32));
    assert_eq!(states(&lab), ["diverged 2", "done 1", "queued 2"]);
    let moved = lab.0.json(&["retry", "tiny", "--diverged", "--json"]);
    assert_eq!(moved["jobs"].as_array().unwrap().len(), 2);
    succeeded(&lab.run(None, &[]));
    assert!(lab.is_done());
}

#[test]
fn logs_are_followed_until_the_attempt_ends() {
    let lab = Lab::new("eval = [\"two_digit_subtraction\"]\nlimit = 10\ntrain = false\n");
    succeeded(&lab.run(None, &[]));
    let job = lab.ask::<String>("SELECT id FROM jobs")[0].clone();
    let output = lab.0.run(&["logs", "-f", &job]);
    assert_eq!(stdout(&output).lines().count(), 10, "{}", stdout(&output));
    let none = lab.0.run(&["logs", &job, "--attempt", "7"]);
    assert_eq!(none.status.code(), Some(loragrid::cli::ExitCode::NotFound as i32));
}

#[test]
fn every_version_is_in_the_history_with_what_it_added_and_dropped() {
    let lab = Lab::new(GRID);
    succeeded(&lab.run(None, &[]));
    lab.0.write("sweep.toml", sweep(&GRID.replace("[2, 4]", "[4, 8, 16]")));
    let messages = succeeded(&lab.run(None, &[]));
    assert!(messages.contains("since version 1: 4 added, 3 kept, 2 dropped"), "{messages}");
    assert_eq!(lab.attempts(), 5 + 4, "only what was added ran");
    let history = lab.0.json(&["sweep", "history", "tiny", "--json"]);
    let facts =
        |n: usize| ["jobs", "added", "dropped"].map(|key| history["versions"][n][key].as_i64().unwrap());
    assert_eq!((facts(0), facts(1)), ([5, 5, 0], [7, 4, 2]));
}

#[test]
fn garbage_is_told_before_it_goes_and_what_is_needed_stays() {
    let lab = Lab::new(GRID);
    succeeded(&lab.run(None, &[]));
    let results = lab.0.path().join("results");
    let subject = lab.ask::<String>("SELECT subject FROM jobs WHERE kind = 'train'")[0].clone();
    let partial = format!("adapters/{subject}.partial");
    let strangers = ["checkpoints/gone", "adapters/unknown", &format!("adapters/{}", "0".repeat(64))];
    let garbage = [format!("checkpoints/{subject}"), partial];
    let old = SystemTime::now() - Duration::from_secs(3600);
    for folder in strangers.iter().copied().chain(garbage.iter().map(String::as_str)) {
        std::fs::create_dir_all(results.join(folder)).unwrap();
        std::fs::write(results.join(folder).join("file"), "12345").unwrap();
        std::fs::File::open(results.join(folder)).unwrap().set_modified(old).unwrap();
    }
    // Old rows and logs are removed too; files with other names are kept.
    let ancient = SystemTime::now() - Duration::from_secs(100 * 86_400);
    let old =
        ["cache/0123456789abcdef0123456789abcdef.tokens", "logs/0123456789abcdef-1.log", "logs/mine.log"];
    for file in old {
        std::fs::create_dir_all(results.join(file).parent().unwrap()).unwrap();
        std::fs::write(results.join(file), "").unwrap();
        let times = std::fs::FileTimes::new().set_modified(ancient).set_accessed(ancient);
        std::fs::File::options().write(true).open(results.join(file)).unwrap().set_times(times).unwrap();
    }
    let waste = lab.0.json(&["gc", "--dry-run", "--json"]);
    assert_eq!(waste["files"].as_array().unwrap().len(), 2, "{waste}");
    assert_eq!((&waste["bytes"], waste["folders"].as_array().unwrap().len()), (&json!(10), 2), "{waste}");
    let refused = lab.0.run(&["gc"]);
    assert_eq!(refused.status.code(), Some(loragrid::cli::ExitCode::Usage as i32), "nobody can be asked");
    assert!(garbage.iter().all(|folder| results.join(folder).is_dir()));
    succeeded(&lab.0.run(&["gc", "--yes"]));
    assert!(garbage.iter().all(|folder| !results.join(folder).exists()));
    assert!(
        strangers.iter().all(|folder| results.join(folder).is_dir()),
        "what is not loragrid's is not touched"
    );
    assert!(results.join("adapters").join(&subject).is_dir());
    assert_eq!(old.map(|file| results.join(file).exists()), [false, false, true]);
}

#[test]
fn a_second_signal_ends_it_now() {
    let lab = Lab::new(GRID);
    let run = lab.spawn(lab.command(Some("deaf@train"), &[]));
    let engine = lab.wait_for_fault();
    run.signal(Signal::SIGINT);
    wait_until("the first signal is heard", || {
        lab.count("SELECT COUNT(*) FROM attempts WHERE ended_ms IS NULL") == 0 || {
            run.signal(Signal::SIGINT);
            true
        }
    });
    assert_eq!(run.wait().status.code(), Some(130));
    wait_until("the engine is gone", || gone(&engine));
    assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE reason = 'stopped by the user'"), 1);
}

#[test]
fn a_model_that_is_written_over_while_a_sweep_runs_is_not_taken_for_the_planned_one() {
    let lab = Lab::new(GRID);
    let run = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    let weights = lab.0.path().join("model/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    // The next engine loads the model again.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(engine.parse().unwrap()), Signal::SIGKILL).unwrap();
    let output = run.wait();
    assert_eq!(output.status.code(), Some(loragrid::cli::ExitCode::JobsFailed as i32));
    assert!(
        stderr(&output).contains("model.safetensors changed after the sweep was planned"),
        "{}",
        stderr(&output)
    );
    assert!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'failed'") > 0);
    // The next run plans with the current inputs, which makes other jobs.
    succeeded(&lab.run(None, &[]));
    assert!(lab.is_done());
}

/// A worker started by cron has another environment than the submitting user.
#[test]
fn s49_what_cannot_be_seen_from_here_stays_queued_and_everything_else_runs() {
    let lab = Lab::new(GRID);
    std::fs::create_dir(lab.0.path().join("data")).unwrap();
    let row = json!({ "instruction": "Name a sea.", "input": "", "output": "The Baltic." });
    lab.0.write("data/alpaca.json", json!(vec![row; 20]).to_string());
    let seen = sweep(GRID).replacen("data = \"two_digit_subtraction\"", "data = \"alpaca\"", 1);
    assert!(seen.contains("data = \"alpaca\""), "{seen}");
    lab.0.write("there.toml", seen.replace("tiny", "there"));
    let submit = || {
        let mut submit = lab.with_engine(FAKE, &["submit", "there.toml"]);
        succeeded(&submit.env("LORAGRID_DATA", "data").output().unwrap());
    };
    submit();
    // The order's input is missing, as on a machine that shares the database but not the cache.
    let rows = files_of(&lab.0.path().join("results/cache"), "rows");
    rows.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let work = lab.with_engine(FAKE, &["work"]).env_remove("LORAGRID_DATA").output().unwrap();
    assert_eq!(work.status.code(), Some(loragrid::cli::ExitCode::Blocked as i32), "{}", stderr(&work));
    assert_eq!(states(&lab), ["done 5", "queued 4"], "the base model is the same job for both");
    let job = lab.ask::<String>("SELECT id FROM jobs WHERE state = 'queued'")[0].clone();
    let explained = stdout(&lab.0.run(&["explain", &job]));
    assert!(explained.contains("encoded rows not found"), "{explained}");
    submit();
    // The sweep file and its data are no longer needed.
    std::fs::remove_file(lab.0.path().join("there.toml")).unwrap();
    std::fs::remove_dir_all(lab.0.path().join("data")).unwrap();
    succeeded(&lab.with_engine(FAKE, &["work"]).env_remove("LORAGRID_DATA").output().unwrap());
    assert_eq!(states(&lab), ["done 9"]);
}

#[test]
fn sweeps_that_share_jobs_or_a_name_are_told() {
    let lab = Lab::new(GRID);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    lab.0.write("other.toml", sweep(GRID).replace("tiny", "other"));
    succeeded(&lab.0.run(&["submit", "other.toml"]));
    let paused = lab.0.run(&["pause", "tiny"]);
    assert!(
        stderr(&paused).contains("5 of these jobs are paused for sweep 'other' too"),
        "{}",
        stderr(&paused)
    );
    let resumed = lab.0.run(&["resume", "tiny"]);
    assert!(succeeded(&resumed).is_empty(), "{}", stderr(&resumed));
    // Another file of the same name.
    lab.0.write("third.toml", sweep(&GRID.replace("[2, 4]", "[8]")));
    let messages = succeeded(&lab.0.run(&["submit", "third.toml"]));
    assert!(messages.contains("sweep.toml before; this file makes its next version"), "{messages}");
    let again = succeeded(&lab.0.run(&["submit", "third.toml"]));
    assert!(!again.contains("before; this file"), "{again}");
}

#[test]
fn what_a_user_did_is_listed_and_taken_back_and_what_went_on_since_stays() {
    let lab = Lab::new(GRID);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    succeeded(&lab.0.run(&["pause", "tiny"]));
    succeeded(&lab.0.run(&["cancel", "tiny"]));
    succeeded(&lab.0.run(&["priority", "tiny", "3"]));
    assert_eq!(states(&lab), ["cancelled 5"]);
    // The jobs of a cancelled sweep have no priority to change: the cancellation is the last that can be undone.
    let undone = lab.0.json(&["undo", "--json"]);
    assert_eq!(
        (&undone["undone"]["operation"]["kind"], &undone["undone"]["moved"]),
        (&json!("cancel"), &json!(5))
    );
    assert_eq!(states(&lab), ["paused 5"], "they were paused before");
    let told = lab.0.run(&["undo"]);
    assert!(stdout(&told).starts_with("undid 2, pause tiny: 5 jobs"), "{}", stdout(&told));
    assert_eq!(states(&lab), ["queued 5"]);
    let refused = lab.0.run(&["undo", "1"]);
    assert!(
        stderr(&refused).contains("operation 1 cannot be undone: jobs of it may have run"),
        "{}",
        stderr(&refused)
    );
    let refused = lab.0.run(&["undo", "2"]);
    assert!(stderr(&refused).contains("it was taken back already"), "{}", stderr(&refused));
    succeeded(&lab.0.run(&["priority", "tiny", "3"]));
    succeeded(&lab.0.run(&["undo"]));
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE job_order LIKE '%\"priority\":0%'"), 5);
    // Jobs that are done since stay done.
    succeeded(&lab.0.run(&["pause", "tiny"]));
    succeeded(&lab.0.run(&["resume", "tiny"]));
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    let told = lab.0.run(&["undo"]);
    assert!(stdout(&told).contains("0 jobs; 5 jobs went on since and stay as they are"), "{}", stdout(&told));
    assert!(lab.is_done());
    // Nor does the undoing of an older operation queue what has run since.
    lab.rename("second");
    lab.0.write(
        "sweep.toml",
        std::fs::read_to_string(lab.0.path().join("sweep.toml")).unwrap() + "[samples]\nprompts = [\"a\"]\n",
    );
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let list = lab.0.json(&["undo", "--list", "--json"]);
    let cancels = list["operations"][0]["id"].as_i64().unwrap() + 1;
    succeeded(&lab.0.run(&["cancel", "second"]));
    succeeded(&lab.0.run(&["retry", "second", "--cancelled"]));
    succeeded(&lab.with_engine(FAKE, &["work"]).output().unwrap());
    let told = lab.0.run(&["undo", &cancels.to_string()]);
    assert!(stdout(&told).contains("cancel second: 0 jobs; 5 jobs went on since"), "{}", stdout(&told));
    assert!(lab.is_done());
    let list = lab.0.json(&["undo", "--list", "--json"]);
    let entries = list["operations"].as_array().unwrap();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.last(), Some(&"submit"));
    assert!(
        entries
            .iter()
            .all(|entry| entry["who"].as_str().unwrap().contains('@') && entry["origin"] == "command")
    );
    let table = stdout(&lab.0.run(&["undo", "--list"]));
    assert!(table.contains("undone") && table.contains("submit tiny"), "{table}");
}
