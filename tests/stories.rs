//! Real-world accidents, with the fake engine: files that change during a run, full disks, folders that are moved, copied or owned by
//! another database, remote workers, jobs that crash their worker.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use loragrid::cli::ExitCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::disk::SmallDisk;
use crate::lab::{FAKE, Lab, succeeded, wait_until};
use crate::results::{fails, printed};
use crate::support::{stderr, sweep};

const SIX: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4, 8, 16, 32]\n";
const FOUR: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n";

fn kill_engine(pid: &str) {
    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
}

/// Every file under a folder with its bytes.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn s23_a_running_sweep_does_not_notice_what_becomes_of_its_file() {
    type Change = fn(&Path);
    let changes: [Change; 3] = [
        |file| std::fs::write(file, "").unwrap(),
        |file| std::fs::remove_file(file).unwrap(),
        |file| {
            let other = file.with_file_name("other.toml");
            std::fs::write(&other, sweep("eval = []\n").replace("tiny", "another")).unwrap();
            std::fs::rename(&other, file).unwrap();
        },
    ];
    for change in changes {
        let lab = Lab::new(SIX);
        let file = lab.0.path().join("sweep.toml");
        let run = lab.spawn(lab.command(Some("hang@train"), &[]));
        let engine = lab.wait_for_fault();
        change(&file);
        let changed = std::fs::read(&file).ok();
        kill_engine(&engine);
        succeeded(&run.wait());
        assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'done'"), 6);
        assert_eq!(std::fs::read(&file).ok(), changed, "loragrid never writes to the sweep file");
    }
}

#[test]
fn s23_a_file_that_is_empty_gone_or_half_written_drops_nothing() {
    let lab = Lab::new(SIX);
    succeeded(&lab.run(None, &[]));
    let jobs = || lab.count("SELECT COUNT(*) FROM sweep_versions");
    let half = sweep(SIX).split_at(40).0.to_owned();
    lab.0.write("sweep.toml", "");
    fails(&lab, &["run", "sweep.toml"], ExitCode::SweepFile, &["the file is empty", "name, model, data"]);
    lab.0.write("sweep.toml", &half);
    assert_eq!(lab.run(None, &[]).status.code(), Some(ExitCode::SweepFile as i32));
    std::fs::remove_file(lab.0.path().join("sweep.toml")).unwrap();
    fails(&lab, &["run", "sweep.toml"], ExitCode::SweepFile, &["loragrid work"]);
    assert_eq!(jobs(), 1);
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'done'"), 6);
}

#[test]
fn s23_a_sweep_from_a_pipe_runs() {
    let lab = Lab::new(SIX);
    let file = std::fs::File::open(lab.0.path().join("sweep.toml")).unwrap();
    let mut run = lab.with_engine(FAKE, &["run", "-"]);
    let output = run.stdin(file).output().unwrap();
    succeeded(&output);
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'done'"), 6);
}

#[test]
fn s23_rows_that_are_edited_under_a_run_are_those_that_were_planned_or_told() {
    let lab = Lab::new(SIX);
    let row = |n: usize| json!({ "instruction": format!("Say {n}."), "output": format!("{n}") }).to_string();
    let rows = |from: usize| (from..from + 20).map(row).collect::<Vec<_>>().join("\n");
    lab.0.write("rows.jsonl", rows(0));
    let text = sweep(SIX).replacen("data = \"two_digit_subtraction\"", "data = \"rows.jsonl\"", 1);
    lab.0.write("sweep.toml", text);
    let run = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    lab.0.write("rows.jsonl", rows(100));
    kill_engine(&engine);
    // The rows were read at planning: the planned data is used.
    succeeded(&run.wait());
    let before = lab.ask::<String>("SELECT subject FROM jobs WHERE kind = 'train' ORDER BY subject");
    let messages = succeeded(&lab.run(None, &[]));
    assert!(messages.contains("to run"), "{messages}");
    let after = lab.ask::<String>("SELECT subject FROM jobs WHERE kind = 'train' ORDER BY subject");
    assert_eq!((before.len(), after.len()), (5, 10), "other rows are other trainings");
}

