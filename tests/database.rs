//! A database that is locked, missing, replaced, copied, or on a disk that is full or read-only, with the fake engine.

use loragrid::cli::ExitCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, SqliteConnection};

use crate::disk::SmallDisk;
use crate::lab::{FAKE, Lab, succeeded, wait_until};
use crate::support::stderr;

const GRID: &str =
    "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2]\n";

fn kill_engine(pid: &str) {
    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
}

#[test]
fn a_run_waits_for_a_database_that_another_program_holds_and_loses_nothing() {
    let lab = Lab::new(GRID);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut holder = runtime.block_on(SqliteConnection::connect(&lab.db().display().to_string())).unwrap();
    runtime.block_on(sqlx::query("BEGIN IMMEDIATE").execute(&mut holder)).unwrap();
    let work = lab.spawn(lab.with_engine(FAKE, &["work"]));
    wait_until("the worker says that it waits", || work.told().contains("is held by another program"));
    runtime.block_on(sqlx::query("ROLLBACK").execute(&mut holder)).unwrap();
    let messages = succeeded(&work.wait());
    assert!(messages.contains("is back") && messages.contains("5 done in"), "{messages}");
    assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE outcome = 'finished'"), 5);
}

#[test]
fn a_user_who_stops_a_run_does_not_wait_for_a_locked_database_for_ever() {
    let lab = Lab::new(GRID);
    let work = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    let away = lab.db().with_extension("away");
    std::fs::rename(lab.db(), &away).unwrap();
    wait_until("the worker says that it waits", || work.told().contains("is not at its place"));
    work.signal(Signal::SIGINT);
    let output = work.wait();
    assert_eq!(output.status.code(), Some(ExitCode::NotFound as i32), "{}", stderr(&output));
    wait_until("the engine is gone", || crate::lab::gone(&engine));
    std::fs::rename(&away, lab.db()).unwrap();
    succeeded(&lab.run(None, &[]));
    assert!(lab.is_done());
}

#[test]
fn a_database_that_is_moved_away_and_back_is_waited_for() {
    let lab = Lab::new(GRID);
    let work = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    let away = lab.0.path().join("away.db");
    std::fs::rename(lab.db(), &away).unwrap();
    wait_until("the worker says that it waits", || work.told().contains("is not at its place"));
    // Meanwhile the job ends.
    kill_engine(&engine);
    assert!(!lab.db().exists(), "a new database was made in its place");
    std::fs::rename(&away, lab.db()).unwrap();
    succeeded(&work.wait());
    assert!(lab.is_done());
    assert_eq!(lab.ask::<String>("PRAGMA integrity_check"), ["ok"]);
    let deaths = lab.ask::<String>("SELECT reason FROM attempts WHERE outcome = 'requeued'");
    assert!(deaths.len() == 1 && deaths[0].contains("SIGKILL"), "{deaths:?}");
}

#[test]
fn nothing_is_written_into_a_file_that_took_the_databases_place() {
    let lab = Lab::new(GRID);
    let work = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    let away = lab.0.path().join("away.db");
    std::fs::rename(lab.db(), &away).unwrap();
    std::fs::write(lab.db(), "").unwrap();
    let output = work.wait();
    assert_eq!(output.status.code(), Some(ExitCode::Database as i32), "{}", stderr(&output));
    assert!(stderr(&output).contains("another file has replaced the database"), "{}", stderr(&output));
    wait_until("the engine is gone", || crate::lab::gone(&engine));
    assert_eq!(std::fs::read(lab.db()).unwrap(), b"");
    std::fs::rename(&away, lab.db()).unwrap();
    succeeded(&lab.run(None, &[]));
    assert!(lab.is_done());
}

#[test]
fn a_copy_without_its_log_is_an_older_state_that_goes_on() {
    let lab = Lab::new(GRID);
    let work = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    let log = lab.db().with_extension("db-wal");
    assert!(log.metadata().unwrap().len() > 0, "everything is in the file already");
    let copy = lab.0.path().join("copy/copy.db");
    std::fs::create_dir(copy.parent().unwrap()).unwrap();
    std::fs::copy(lab.db(), &copy).unwrap();
    work.signal(Signal::SIGKILL);
    work.wait();
    wait_until("the engine is gone", || crate::lab::gone(&engine));
    let copy = copy.display().to_string();
    succeeded(&lab.with_engine(FAKE, &["run", "sweep.toml", "--db", &copy]).output().unwrap());
    let board = lab.0.json(&["top", "--json", "--db", &copy]);
    assert!(board["rows"].as_array().unwrap().iter().all(|row| row["state"] == "done"), "{board}");
    let doctor = lab.with_engine(FAKE, &["doctor", "--db", &copy]).output().unwrap();
    assert!(crate::support::stdout(&doctor).contains("passes its integrity check"));
}

