//! The driver: draws the next disturbance and its target.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use loragrid::random::{Purpose, Stream};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Background, Lab};
use crate::{STEPS, Settings, say};

/// Interval of progress checks.
const LOOK: Duration = Duration::from_millis(3);
/// Longest time without progress.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest time that an orchestrator stays stopped.
const STOPPED: Duration = Duration::from_secs(15);
/// Seconds after which a silent engine is killed and a silent orchestrator loses its jobs.
const HANG: &str = "2";
const LEASE: &str = "6";

/// The driver's disturbances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deed {
    KillEngine,
    KillOrchestrator,
    KillBoth,
    /// SIGSTOP forever: the orchestrator has to notice.
    StopEngine,
    /// SIGSTOP for a moment: must have no effect.
    StarveEngine,
    /// SIGSTOP until another orchestrator has taken over its jobs, then SIGCONT.
    StopOrchestrator,
    /// SIGTERM, SIGINT or SIGHUP.
    EndOrchestrator,
}

/// Number of disturbances of each kind.
#[derive(Debug, Default)]
pub(crate) struct Deeds(BTreeMap<Deed, u64>);

impl Deeds {
    pub(crate) fn kills(&self) -> u64 {
        self.0.values().sum()
    }

    /// Most attempts that these can have ended, on two slots.
    pub(crate) fn most_ended(&self) -> u64 {
        let each = |deed: &Deed| match deed {
            Deed::KillEngine | Deed::StopEngine => 1,
            Deed::StarveEngine => 1,
            Deed::KillOrchestrator | Deed::KillBoth | Deed::StopOrchestrator | Deed::EndOrchestrator => 2,
        };
        self.0.iter().map(|(deed, times)| each(deed) * times).sum()
    }
}

impl fmt::Display for Deeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (deed, times)) in self.0.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{deed:?} {times}")?;
        }
        Ok(())
    }
}