/// A lab with its database on a small disk and everything else elsewhere.
fn with_small_database(size: &str) -> Option<(Lab, SmallDisk, PathBuf)> {
    let disk = SmallDisk::new(size)?;
    let lab = Lab::new(SIX);
    for folder in ["adapters", "checkpoints", "logs", "cache"] {
        let there = lab.0.path().join("there").join(folder);
        std::fs::create_dir_all(&there).unwrap();
        std::os::unix::fs::symlink(&there, disk.path().join(folder)).unwrap();
    }
    let db = disk.path().join("grid.db");
    Some((lab, disk, db))
}

#[test]
fn s22_a_full_disk_under_the_database_loses_no_work_and_trains_nothing_twice() {
    let Some((lab, disk, db)) = with_small_database("3m") else { return };
    let path = db.display().to_string();
    let run = lab.spawn(lab.command(Some("hang@train"), &["--db", &path]));
    let engine = lab.wait_for_fault();
    let filler = disk.fill();
    kill_engine(&engine);
    wait_until("the full disk is told or ends the run", || {
        run.told().contains("full") || run.told().contains("No space")
    });
    assert!(!run.told().contains("panicked"), "{}", run.told());
    std::fs::remove_file(filler).unwrap();
    let output = run.wait();
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    succeeded(&lab.with_engine(FAKE, &["run", "sweep.toml", "--db", &path]).output().unwrap());
    let board = lab.0.json(&["top", "--json", "--db", &path]);
    assert!(board["rows"].as_array().unwrap().iter().all(|row| row["state"] == "done"), "{board}");
    let twice = "SELECT COUNT(*) AS n FROM (SELECT job_id FROM attempts WHERE outcome = 'finished' GROUP BY job_id HAVING COUNT(*) > 1)";
    let found = lab.0.json(&["query", twice, "--json", "--db", &path]);
    assert_eq!(found["rows"][0]["n"], 0);
    let doctor = lab.with_engine(FAKE, &["doctor", "--db", &path]).output().unwrap();
    assert!(crate::support::stdout(&doctor).contains("passes its integrity check"));
}

#[test]
fn s22_a_disk_that_is_full_from_the_start_is_told_before_anything_is_queued() {
    let Some(disk) = SmallDisk::new("1m") else { return };
    let lab = Lab::new(SIX);
    disk.fill();
    let db = disk.path().join("results/grid.db").display().to_string();
    let output = lab.with_engine(FAKE, &["run", "sweep.toml", "--db", &db]).output().unwrap();
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(ExitCode::Disk as i32), "{messages}");
    assert!(messages.contains("free") && !messages.contains("no such table"), "{messages}");
}

#[test]
fn s40_tidying_up_touches_nothing_that_is_somebody_elses() {
    let lab = Lab::new(FOUR);
    for (file, text) in [
        ("checkpoints/my-run/step_9000.pt", "weights of another program"),
        ("adapters/prod-v3/adapter_config.json", "{\"made_by\": \"hand\"}"),
        ("adapters/README.txt", "read me"),
    ] {
        let path = lab.0.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
        std::fs::File::open(path.parent().unwrap()).unwrap().set_modified(old).unwrap();
    }
    let of_user = |path: &Path| {
        path.components()
            .any(|part| ["my-run", "prod-v3", "README.txt"].map(Path::new).contains(&Path::new(&part)))
    };
    let theirs = || -> Vec<_> { files(lab.0.path()).into_iter().filter(|(path, _)| of_user(path)).collect() };
    let before = theirs();
    assert_eq!(before.len(), 3);
    // Without a database there is nothing to clean up.
    fails(&lab, &["gc", "--yes"], ExitCode::NotFound, &[]);
    succeeded(&lab.with_engine(FAKE, &["run", "sweep.toml", "--db", "grid.db"]).output().unwrap());
    let text = printed(&lab.0.run(&["gc", "--dry-run", "--db", "grid.db"]));
    assert!(!text.contains("prod-v3") && !text.contains("my-run"), "{text}");
    succeeded(&lab.0.run(&["gc", "--yes", "--db", "grid.db"]));
    assert_eq!(theirs(), before);
}

