//! Arguments of the commands on the queue.

use clap::Args;

use super::key_value;
use crate::job::SweepName;

/// What names a job.
pub(super) const JOB_HELP: &str =
    "Job: an id or its start, a label as `top` prints it such as 'r=16 lr=0.002', or SWEEP/LABEL";

#[derive(Debug, Args)]
pub(in crate::cli) struct StatusArguments {}

#[derive(Debug, Args)]
pub(in crate::cli) struct SyncArguments {}

#[derive(Debug, Args)]
pub(in crate::cli) struct WorkersArguments {}

#[derive(Debug, Args)]
pub(in crate::cli) struct WatchArguments {
    /// Sweep [default: the last submitted one that runs or waits]
    #[arg(add = super::super::completion::sweeps())]
    pub(in crate::cli) sweep: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WaitArguments {
    /// Sweep [default: the last submitted one]
    #[arg(add = super::super::completion::sweeps())]
    pub(in crate::cli) sweep: Option<String>,
    /// Stop waiting after this time, such as 8h, 90m or 45s
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) timeout: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ControlArguments {
    /// Sweep, or job: an id, its start, or a label as `top` prints it
    #[arg(add = super::super::completion::sweeps_and_jobs())]
    pub(in crate::cli) name: String,
    /// Reason, shown by `explain`
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RetryArguments {
    /// Sweep, or job: an id, its start, or a label as `top` prints it [default: the last sweep submitted]
    #[arg(add = super::super::completion::sweeps_and_jobs())]
    pub(in crate::cli) name: Option<String>,
    /// Only jobs that failed
    #[arg(long)]
    pub(in crate::cli) failed: bool,
    /// Only jobs that diverged
    #[arg(long)]
    pub(in crate::cli) diverged: bool,
    /// Only cancelled jobs; a sweep's cancelled jobs are requeued with this option only
    #[arg(long)]
    pub(in crate::cli) cancelled: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CloneArguments {
    #[arg(help = JOB_HELP, add = super::super::completion::jobs())]
    pub(in crate::cli) job: String,
    /// Change a key, such as train.learning_rate=1e-4 (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, add = super::super::completion::keys())]
    pub(in crate::cli) set: Vec<(String, String)>,
    /// Name of the new sweep [default: the sweep's name and the new job's id]
    #[arg(long, value_name = "NAME", value_parser = |text: &str| SweepName::new(text).map_err(|error| error.to_string()))]
    pub(in crate::cli) name: Option<SweepName>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArguments {
    #[arg(help = JOB_HELP, add = super::super::completion::jobs())]
    pub(in crate::cli) job: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LogsArguments {
    #[arg(help = JOB_HELP, add = super::super::completion::jobs())]
    pub(in crate::cli) job: String,
    /// Attempt [default: the last]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) attempt: Option<i64>,
    /// Follow the log while the attempt runs
    #[arg(long, short)]
    pub(in crate::cli) follow: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RmArguments {
    /// Sweep
    #[arg(add = super::super::completion::sweeps())]
    pub(in crate::cli) sweep: String,
    /// Show what would be removed, and remove nothing
    #[arg(short = 'n', long)]
    pub(in crate::cli) dry_run: bool,
    /// Remove without asking
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PriorityArguments {
    /// Sweep
    #[arg(add = super::super::completion::sweeps())]
    pub(in crate::cli) sweep: String,
    /// Priority: jobs of a higher one start first; sweeps are submitted with 0
    #[arg(allow_negative_numbers = true)]
    pub(in crate::cli) priority: i64,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct UndoArguments {
    /// Number of the operation, as --list shows it [default: the last one that can be undone]
    #[arg(value_name = "N", conflicts_with = "list")]
    pub(in crate::cli) number: Option<i64>,
    /// List what was done, by whom and from where, and undo nothing
    #[arg(short, long)]
    pub(in crate::cli) list: bool,
    /// Number of operations to list
    #[arg(long, value_name = "N", default_value_t = 20, requires = "list")]
    pub(in crate::cli) limit: u64,
}