#[test]
fn a_folder_that_cannot_be_written_is_told_before_anything_is_queued() {
    let lab = Lab::new(GRID);
    let Some(disk) = SmallDisk::new("1m,ro") else { return };
    let db = disk.path().join("results/loragrid.db").display().to_string();
    let output = lab.with_engine(FAKE, &["run", "sweep.toml", "--db", &db]).output().unwrap();
    assert_eq!(output.status.code(), Some(ExitCode::Database as i32), "{}", stderr(&output));
    assert!(stderr(&output).contains("Read-only file system"), "{}", stderr(&output));
    assert!(stderr(&output).contains("check the path and its permissions"), "{}", stderr(&output));
}

#[test]
fn nothing_is_decided_by_the_clock_on_the_wall() {
    let lab = Lab::new(GRID);
    let work = lab.spawn(lab.command(Some("hang@train"), &[]));
    let engine = lab.wait_for_fault();
    // As if the clock had been years ahead when the attempts began, and the sweep was submitted years ago.
    lab.ask::<i64>("UPDATE job_attempts SET started_ms = started_ms + 100000000000 RETURNING 1");
    lab.ask::<i64>("UPDATE sweep_versions SET created_ms = 0 RETURNING 1");
    let other = lab.spawn(lab.with_engine(FAKE, &["work"]));
    wait_until("the other worker has done what is left", || {
        lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'done'") == 4
    });
    kill_engine(&engine);
    succeeded(&work.wait());
    succeeded(&other.wait());
    assert!(lab.is_done());
    assert_eq!(lab.count("SELECT COUNT(*) FROM attempts WHERE outcome = 'requeued'"), 1);
    // An attempt that ended before it began does not get a negative time.
    let job = lab.ask::<String>("SELECT job_id FROM attempts WHERE outcome = 'requeued'")[0].clone();
    let explained = crate::support::stdout(&lab.0.run(&["explain", &job]));
    assert!(!explained.contains(" -"), "{explained}");
    // Its duration is measured by another clock.
    let attempts = lab.0.json(&["explain", &job, "--json"])["attempts"].clone();
    assert!(attempts[0]["seconds"].as_f64().is_some_and(|seconds| seconds < 600.0), "{attempts}");
}

#[test]
fn a_plan_says_what_counts_as_undone_because_an_earlier_release_made_its_numbers() {
    let lab = Lab::new(GRID);
    succeeded(&lab.run(None, &[]));
    // As if an earlier release had run it: with other ids and other arithmetic.
    lab.change(&["UPDATE jobs SET numerics = 1".to_owned()]);
    let plan = crate::support::stdout(&lab.0.run(&["plan", "sweep.toml"]));
    assert!(plan.contains("5 of its done jobs are of an earlier loragrid"), "{plan}");
    assert_eq!(lab.0.json(&["plan", "sweep.toml", "--json"])["difference"]["of_earlier_numbers"], 5);
}

#[test]
fn a_plan_never_upgrades_a_database_and_reads_one_that_cannot_be_written() {
    let lab = Lab::new(GRID);
    let old = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/databases/first_storey.db");
    std::fs::copy(&old, lab.0.path().join("old.db")).unwrap();
    let refused = lab.0.run(&["--db", "old.db", "plan", "sweep.toml"]);
    assert_eq!(refused.status.code(), Some(ExitCode::Database as i32));
    assert!(std::fs::read(lab.0.path().join("old.db")).unwrap() == std::fs::read(&old).unwrap());
    let Some(disk) = SmallDisk::new("8m") else { return };
    succeeded(&lab.run(None, &[]));
    std::fs::copy(lab.db(), disk.path().join("grid.db")).unwrap();
    let path = disk.path().display().to_string();
    let remount =
        std::process::Command::new("/bin/mount").args(["-o", "remount,ro", &path]).status().unwrap();
    assert!(remount.success());
    let db = disk.path().join("grid.db").display().to_string();
    succeeded(&lab.0.run(&["--db", &db, "plan", "sweep.toml"]));
    succeeded(&lab.0.run(&["--db", &db, "top"]));
}