#[test]
fn s40_two_databases_in_one_folder_keep_each_others_adapters() {
    let lab = Lab::new(FOUR);
    lab.0.write("b.toml", sweep(&FOUR.replace("[2, 4]", "[8, 16]")).replace("tiny", "b"));
    succeeded(&lab.with_engine(FAKE, &["run", "sweep.toml", "--db", "a.db"]).output().unwrap());
    let second = lab.with_engine(FAKE, &["run", "b.toml", "--db", "b.db"]).output().unwrap();
    if second.status.success() {
        let adapters = files(&lab.0.path().join("adapters"));
        succeeded(&lab.0.run(&["gc", "--yes", "--db", "a.db"]));
        assert_eq!(files(&lab.0.path().join("adapters")), adapters);
    } else {
        // Rejected when the second one is created, with the first one's name.
        assert!(stderr(&second).contains("a.db"), "{}", stderr(&second));
        assert!(!lab.0.path().join("b.db").exists(), "nothing is queued there");
    }
    let best = lab.0.json(&["best", "--json", "--db", "a.db"]);
    assert!(lab.0.path().join(best["adapter"].as_str().unwrap()).is_dir(), "{best}");
}

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &there);
        } else {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}

#[test]
fn s41_in_a_copied_results_folder_the_originals_adapters_stay() {
    let lab = Lab::new(FOUR);
    succeeded(&lab.run(None, &[]));
    let original = lab.0.path().join("results");
    let before = files(&original.join("adapters"));
    copy(&original, &lab.0.path().join("copy"));
    lab.0.write(
        "sweep.toml",
        sweep(&format!("{}[keep]\nadapters = \"best:1\"\n", FOUR.replace("[2, 4]", "[2, 4, 16]"))),
    );
    succeeded(&lab.with_engine(FAKE, &["run", "sweep.toml", "--db", "copy/loragrid.db"]).output().unwrap());
    assert_eq!(files(&original.join("adapters")), before);
    assert_eq!(std::fs::read_dir(lab.0.path().join("copy/adapters")).unwrap().count(), 2);
}

#[test]
fn s41_moved_results_are_found_where_they_are_and_nothing_is_trained_again() {
    let lab = Lab::new(FOUR);
    succeeded(&lab.run(None, &[]));
    std::fs::rename(lab.0.path().join("results"), lab.0.path().join("moved")).unwrap();
    let at = ["--db", "moved/loragrid.db"];
    let run = |arguments: &[&str]| -> Output {
        lab.with_engine(FAKE, &[arguments, &at].concat()).output().unwrap()
    };
    let best = lab.0.json(&[&["best", "--json"], &at[..]].concat());
    assert!(lab.0.path().join(best["adapter"].as_str().unwrap()).is_dir(), "{best}");
    let job = best["best"]["jobs"][0].as_str().unwrap();
    assert!(!printed(&run(&["logs", job])).is_empty());
    lab.0.write(
        "sweep.toml",
        sweep(
            &FOUR.replace(
                "[\"two_digit_subtraction\"]",
                "[\"two_digit_subtraction\", \"two_digit_addition\"]",
            ),
        ),
    );
    succeeded(&run(&["run", "sweep.toml"]));
    let notes = crate::lab::notes(&lab.0.path().join("moved/logs"));
    assert_eq!(notes.iter().filter(|line| line.starts_with("trains")).count(), 4);
    assert!(!lab.0.path().join("results").exists(), "nothing is written to the old place");
}

#[test]
fn s41_a_database_without_its_adapters_trains_again_what_it_needs_and_fails_nothing() {
    for gone in [false, true] {
        let lab = Lab::new(FOUR);
        succeeded(&lab.run(None, &[]));
        let alone = lab.0.path().join("alone");
        std::fs::create_dir(&alone).unwrap();
        std::fs::copy(lab.db(), alone.join("loragrid.db")).unwrap();
        if gone {
            std::fs::rename(lab.0.path().join("results"), lab.0.path().join("gone")).unwrap();
        }
        lab.0.write(
            "sweep.toml",
            sweep(&FOUR.replace(
                "[\"two_digit_subtraction\"]",
                "[\"two_digit_subtraction\", \"two_digit_addition\"]",
            )),
        );
        let run =
            lab.with_engine(FAKE, &["run", "sweep.toml", "--db", "alone/loragrid.db"]).output().unwrap();
        succeeded(&run);
        let board = lab.0.json(&["top", "--json", "--db", "alone/loragrid.db"]);
        assert!(board["rows"].as_array().unwrap().iter().all(|row| row["state"] == "done"), "{board}");
        assert_eq!(std::fs::read_dir(alone.join("adapters")).unwrap().count(), 4);
    }
}