pub(crate) struct Driver<'a> {
    settings: &'a Settings,
    lab: &'a Lab,
    random: Stream,
    drawn: u64,
    orchestrator: Option<Background>,
    /// A stopped orchestrator, since when, and the number of attempts taken over by then.
    stopped: Option<(Background, Instant, usize)>,
    /// Orchestrators that were continued and asked to exit.
    ending: Vec<Background>,
    deeds: Deeds,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(settings: &'a Settings, lab: &'a Lab) -> Self {
        let random = Stream::new(settings.seed, Purpose::Sample, 0);
        Self {
            settings,
            lab,
            random,
            drawn: 0,
            orchestrator: None,
            stopped: None,
            ending: Vec::new(),
            deeds: Deeds::default(),
        }
    }

    fn draw(&mut self) -> f64 {
        self.drawn += 1;
        self.random.uniform(self.drawn)
    }

    fn start(&self) -> Background {
        let mut command = self.lab.with_engine(self.settings.engine(), &["work", "--devices", "cpu:2"]);
        command
            .env("LORAGRID_HANG", HANG)
            .env("LORAGRID_PACK", self.settings.pack())
            .env("LORAGRID_LEASE", LEASE);
        self.lab.spawn(command)
    }

    /// Disturbs the sweep until every job is done.
    pub(crate) fn run(mut self) -> Deeds {
        let whole = self.whole();
        let mut seen = 0;
        let mut last = Instant::now();
        while !self.is_done() {
            if self.orchestrator.as_mut().is_none_or(|running| running.has_ended()) {
                self.orchestrator = Some(self.start());
            }
            self.wake(false);
            let reached = self.progress();
            for at in seen..reached {
                // As many as are wanted, spread evenly over the remaining progress.
                let left = self.settings.kills.saturating_sub(self.deeds.kills()) as f64;
                if self.draw() * ((whole - at.min(whole - 1)) as f64) < left {
                    self.disturb();
                    if self.orchestrator.is_none() {
                        break;
                    }
                }
            }
            if reached > seen {
                (seen, last) = (reached, Instant::now());
            }
            assert!(
                last.elapsed() < PATIENCE,
                "nothing has gone on for a minute after {}:\n{}",
                self.deeds,
                self.standing()
            );
            std::thread::sleep(LOOK);
        }
        self.wake(true);
        for woken in std::mem::take(&mut self.ending) {
            woken.wait();
        }
        if let Some(last) = self.orchestrator.take() {
            let output = last.wait();
            assert!(output.status.success(), "{}", crate::support::stderr(&output));
        }
        self.deeds
    }

    /// Diagnostics if there is no progress.
    fn standing(&self) -> String {
        let attempts = "SELECT job_id || ' ' || device || ' ' || owner || ' ' || COALESCE(outcome, 'open') || ' ' || COALESCE(reason, '')
                        FROM attempts ORDER BY started_ms DESC LIMIT 8";
        let messages = self.orchestrator.as_ref().map(Background::told).unwrap_or_default();
        format!("{}\nengines {:?}\n{messages}", self.lab.ask::<String>(attempts).join("\n"), self.engines())
    }

    /// The total progress.
    fn whole(&self) -> u64 {
        // Some checkpoints are deleted before they are seen, and jobs end while a process starts: half of it counts as the total.
        self.settings.jobs * if self.settings.real { STEPS } else { 1 } / 2
    }

    /// Checkpoints written, or finished jobs if there are none.
    fn progress(&self) -> u64 {
        if !self.settings.real {
            return self.lab.count("SELECT COUNT(*) FROM jobs WHERE state = 'done'") as u64;
        }
        let trained = self.lab.count("SELECT COUNT(*) FROM trainings") as u64;
        let folders = std::fs::read_dir(self.lab.0.path().join("results/checkpoints"));
        let running = folders.into_iter().flatten().flatten().filter_map(|folder| last_step(&folder.path()));
        trained * STEPS + running.sum::<u64>()
    }

    fn is_done(&self) -> bool {
        self.lab.count("SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'running')") == 0
    }

    fn disturb(&mut self) {
        let deed = match self.draw() {
            x if x < 0.4 => Deed::KillEngine,
            x if x < 0.55 => Deed::KillOrchestrator,
            x if x < 0.65 => Deed::KillBoth,
            x if x < 0.75 => Deed::StopEngine,
            x if x < 0.85 => Deed::StarveEngine,
            x if x < 0.88 && self.stopped.is_none() => Deed::StopOrchestrator,
            _ => Deed::EndOrchestrator,
        };
        let engines = self.engines();
        let victim = engines.get((self.draw() * engines.len() as f64) as usize).copied();
        match deed {
            Deed::KillEngine | Deed::StopEngine | Deed::StarveEngine => {
                let Some(victim) = victim else { return };
                send(victim, if deed == Deed::KillEngine { Signal::SIGKILL } else { Signal::SIGSTOP });
                if deed == Deed::StarveEngine {
                    std::thread::sleep(Duration::from_millis(300));
                    send(victim, Signal::SIGCONT);
                }
            }
            Deed::KillOrchestrator | Deed::KillBoth => {
                if let Some(victim) = victim.filter(|_| deed == Deed::KillBoth) {
                    send(victim, Signal::SIGKILL);
                }
                self.end(Signal::SIGKILL);
            }
            Deed::EndOrchestrator => {
                let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
                let signal = signals[(self.draw() * 3.0) as usize];
                self.end(signal);
            }
            Deed::StopOrchestrator => self.stop_orchestrator(),
        }
        *self.deeds.0.entry(deed).or_default() += 1;
        if self.deeds.kills().is_multiple_of(20) {
            say(&format!("{} kills so far: {}", self.deeds.kills(), self.deeds));
        }
    }

    /// Ends the orchestrator by a signal, and waits for its exit.
    fn end(&mut self, signal: Signal) {
        let Some(running) = self.orchestrator.take() else { return };
        running.signal(signal);
        running.wait();
    }

    /// Stops the orchestrator; a second one continues and takes over its jobs when its lease has expired.
    fn stop_orchestrator(&mut self) {
        let Some(stopped) = self.orchestrator.take() else { return };
        stopped.signal(Signal::SIGSTOP);
        self.orchestrator = Some(self.start());
        self.stopped = Some((stopped, Instant::now(), self.taken_over()));
    }

    /// Continues the stopped orchestrator once its jobs are taken over, or at the end; it must do no harm then. If it was stopped inside
    /// a transaction, it holds the database lock, and all others wait for it.
    fn wake(&mut self, now: bool) {
        let Some((_, since, before)) = &self.stopped else { return };
        if !now && since.elapsed() < STOPPED && self.taken_over() == *before {
            return;
        }
        let Some((stopped, ..)) = self.stopped.take() else { return };
        stopped.signal(Signal::SIGCONT);
        stopped.signal(Signal::SIGTERM);
        self.ending.push(stopped);
    }

    /// Number of attempts taken over from a silent orchestrator.
    fn taken_over(&self) -> usize {
        self.lab.count("SELECT COUNT(*) FROM attempts WHERE reason LIKE '%stopped saying that it lives%'")
    }

    /// The engines of the orchestrator.
    fn engines(&self) -> Vec<i32> {
        let parent = self.orchestrator.as_ref().map(Background::pid);
        let mut engines: Vec<i32> =
            processes().into_iter().filter(|process| Some(process.parent) == parent).map(|p| p.pid).collect();
        engines.sort_unstable();
        engines
    }
}

fn send(pid: i32, signal: Signal) {
    // It may have exited by itself.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// The number in the name of the newest checkpoint of a folder.
fn last_step(folder: &std::path::Path) -> Option<u64> {
    let names = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
    let step = |name: std::ffi::OsString| {
        let name = PathBuf::from(name);
        let digits: String = name.file_stem()?.to_str()?.chars().filter(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    names.filter(|name| !name.to_string_lossy().contains("incomplete")).filter_map(step).max()
}

/// A process of this machine.
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: u32,
    pub(crate) folder: Option<PathBuf>,
}

/// All live processes.
pub(crate) fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let read = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let folder = std::fs::read_link(entry.path().join("cwd")).ok();
        (state != "Z").then_some(Process { pid, parent, folder })
    };
    entries.filter_map(read).collect()
}