/// A database of the first release, with one sweep of five jobs.
#[test]
fn an_older_database_is_upgraded_after_a_copy_and_never_in_passing() {
    let lab = Lab::new(GRID);
    let path = lab.0.path().join("old.db");
    let old = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/databases/first_storey.db");
    std::fs::copy(&old, &path).unwrap();
    let run = |arguments: &[&str]| lab.0.run(&[&["--db", "old.db"], arguments].concat());
    let refused = run(&["status"]);
    assert_eq!(refused.status.code(), Some(ExitCode::Database as i32));
    assert!(stderr(&refused).contains("old.db db upgrade` upgrades it"), "{}", stderr(&refused));
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&old).unwrap(), "reading changes nothing");
    succeeded(&run(&["db", "upgrade"]));
    assert!(lab.0.path().join("old.db.v6.backup").is_file());
    let board = run(&["top", "--json"]);
    succeeded(&board);
    let text = crate::support::stdout(&board);
    assert!(text.matches("\"label\"").count() >= 3, "{text}");
    let adapters = "SELECT COUNT(*) AS n FROM attempts WHERE log LIKE '/%'";
    let logs = crate::support::stdout(&run(&["query", adapters, "--json"]));
    assert!(
        logs.contains("\"n\": 0") || logs.contains("\"n\":0"),
        "paths are those beside the database: {logs}"
    );
    succeeded(&run(&["db", "upgrade"]));
}

/// The schemas since the first release, each as its own migrations leave it, with the rows of the first release.
#[test]
fn a_database_of_every_schema_since_the_first_is_upgraded_and_gone_on_with() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(root.join("migrations"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "sql"))
        .collect();
    files.sort();
    let number =
        |path: &std::path::Path| -> i64 { path.file_name().unwrap().to_string_lossy()[..4].parse().unwrap() };
    let newest = number(files.last().unwrap());
    let lab = Lab::new(GRID);
    for version in 6..=newest {
        let (db, steps) = (format!("of-{version}/grid.db"), lab.0.path().join(format!("steps-{version}")));
        let path = lab.0.path().join(&db);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::create_dir_all(&steps).unwrap();
        std::fs::copy(root.join("tests/databases/first_storey.db"), &path).unwrap();
        for file in files.iter().filter(|file| number(file) <= version) {
            std::fs::copy(file, steps.join(file.file_name().unwrap())).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
            let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
            let migrator = sqlx::migrate::Migrator::new(steps.as_path()).await.unwrap();
            migrator.run(&pool).await.unwrap();
            pool.close().await;
        });
        let run = |arguments: &[&str]| {
            let mut command = lab.with_engine(FAKE, &[&["--db", &db], arguments].concat());
            let output = command.output().unwrap();
            succeeded(&output);
            crate::support::stdout(&output)
        };
        let upgraded = run(&["db", "upgrade"]);
        assert_eq!(
            path.with_extension(format!("db.v{version}.backup")).exists(),
            version < newest,
            "{upgraded}"
        );
        let count = |query: &str| {
            let rows: serde_json::Value = serde_json::from_str(&run(&["query", query, "--json"])).unwrap();
            rows["rows"][0]["n"].as_i64().unwrap()
        };
        let finished = "SELECT COUNT(*) AS n FROM attempts WHERE outcome = 'finished'";
        let before = count(finished);
        assert_eq!(before, 5, "the attempts of schema {version}");
        assert_eq!(count("SELECT COUNT(*) AS n FROM trainings"), 4);
        run(&["run", "sweep.toml"]);
        assert!(count(finished) > before, "nothing went on in schema {version}");
        let whole = runtime.block_on(async {
            let mut connection = SqliteConnection::connect(&path.display().to_string()).await.unwrap();
            sqlx::query_scalar::<_, String>("PRAGMA integrity_check")
                .fetch_one(&mut connection)
                .await
                .unwrap()
        });
        assert_eq!(whole, "ok");
    }
}

#[test]
fn a_database_in_rollback_mode_is_shared_by_workers_and_readers_without_a_log() {
    let lab = Lab::new(GRID);
    let rollback = |arguments: &[&str]| {
        let mut command = lab.with_engine(FAKE, arguments);
        command.env("LORAGRID_JOURNAL", "rollback");
        command
    };
    succeeded(&rollback(&["submit", "sweep.toml"]).output().unwrap());
    let mode = || std::fs::read(lab.db()).unwrap()[18];
    assert_eq!(mode(), 1, "not a rollback journal");
    let workers = [(); 2].map(|()| lab.spawn(rollback(&["work"])));
    while lab.rows().iter().any(|row| row["state"] != "done") {
        // A reader without the variable sees a file in rollback mode.
        succeeded(&lab.0.run(&["status"]));
    }
    for worker in workers {
        succeeded(&worker.wait());
    }
    assert!(!lab.db().with_extension("db-wal").exists());
    assert_eq!(mode(), 1);
    assert_eq!(lab.attempts(), 5, "none was done twice");
    let wrong = lab.with_engine(FAKE, &["work"]).env("LORAGRID_JOURNAL", "rollbak").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("must be wal or rollback, not 'rollbak'"), "{}", stderr(&wrong));
    // Without it the write-ahead log is back.
    succeeded(&lab.run(None, &[]));
    assert_eq!(mode(), 2);
}
