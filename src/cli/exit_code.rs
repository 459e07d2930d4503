//! Exit codes, one for each case that a script may want to tell apart. `loragrid --help` lists them.

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// What was asked for was done.
    Success = 0,
    /// A bug, or the system.
    Internal = 1,
    /// Wrong arguments.
    Usage = 2,
    /// The sweep file.
    SweepFile = 3,
    /// The model.
    Model = 4,
    /// The data.
    Data = 5,
    /// A task.
    Task = 6,
    /// There is no engine.
    NoEngine = 7,
    /// The sweep went on, but some jobs failed or diverged.
    JobsFailed = 8,
    /// The database.
    Database = 9,
    /// No such sweep.
    NotFound = 10,
    /// The engine does not start or is not understood.
    Engine = 11,
    /// Two models are further apart than the bound.
    Apart = 12,
    /// There is no disk left for the sweep.
    Disk = 13,
    /// Jobs are left that cannot run here now: something that they need is missing or away.
    Blocked = 14,
    /// The time limit was reached, and jobs are left.
    TimeUp = 15,
    /// SIGHUP stopped it.
    HungUp = 129,
    /// SIGINT stopped it.
    Interrupted = 130,
    /// SIGTERM stopped it.
    Terminated = 143,
}

impl ExitCode {
    /// The word for `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Internal => "internal",
            Self::Usage => "usage",
            Self::SweepFile => "sweep_file",
            Self::Model => "model",
            Self::Data => "data",
            Self::Task => "task",
            Self::NoEngine => "no_engine",
            Self::JobsFailed => "jobs_failed",
            Self::Database => "database",
            Self::NotFound => "not_found",
            Self::Engine => "engine",
            Self::Apart => "apart",
            Self::Disk => "disk",
            Self::Blocked => "blocked",
            Self::TimeUp => "time_up",
            Self::HungUp => "hung_up",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
