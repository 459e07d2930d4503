//! Arguments of the commands that plan and run sweeps.

use std::path::PathBuf;

use clap::Args;

use super::key_value;
use crate::workspace::{ConfigFlags, SweepRequest};

/// A sweep file with overrides.
#[derive(Debug, Args)]
pub(in crate::cli) struct SweepArguments {
    /// Sweep file, or - for standard input
    #[arg(value_name = "SWEEP.toml")]
    pub(in crate::cli) file: PathBuf,
    /// Override a key in every job, such as train.iterations=64 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value, add = super::super::completion::keys())]
    pub(in crate::cli) set: Vec<(String, String)>,
    /// Folder with task files, searched before the built-in tasks
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) include_path: Option<PathBuf>,
}

impl SweepArguments {
    /// The sweep that they name.
    pub(in crate::cli) fn request(&self) -> SweepRequest {
        let (file, overrides, include_path) =
            (self.file.clone(), self.set.clone(), self.include_path.clone());
        SweepRequest { file, overrides, include_path }
    }
}

/// Which devices run jobs.
const DEVICES_HELP: &str = "Devices to plan for: auto, cpu, cpu:N (N slots), cuda, or cuda:0,2; cuda works without a GPU [default: auto]";

#[derive(Debug, Args)]
pub(in crate::cli) struct PlanArguments {
    #[command(flatten)]
    pub(in crate::cli) sweep: SweepArguments,
    /// List every job, also when there are more than 40
    #[arg(long)]
    pub(in crate::cli) all: bool,
    #[arg(long, value_name = "DEVICES", help = DEVICES_HELP)]
    pub(in crate::cli) devices: Option<String>,
    /// Show every resolved key of one job with its source; takes an id, its start, or a label
    #[arg(long, value_name = "JOB")]
    pub(in crate::cli) explain: Option<String>,
    /// Maximum number of jobs that train together on one base model [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(in crate::cli) pack: Option<u64>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RunArguments {
    #[command(flatten)]
    pub(in crate::cli) sweep: SweepArguments,
    #[command(flatten)]
    pub(in crate::cli) working: WorkingArguments,
    #[command(flatten)]
    pub(in crate::cli) submitting: SubmittingArguments,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SubmitArguments {
    #[command(flatten)]
    pub(in crate::cli) sweep: SweepArguments,
    #[arg(long, value_name = "DEVICES", help = DEVICES_HELP)]
    pub(in crate::cli) devices: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) submitting: SubmittingArguments,
    /// Also send a batch script to Slurm whose job runs the queue, with the slurm section of the sweep file or loragrid.toml; with
    /// --dry-run, print it
    #[arg(long)]
    pub(in crate::cli) slurm: bool,
}

/// How a sweep is added to the queue.
#[derive(Debug, Args)]
pub(in crate::cli) struct SubmittingArguments {
    /// Priority of the sweep; higher runs first [default: 0, or what the sweep has]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(in crate::cli) priority: Option<i64>,
    /// Show the plan, and queue and run nothing
    #[arg(short = 'n', long)]
    pub(in crate::cli) dry_run: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WorkArguments {
    #[command(flatten)]
    pub(in crate::cli) working: WorkingArguments,
    /// Wait for more jobs when the queue is empty
    #[arg(long)]
    pub(in crate::cli) forever: bool,
}

/// Where and for how long jobs are run.
#[derive(Debug, Args)]
pub(in crate::cli) struct WorkingArguments {
    /// Devices to use: auto, cpu, cpu:N (N slots), cuda, or cuda:0,2 [default: auto]
    #[arg(long, value_name = "DEVICES")]
    pub(in crate::cli) devices: Option<String>,
    /// GPUs that train a job, or a pack of jobs, together: --devices cuda:0,1,2,3 --gpus-per-job 2 makes two slots [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(in crate::cli) gpus_per_job: Option<u64>,
    /// Stop at this time of day, such as 07:00; running jobs are requeued with their progress
    #[arg(long, value_name = "HH:MM")]
    pub(in crate::cli) until: Option<String>,
    /// Stop after this time, such as 8h, 90m or 45s
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) budget: Option<String>,
    /// Stop when this many jobs have failed or diverged
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) max_failures: Option<u64>,
    /// Maximum number of jobs that train together on one base model; with 1, results are bitwise reproducible [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(in crate::cli) pack: Option<u64>,
    /// Engine program [default: loragrid-engine beside this program, or in PATH]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) engine: Option<PathBuf>,
    /// Command that starts engines elsewhere, such as 'srun -N1 -n1 --gres=gpu:1 --exact'; the engine's own is appended to it
    #[arg(long, value_name = "COMMAND")]
    pub(in crate::cli) launcher: Option<String>,
    /// Number of engines that the launcher starts [default: SLURM_NTASKS, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub(in crate::cli) slots: Option<u64>,
}

impl WorkingArguments {
    /// What these arguments say of the configuration.
    pub(super) fn config(&self) -> ConfigFlags {
        let Self { devices, gpus_per_job, pack, engine, launcher, slots, .. } = self;
        ConfigFlags {
            db: None,
            results: None,
            artifacts: None,
            devices: devices.clone(),
            gpus_per_job: *gpus_per_job,
            pack: *pack,
            engine: engine.clone(),
            launcher: launcher.clone(),
            slots: *slots,
        }
    }
}