#[test]
fn s49_a_worker_in_another_folder_does_the_same() {
    let lab = Lab::new(FOUR);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let elsewhere = lab.0.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let mut work = lab.with_engine(FAKE, &["work", "--db", "../results/loragrid.db"]);
    succeeded(&work.current_dir(&elsewhere).output().unwrap());
    assert!(lab.is_done());
}

/// A script that wraps the fake engine.
fn wrapped(lab: &Lab, script: &str) -> String {
    let path = lab.0.write("engine.sh", format!("#!/bin/sh\n{script}\nexec {FAKE} \"$@\"\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn s54_a_job_that_kills_its_keeper_is_given_up_and_the_others_are_done() {
    let lab = Lab::new(FOUR);
    let text = sweep(FOUR);
    lab.0.write("sweep.toml", text);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let mut starts = 0;
    while lab.count("SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'running')") > 0 {
        starts += 1;
        assert!(starts <= 12, "the job is tried for ever");
        let mut work = lab.with_engine(FAKE, &["work"]);
        work.env("LORAGRID_FAKE", "murder@4-1");
        work.output().unwrap();
    }
    assert_eq!(
        lab.ask::<String>("SELECT state || ' ' || COUNT(*) FROM jobs GROUP BY state ORDER BY state"),
        ["done 4", "failed 1"]
    );
    let reason = lab.ask::<String>("SELECT reason FROM jobs WHERE state = 'failed'")[0].clone();
    assert!(reason.contains("process that ran it"), "{reason}");
    let job = lab.ask::<String>("SELECT id FROM jobs WHERE state = 'failed'")[0].clone();
    let attempts = lab.0.json(&["explain", &job, "--json"])["attempts"].as_array().unwrap().len();
    assert!((2..=5).contains(&attempts), "{attempts} attempts");
    assert_eq!(lab.0.json(&["explain", &job, "--json"])["standing"]["state"], "failed");
}

#[test]
fn s56_a_model_that_is_away_for_a_while_fails_no_job() {
    // Missing when the engine is first started, and back after two seconds.
    let lab = Lab::new(
        "eval = [\"two_digit_subtraction\"]\nlimit = 2\n[axes]\n\"lora.rank\" = [2, 4, 8]\nseed = [1, 2, 3, 4, 5, 6, 7, 8]\n",
    );
    let folder = lab.0.path().display().to_string();
    let engine = wrapped(
        &lab,
        &format!(
            "if [ ! -e {folder}/once ]; then : > {folder}/once; /bin/mv {folder}/model {folder}/away; (/bin/sleep 2; /bin/mv {folder}/away {folder}/model) & fi"
        ),
    );
    let output =
        lab.with_engine(&engine, &["run", "sweep.toml"]).env_remove("LORAGRID_PACK").output().unwrap();
    let messages = succeeded(&output);
    assert!(messages.contains("25 done,"), "{messages}");
    assert_eq!(lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'failed'"), 0);
}

#[test]
fn s56_the_same_bytes_in_a_new_file_are_the_same_model() {
    let lab = Lab::new(FOUR);
    let folder = lab.0.path().display().to_string();
    let engine = wrapped(
        &lab,
        &format!(
            "/bin/cp {folder}/model/model.safetensors {folder}/new; /bin/mv {folder}/new {folder}/model/model.safetensors"
        ),
    );
    let output = lab.with_engine(&engine, &["run", "sweep.toml"]).output().unwrap();
    let messages = succeeded(&output);
    assert!(messages.contains("5 done in"), "{messages}");
}
