//! A queue on a PostgreSQL server, shared by workers who have nothing else in common but a folder of results. `LORAGRID_TEST_POSTGRES` names a
//! server on which databases may be made, and `POSTGRES_STATE` the folder of the scripts that stop and start it (`make test-postgres`).

use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use loragrid::cli::ExitCode;
use nix::sys::signal::Signal;
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::lab::{FAKE, Lab, notes, succeeded, wait_until};
use crate::support::{stderr, stdout};

/// A sweep on a server; every host has a cache of its own, and so a copy of its own.
pub(crate) struct Hosts {
    pub(crate) lab: Lab,
    db: String,
}

impl Hosts {
    /// None, with a message, without a server.
    pub(crate) fn new(rest: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(base) = std::env::var("LORAGRID_TEST_POSTGRES") else {
            let _ = writeln!(std::io::stderr(), "skipped: LORAGRID_TEST_POSTGRES names no server");
            return None;
        };
        let name = format!("h{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&base).await.unwrap();
            connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        });
        let (front, query) = base.split_once('?').unwrap_or((&base, ""));
        let db = format!("{}/{name}?{query}", front.rsplit_once('/').unwrap().0);
        Some(Self { lab: Lab::new(rest), db })
    }

    fn command(&self, host: &str, arguments: &[&str]) -> Command {
        self.with_engine(FAKE, host, arguments)
    }

    /// The program on a host, with this engine.
    pub(crate) fn with_engine(&self, engine: &str, host: &str, arguments: &[&str]) -> Command {
        let mut command = self.lab.with_engine(engine, arguments);
        let folder = self.lab.0.path();
        command.env("LORAGRID_DB", &self.db).env("LORAGRID_RESULTS", folder.join("results"));
        command.env("XDG_CACHE_HOME", folder.join(host)).env("LORAGRID_LEASE", "10");
        command
    }

    fn done(&self, host: &str, arguments: &[&str]) -> String {
        let output = self.command(host, arguments).output().unwrap();
        succeeded(&output);
        stdout(&output)
    }

    fn json(&self, host: &str, arguments: &[&str]) -> Json {
        serde_json::from_str(&self.done(host, &[arguments, &["--json"]].concat())).unwrap()
    }

    /// A number from the copy of a host, after what changed is brought there.
    fn count(&self, host: &str, query: &str) -> u64 {
        let rows = self.json(host, &["query", query]);
        rows["rows"][0].as_object().unwrap().values().next().unwrap().as_u64().unwrap()
    }
}

const DONE: &str = "SELECT COUNT(*) FROM runs WHERE state = 'done'";

#[test]
fn workers_of_several_hosts_do_every_job_once_and_any_host_reads_the_results() {
    let Some(hosts) = Hosts::new(&format!("[axes]\nseed = [{}]", seeds(40))) else { return };
    hosts.done("a", &["submit", "sweep.toml"]);
    let workers: Vec<_> = ["b", "c", "d"]
        .into_iter()
        .map(|host| hosts.lab.spawn(hosts.command(host, &["work", "--devices", "cpu:2"])))
        .collect();
    for worker in workers {
        succeeded(&worker.wait());
    }
    assert_eq!(hosts.count("e", DONE), 40);
    assert_eq!(hosts.count("a", "SELECT COUNT(*) FROM attempts WHERE outcome = 'finished'"), 40);
    let trained = notes(&hosts.lab.0.path().join("results/logs"));
    assert_eq!(
        trained.iter().filter(|line| line.contains("trains seed")).count(),
        40,
        "none was trained twice"
    );
    // The same sweep again has nothing to do, whoever plans it.
    assert!(hosts.done("f", &["plan", "sweep.toml"]).contains(" 0 to run"));
}

#[test]
fn killed_workers_and_restarts_of_the_server_lose_nothing_and_repeat_no_end() {
    // `make test-postgres KILLS=100` kills as many, and restarts the server five times.
    let kills = std::env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4_u64);
    let (jobs, restarts) = (kills * 75, kills.min(5));
    let rest = format!("[keep]\nadapters = \"none\"\n[axes]\nseed = [{}]", seeds(jobs as usize));
    let Some(hosts) = Hosts::new(&rest) else { return };
    let state = std::path::PathBuf::from(std::env::var("POSTGRES_STATE").unwrap());
    hosts.done("a", &["submit", "sweep.toml"]);
    let start = |host: &str| hosts.lab.spawn(hosts.command(host, &["work", "--devices", "cpu:2"]));
    let mut workers = vec![start("b"), start("c"), start("d")];
    for round in 0..kills {
        wait_until("some jobs end", || hosts.count("a", DONE) >= 20 * (round + 1));
        workers.remove(0).signal(Signal::SIGKILL);
        if round % (kills / restarts) == 0 && round / (kills / restarts) < restarts {
            for script in ["stop", "start"] {
                assert!(Command::new(state.join(script)).status().unwrap().success(), "{script}");
            }
        }
        workers.push(start(["b", "c", "d"][round as usize % 3]));
    }
    for worker in workers {
        succeeded(&worker.wait());
    }
    assert_eq!(hosts.count("a", DONE), jobs);
    assert_eq!(hosts.count("a", "SELECT COUNT(*) FROM attempts WHERE outcome = 'finished'"), jobs);
    assert_eq!(hosts.count("a", "SELECT COUNT(*) FROM attempts WHERE outcome IS NULL"), 0);
    assert_eq!(
        hosts.count("a", "SELECT COUNT(*) FROM runs WHERE adapter_removed IS NOT NULL"),
        jobs,
        "[keep]"
    );
}

