//! The process itself.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use command_fds::{CommandFdExt, FdMapping};
use nix::sched::CpuSet;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;

use super::exit::{EngineExit, oom_kills};
use super::groups::KnownGroup;
use super::launcher::Launcher;
use crate::protocol::{EVENT_DESCRIPTOR, Event, FrameError, Inquiry, Order, encode_frame, split_frame};

/// Environment variables that hold the orchestrator's secrets.
const SECRETS: [&str; 6] = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HUGGINGFACE_HUB_TOKEN",
    "PGPASSWORD",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
];

/// Why an engine cannot be started or its events cannot be read.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// It cannot be started.
    #[error("{} cannot be started: {source}", engine.display())]
    Start {
        /// The program: the engine's, or the launcher's.
        engine: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Its output is not an event.
    #[error("the engine's events are not understood: {0}")]
    Events(#[from] FrameError),
}

/// A running engine: the reading half.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    events: pipe::Receiver,
    buffer: Vec<u8>,
    log: PathBuf,
    /// Length of the log written by earlier processes, in bytes.
    log_start: u64,
    /// The kernel's count of OOM kills at the start.
    oom_kills: u64,
    _group: KnownGroup,
}

/// The writing half: sends orders, and can kill the process.
#[derive(Debug)]
pub struct EngineHandle {
    orders: mpsc::UnboundedSender<Vec<u8>>,
    group: Pid,
    /// Whether a launcher started it: signals reach the launcher, and not the engine.
    is_launched: bool,
}

/// The settings of libtorch's allocator of GPU memory.
const ALLOCATOR: &str = "PYTORCH_CUDA_ALLOC_CONF";

/// The placement of an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineDevice {
    /// The slot's device, passed as `LORAGRID_DEVICE`.
    pub device: String,
    /// The cores that it may use; all if empty.
    pub cores: Vec<usize>,
    /// The GPUs visible to it, as `CUDA_VISIBLE_DEVICES`; inherited from this process if not set.
    pub cards: Option<String>,
    /// Starts it elsewhere; this program does if not set.
    pub launcher: Option<Launcher>,
}

impl Engine {
    /// Starts the engine in its own process group, with descriptors 1 and 2 on `log`. It exits with this process. With a launcher, this is
    /// the launcher's process, and the engine has its events on standard output. Error: [`WorkerError::Start`].
    pub fn start(
        engine: &Path,
        log: &Path,
        place: &EngineDevice,
    ) -> Result<(Self, EngineHandle), WorkerError> {
        let started = place.launcher.as_ref().map_or(engine, Launcher::program);
        let failed = |source| WorkerError::Start { engine: started.to_owned(), source };
        let file = open_log(log).map_err(failed)?;
        let (log_start, oom_kills) = (file.metadata().map_or(0, |meta| meta.len()), oom_kills());
        let (ours, theirs) = std::io::pipe().map_err(failed)?;
        let mut command = match &place.launcher {
            None => {
                let mut command = std::process::Command::new(engine);
                command.stdout(file.try_clone().map_err(failed)?);
                let mapping = FdMapping { parent_fd: OwnedFd::from(theirs), child_fd: EVENT_DESCRIPTOR };
                command.fd_mappings(vec![mapping]).map_err(|error| failed(std::io::Error::other(error)))?;
                command
            }
            Some(launcher) => {
                let mut command = launcher.command(engine, &place.device);
                command.stdout(theirs);
                command
            }
        };
        command.stdin(Stdio::piped()).stderr(file);
        command.env("LORAGRID_DEVICE", &place.device);
        // GPUs are numbered in the driver's order, and no engine needs a secret.
        command.env("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        // Passes differ in length: segments that grow leave no gaps that nothing fits into. A user's own setting stays.
        if std::env::var_os(ALLOCATOR).is_none() {
            command.env(ALLOCATOR, "expandable_segments:True");
        }
        for name in SECRETS {
            command.env_remove(name);
        }
        command.envs(place.cards.iter().map(|cards| ("CUDA_VISIBLE_DEVICES", cards)));
        let cores = &place.cores;
        let mut cpu_set = CpuSet::new();
        // A core beyond the kernel's limit does not exist.
        let pinned = !cores.is_empty() && cores.iter().all(|core| cpu_set.set(*core).is_ok());
        // SAFETY: prctl and sched_setaffinity are system calls that touch nothing of the parent's memory.
        unsafe {
            command.pre_exec(move || {
                if pinned {
                    nix::sched::sched_setaffinity(Pid::from_raw(0), &cpu_set)?;
                }
                Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
            });
        }
        let mut command = tokio::process::Command::from(command);
        let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(failed)?;
        // The command still holds the write end: as long as it lives, the read end never sees the end of the stream.
        drop(command);
        let orders = child.stdin.take().ok_or_else(|| failed(std::io::Error::other("no standard input")))?;
        let group = Pid::from_raw(child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default());
        let events = pipe::Receiver::from_owned_fd(OwnedFd::from(ours)).map_err(failed)?;
        let engine = Self {
            child,
            events,
            buffer: Vec::new(),
            log: log.to_owned(),
            log_start,
            oom_kills,
            _group: KnownGroup::new(group),
        };
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(write_orders(orders, receiver));
        let orders = sender;
        Ok((engine, EngineHandle { orders, group, is_launched: place.launcher.is_some() }))
    }

    /// The next event; `None` when the stream ended, cut or not. Error: bytes that are not an event.
    pub async fn next_event(&mut self) -> Result<Option<Event>, WorkerError> {
        loop {
            if let Some(event) = split_frame(&mut self.buffer)? {
                return Ok(Some(event));
            }
            let mut chunk = [0; 64 << 10];
            match self.events.read(&mut chunk).await {
                Ok(0) => return Ok(None),
                Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
                Err(error) => return Err(FrameError::Io(error).into()),
            }
        }
    }

    /// Kills a process whose output cannot be parsed.
    pub fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.start_kill();
    }

