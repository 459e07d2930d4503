//! A sweep of the tiny model in a scratch folder, run with one of the engines and inspected through its database.

use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;
use serde_json::Value as Json;

use crate::support::{Scratch, stderr, sweep, tiny_model};

/// The real engine.
#[cfg(feature = "engine")]
pub(crate) const REAL: &str = env!("CARGO_BIN_EXE_loragrid-engine");
/// The fake engine.
pub(crate) const FAKE: &str = env!("CARGO_BIN_EXE_fake-engine");

pub(crate) struct Lab(pub(crate) Scratch);

impl Lab {
    pub(crate) fn new(rest: &str) -> Self {
        // Under nohup SIGHUP is ignored, and loragrid would inherit that.
        // SAFETY: the default action of a signal touches nothing of this process's memory.
        unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) }.unwrap();
        let scratch = Scratch::new();
        tiny_model(&scratch);
        scratch.write("sweep.toml", sweep(rest));
        Self(scratch)
    }

    /// Gives the sweep file another name.
    pub(crate) fn rename(&self, name: &str) {
        let text = std::fs::read_to_string(self.0.path().join("sweep.toml")).unwrap();
        let (_, rest) = text.split_once('\n').unwrap();
        self.0.write("sweep.toml", format!("name = \"{name}\"\n{rest}"));
    }

    /// `run sweep.toml` with the fake engine and a fault, if given.
    pub(crate) fn run(&self, fault: Option<&str>, more: &[&str]) -> Output {
        self.command(fault, more).output().unwrap()
    }

    pub(crate) fn command(&self, fault: Option<&str>, more: &[&str]) -> Command {
        let mut command = self.with_engine(FAKE, &[&["run", "sweep.toml"], more].concat());
        if let Some(fault) = fault {
            command.env("LORAGRID_FAKE", format!("{fault}={}", self.fault().display()));
        }
        command
    }

    /// The program with these arguments and this engine.
    pub(crate) fn with_engine(&self, engine: &str, arguments: &[&str]) -> Command {
        let mut command = self.0.command(arguments);
        command.env("LORAGRID_ENGINE", engine);
        // Tests with one job at a time; those of packs are in packs.rs.
        command.env("LORAGRID_PACK", "1");
        // Resuming, out of memory and strict runs on a device other than the CPU.
        let device = std::env::var("LORAGRID_PARITY_DEVICE").unwrap_or_default();
        let computes = engine != FAKE && matches!(arguments.first(), Some(&("run" | "work")));
        if !device.is_empty() && computes && !arguments.contains(&"--devices") {
            command.args(["--devices", &device]);
        }
        command
    }

    /// `run sweep.toml` with the fake engine, its jobs in packs.
    pub(crate) fn packed(&self, fault: Option<&str>, more: &[&str]) -> Command {
        let mut command = self.command(fault, more);
        command.env_remove("LORAGRID_PACK");
        command
    }

    /// A program in the background.
    pub(crate) fn spawn(&self, mut command: Command) -> Background {
        // A full pipe that nobody reads would block it.
        let file = tempfile::tempfile().unwrap();
        command.stderr(file.try_clone().unwrap()).stdout(Stdio::null());
        Background { child: command.spawn().unwrap(), told: file }
    }

    /// The file that a fault creates when it happens, with the process id in it.
    pub(crate) fn fault(&self) -> std::path::PathBuf {
        self.0.path().join("fault")
    }

    /// Waits until a fault has happened; returns the process id of its engine.
    pub(crate) fn wait_for_fault(&self) -> String {
        let engine = || std::fs::read_to_string(self.fault()).unwrap_or_default();
        wait_until("the fault happens", || !engine().is_empty());
        engine()
    }

    pub(crate) fn rows(&self) -> Vec<Json> {
        self.0.json(&["top", "--json"])["rows"].as_array().unwrap().clone()
    }

    /// Whether every row is done.
    pub(crate) fn is_done(&self) -> bool {
        self.rows().iter().all(|row| row["state"] == "done")
    }

    /// Number of attempts in the database.
    pub(crate) fn attempts(&self) -> usize {
        self.count("SELECT COUNT(*) FROM attempts")
    }

    /// The database's file.
    pub(crate) fn db(&self) -> std::path::PathBuf {
        self.0.path().join("results/loragrid.db")
    }

    /// A number from the database.
    pub(crate) fn count(&self, query: &str) -> usize {
        self.ask::<i64>(query)[0] as usize
    }

    /// The first column of a query's result.
    pub(crate) fn ask<T>(&self, query: &str) -> Vec<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        let path = self.db();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use sqlx::{Connection, Row};
            let mut connection = sqlx::SqliteConnection::connect(&path.display().to_string()).await.unwrap();
            let rows = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_all(&mut connection).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        })
    }

    /// Changes the database directly.
    pub(crate) fn change(&self, statements: &[String]) {
        let path = self.db();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use sqlx::{Connection, Executor};
            let mut connection = sqlx::SqliteConnection::connect(&path.display().to_string()).await.unwrap();
            for statement in statements {
                connection.execute(sqlx::AssertSqlSafe(statement.as_str())).await.unwrap();
            }
        });
    }

    /// Every adapter's weights, by folder.
    #[cfg(feature = "engine")]
    pub(crate) fn adapters(&self) -> Vec<(String, Vec<u8>)> {
        let folders = std::fs::read_dir(self.0.path().join("results/adapters")).unwrap();
        let read = |folder: std::path::PathBuf| {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(folder.join("adapter_model.safetensors")).unwrap())
        };
        let mut adapters: Vec<_> = folders.map(|entry| read(entry.unwrap().path())).collect();
        adapters.sort();
        adapters
    }
}

/// A running program, with its standard error.
pub(crate) struct Background {
    child: Child,
    told: std::fs::File,
}

impl Background {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    #[allow(dead_code, reason = "only chaos asks")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has exited.
    #[allow(dead_code, reason = "only chaos asks")]
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Its standard error so far.
    pub(crate) fn told(&self) -> String {
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.told));
        std::fs::read_to_string(path).unwrap()
    }

    /// Waits for its exit.
    pub(crate) fn wait(mut self) -> Output {
        let status = self.child.wait().unwrap();
        let mut stderr = Vec::new();
        self.told.rewind().unwrap();
        self.told.read_to_end(&mut stderr).unwrap();
        Output { status, stdout: Vec::new(), stderr }
    }
}

/// The standard error of a program that must have succeeded.
pub(crate) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    stderr(output)
}

/// Whether a process is gone, or a zombie.
pub(crate) fn gone(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Waits until a condition holds, at most half a minute.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(120), "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The lines that all attempts of the fake engine wrote into their logs.
pub(crate) fn notes(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                lines.extend(
                    String::from_utf8_lossy(&std::fs::read(path).unwrap()).lines().map(str::to_owned),
                );
            }
        }
    }
    lines
}
