//! Flags of the commands on the queue.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::arguments::{SweepArguments, key_value};
use super::work::WorkingArguments;
use crate::job::SweepName;

#[derive(Debug, Args)]
pub(crate) struct SubmitArguments {
    #[command(flatten)]
    pub(super) sweep: SweepArguments,
    /// The devices that will run it, as for `work`; cuda also where no GPU is, as on a login node
    #[arg(long, value_name = "DEVICES", default_value = "auto")]
    pub(super) devices: String,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WorkArguments {
    #[command(flatten)]
    pub(super) working: WorkingArguments,
    /// Wait for more when the queue is empty
    #[arg(long)]
    pub(crate) forever: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ControlArguments {
    /// A sweep, or a job's id or its start
    pub(crate) name: String,
    /// Why; kept with the jobs
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Print one JSON object with the jobs in `jobs`
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArguments {
    /// A sweep, or a job's id or its start [default with a state: the last sweep that was submitted]
    #[arg(required_unless_present_any = ["failed", "diverged", "cancelled"])]
    pub(crate) name: Option<String>,
    /// Only jobs that failed
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only jobs that diverged
    #[arg(long)]
    pub(crate) diverged: bool,
    /// Only jobs that were cancelled; of a sweep they stay so unless this is given
    #[arg(long)]
    pub(crate) cancelled: bool,
    /// Print one JSON object with the jobs in `jobs`
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CloneArguments {
    /// A job's id or its start, or its label as `top` prints it, such as 'r=16 lr=0.002' or SWEEP/base
    pub(crate) job: String,
    /// Change a key, such as train.learning_rate=1e-4; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// Name of the sweep that has the new job [default: the sweep's name and the job's id]
    #[arg(long, value_name = "NAME", value_parser = |text: &str| SweepName::new(text).map_err(|error| error.to_string()))]
    pub(crate) name: Option<SweepName>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// A job's id or its start, or its label as `top` prints it, such as 'r=16 lr=0.002' or SWEEP/base
    pub(crate) job: String,
    /// The attempt [default: the last]
    #[arg(long, value_name = "N")]
    pub(crate) attempt: Option<i64>,
    /// Go on while the attempt runs
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// A job's id or its start, or its label as `top` prints it, such as 'r=16 lr=0.002' or SWEEP/base
    pub(crate) job: String,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GcArguments {
    /// List what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Upgrade the database of an earlier release, after a copy of the file
    Upgrade(DbUpgradeArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DbUpgradeArguments {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// The engine [default: loragrid-engine beside this program, or in PATH]
    #[arg(long, env = "LORAGRID_ENGINE", hide_env_values = true, value_name = "FILE")]
    pub(crate) engine: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SweepCommand {
    /// Every version of a sweep with the jobs that it added and dropped
    History(HistoryArguments),
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArguments {
    /// The sweep
    pub(crate) name: String,
    /// Print one JSON object with the versions in `versions`
    #[arg(long)]
    pub(crate) json: bool,
}