    /// Waits for the process to exit. `log` is the file that it wrote last.
    pub async fn death(mut self, log: Option<PathBuf>) -> EngineExit {
        // A crash during model loading comes before anything is written to the job's log.
        let (log, from) = match log.filter(|log| log.is_file()) {
            // The log of an attempt belongs to it from the first byte.
            Some(log) => (log, 0),
            None => (self.log, self.log_start),
        };
        match self.child.wait().await {
            Ok(status) => EngineExit::of(status, &log, from, self.oom_kills),
            Err(_) => EngineExit::default(),
        }
    }
}

/// Writes orders until the engine exits or all senders are dropped; then the engine sees the end of the stream.
async fn write_orders(mut pipe: ChildStdin, mut orders: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(frame) = orders.recv().await {
        if pipe.write_all(&frame).await.is_err() || pipe.flush().await.is_err() {
            return;
        }
    }
}

/// A log opened for appending. If the disk is full, log lines are lost rather than trainings. Error: any other.
fn open_log(log: &Path) -> std::io::Result<std::fs::File> {
    match OpenOptions::new().create(true).append(true).open(log) {
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            OpenOptions::new().write(true).open("/dev/null")
        }
        other => other,
    }
}

impl EngineHandle {
    /// Sends an order without waiting until it is read: an engine that does not read blocks nobody. An engine that has exited does not
    /// read it; the end of its events reports the exit. Error: an order that cannot be encoded.
    pub fn send(&self, order: &Order) -> Result<(), FrameError> {
        // The writing task ends with the engine's pipe.
        let _ = self.orders.send(encode_frame(order)?);
        Ok(())
    }

    /// Sends an inquiry to an engine that carries out a serve order, as [`Self::send`]. Error: one that cannot be encoded.
    pub fn inquire(&self, inquiry: &Inquiry) -> Result<(), FrameError> {
        let _ = self.orders.send(encode_frame(inquiry)?);
        Ok(())
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        u32::try_from(self.group.as_raw()).unwrap_or_default()
    }

    /// Kills the whole process group.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Asks the engine to write a checkpoint and exit.
    pub fn terminate(&self) {
        match encode_frame(&Order::Stop) {
            Ok(stop) if self.is_launched => drop(self.orders.send(stop)),
            Ok(_) | Err(_) => self.signal(Signal::SIGTERM),
        }
    }

    fn signal(&self, signal: Signal) {
        // The group may be gone already.
        if self.group.as_raw() > 0 {
            let _ = killpg(self.group, signal);
        }
    }
}
