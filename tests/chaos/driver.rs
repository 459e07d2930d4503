//! The driver: draws what happens next, and to whom.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use loragrid::random::{Purpose, Stream};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Background, Lab};
use crate::{STEPS, Settings, say};

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(3);
/// Nothing may stand still for this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest that an orchestrator stays stopped.
const STOPPED: Duration = Duration::from_secs(15);
/// A silent engine is killed after so many seconds, a silent orchestrator has lost its jobs.
const HANG: &str = "2";
const LEASE: &str = "6";

/// What the driver can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deed {
    KillEngine,
    KillOrchestrator,
    KillBoth,
    /// SIGSTOP for ever: the orchestrator has to notice.
    StopEngine,
    /// SIGSTOP for a moment: nobody should mind.
    StarveEngine,
    /// SIGSTOP until another orchestrator has taken its jobs, then SIGCONT.
    StopOrchestrator,
    /// SIGTERM, SIGINT or SIGHUP.
    EndOrchestrator,
}

/// How often each was done.
#[derive(Debug, Default)]
pub(crate) struct Deeds(BTreeMap<Deed, u64>);

impl Deeds {
    pub(crate) fn kills(&self) -> u64 {
        self.0.values().sum()
    }

    /// Attempts that these can have ended at most, on two slots.
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
    /// One that was stopped, when, and how many attempts had been taken from others then.
    stopped: Option<(Background, Instant, usize)>,
    /// Those that were woken up and told to end.
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
                // As many as are wanted, spread evenly over all the progress that is left.
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

    /// What there is to say where nothing goes on.
    fn standing(&self) -> String {
        let attempts = "SELECT job_id || ' ' || device || ' ' || owner || ' ' || COALESCE(outcome, 'open') || ' ' || COALESCE(reason, '')
                        FROM attempts ORDER BY started_ms DESC LIMIT 8";
        let messages = self.orchestrator.as_ref().map(Background::told).unwrap_or_default();
        format!("{}\nengines {:?}\n{messages}", self.lab.ask::<String>(attempts).join("\n"), self.engines())
    }

    /// All the progress that there is.
    fn whole(&self) -> u64 {
        // Some checkpoints go before they are seen, and jobs end while a process starts: what is left at half of it comes then.
        self.settings.jobs * if self.settings.real { STEPS } else { 1 } / 2
    }

    /// Checkpoints that were written, or jobs that are done where there are none.
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

    /// Ends the orchestrator by a signal, and waits for its end.
    fn end(&mut self, signal: Signal) {
        let Some(running) = self.orchestrator.take() else { return };
        running.signal(signal);
        running.wait();
    }

    /// Stops the orchestrator; a second one works on, and takes its jobs when its lease has ended.
    fn stop_orchestrator(&mut self) {
        let Some(stopped) = self.orchestrator.take() else { return };
        stopped.signal(Signal::SIGSTOP);
        self.orchestrator = Some(self.start());
        self.stopped = Some((stopped, Instant::now(), self.taken_over()));
    }

    /// Wakes the stopped orchestrator once its jobs are another's, or at the end; it must do no harm then. One that was
    /// stopped in the middle of a transaction has the database to itself, and everybody waits for it.
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

    /// Attempts that were taken from a silent orchestrator.
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
    // It may have ended by itself.
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

/// Those that live.
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
