//! Arguments of the commands on training data, tasks and imports.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::SweepArguments;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DataCommand {
    /// Show rows, tokens and a histogram of lengths
    Stats(DataStatsArguments),
    /// Show the tokens of a row, and which ones the loss covers
    Show(DataShowArguments),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DataStatsArguments {
    #[command(flatten)]
    pub(in crate::cli) sweep: SweepArguments,
    /// Also write the histogram to a file
    #[arg(long, value_name = "FILE.svg")]
    pub(in crate::cli) svg: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DataShowArguments {
    #[command(flatten)]
    pub(in crate::cli) sweep: SweepArguments,
    /// Row, counted from 1
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) row: u64,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ImportCommand {
    /// Import the output of EleutherAI's lm_eval; documents too if it ran with --log_samples
    LmEval(ImportArguments),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArguments {
    /// Output folder of lm_eval, or one results_*.json
    #[arg(value_name = "DIR")]
    pub(in crate::cli) path: PathBuf,
    /// Sweep to import into [default: the last one submitted, or a new sweep `imported`]
    #[arg(long, value_name = "NAME", add = super::super::completion::sweeps())]
    pub(in crate::cli) sweep: Option<String>,
    /// Label of the row, for a single file [default: names of model and adapter]
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) label: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TaskCommand {
    /// Count which tasks of a folder can run, and why the others cannot
    Check(TaskCheckArguments),
    /// List tasks, groups and tags
    List(TaskListArguments),
    /// Show the prompt, choices and answer of a task's document
    Show(TaskShowArguments),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TaskCheckArguments {
    /// Folder with task files
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) include_path: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TaskListArguments {
    /// Folder with more task files
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) include_path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TaskShowArguments {
    /// Task, or a task file
    pub(in crate::cli) name: String,
    /// Folder with task files, searched before the built-in tasks
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) include_path: Option<PathBuf>,
    /// Document, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) document: usize,
    /// Few-shot examples, unless the task fixes them at 0
    #[arg(long, value_name = "K")]
    pub(in crate::cli) num_fewshot: Option<u64>,
    /// Print the resolved task file as JSON
    #[arg(long)]
    pub(in crate::cli) file: bool,
}