#[test]
fn what_a_user_does_on_one_host_holds_on_every_other() {
    let Some(hosts) = Hosts::new("[axes]\nseed = [1, 2, 3]") else { return };
    hosts.done("a", &["submit", "sweep.toml"]);
    hosts.done("b", &["pause", "tiny"]);
    hosts.done("c", &["work"]);
    assert_eq!(hosts.count("c", "SELECT COUNT(*) FROM runs WHERE state = 'paused'"), 3);
    assert!(hosts.done("a", &["undo"]).contains("3 jobs"));
    hosts.done("b", &["priority", "tiny", "7"]);
    hosts.done("b", &["cancel", "seed=3"]);
    hosts.done("c", &["work"]);
    assert_eq!(hosts.count("a", DONE), 2);
    hosts.done("a", &["retry", "tiny", "--cancelled"]);
    hosts.done("c", &["work"]);
    let done = hosts.json("b", &["wait", "tiny"]);
    assert_eq!(done["states"]["done"], 3);
    // A changed file is another version of the same sweep, with the priority that it had.
    let text = std::fs::read_to_string(hosts.lab.0.path().join("sweep.toml")).unwrap();
    hosts.lab.0.write("sweep.toml", text.replace("[1, 2, 3]", "[1, 2, 3, 4]"));
    hosts.done("b", &["run", "sweep.toml"]);
    assert_eq!(hosts.count("d", DONE), 4);
    assert_eq!(hosts.json("d", &["sweep", "history", "tiny"])["versions"].as_array().unwrap().len(), 2);
    hosts.done("d", &["rm", "tiny", "--yes"]);
    let gone = hosts.command("a", &["top", "tiny"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(ExitCode::NotFound as i32), "{}", stderr(&gone));
    // Its results are still there for whoever wants them.
    assert!(hosts.done("b", &["plan", "sweep.toml"]).contains(" 0 to run"));
}

#[test]
fn a_password_is_in_no_address_and_nowhere_else() {
    let Some(hosts) = Hosts::new("[axes]\nseed = [1]") else { return };
    let mut command = hosts.command("a", &["run", "sweep.toml", "-vv"]);
    let output = command.env("PGPASSWORD", "hunter2").env("LORAGRID_LOG", "trace").output().unwrap();
    succeeded(&output);
    let mut told = stdout(&output) + &stderr(&output);
    told.push_str(&notes(hosts.lab.0.path()).concat());
    assert!(!told.contains("hunter2"));
    let secret = hosts.db.replacen("loragrid@", "loragrid:hunter2@", 1);
    for arguments in [&["status"][..], &["config"], &["doctor"]] {
        let output = hosts.command("a", arguments).env("LORAGRID_DB", &secret).output().unwrap();
        assert_eq!(output.status.code(), Some(ExitCode::Usage as i32), "{}", stderr(&output));
        assert!(stderr(&output).contains("PGPASSWORD"), "{}", stderr(&output));
        assert!(!(stdout(&output) + &stderr(&output)).contains("hunter2"));
    }
}

#[test]
fn no_engine_inherits_a_secret() {
    let lab = Lab::new("");
    let mut run = lab.command(Some("hang@train"), &[]);
    for name in ["PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN"] {
        run.env(name, "hunter2");
    }
    let run = lab.spawn(run);
    let pid = lab.wait_for_fault();
    let environment = std::fs::read(format!("/proc/{}/environ", pid.trim())).unwrap();
    run.signal(Signal::SIGKILL);
    run.wait();
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("LORAGRID_DEVICE=cpu"), "{environment}");
    assert!(!environment.contains("hunter2"), "an engine sees a secret");
}

#[test]
fn a_server_that_is_not_there_and_a_folder_of_results_beside_a_file_are_told() {
    let lab = Lab::new("");
    let with = |db: &str, more: &[&str]| {
        let mut command = lab.0.command(&[&["--db", db, "status"], more].concat());
        command.env("XDG_CACHE_HOME", lab.0.path()).output().unwrap()
    };
    let away = with("postgres://nobody@localhost/none?host=/nowhere", &[]);
    assert_eq!(away.status.code(), Some(ExitCode::Database as i32));
    assert!(stderr(&away).contains("cannot be reached"), "{}", stderr(&away));
    let beside = with("a.db", &["--results", "elsewhere"]);
    assert_eq!(beside.status.code(), Some(ExitCode::Usage as i32), "{}", stderr(&beside));
}

fn seeds(count: usize) -> String {
    (1..=count).map(|seed| seed.to_string()).collect::<Vec<_>>().join(", ")
}
