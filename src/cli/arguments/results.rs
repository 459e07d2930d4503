//! Arguments of the commands that read results.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{WorkingArguments, positive};

/// What names a job where results are read.
const JOB_OR_ROW_HELP: &str = "Job: a row number of the last leaderboard, an id or its start, a label such as 'r=16 lr=0.002', or SWEEP/LABEL";

#[derive(Debug, Args, Default)]
pub(in crate::cli) struct TopArguments {
    /// Sweeps [default: the last one submitted]
    #[arg(value_name = "SWEEP", add = super::super::completion::sweeps())]
    pub(in crate::cli) sweeps: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) shown: ShownArguments,
    /// Table of two keys against each other, such as lora.rank lora.alpha
    #[arg(long, num_args = 2, value_names = ["ROWS", "COLUMNS"], conflicts_with_all = ["sort", "metrics", "columns", "group_by"])]
    pub(in crate::cli) pivot: Vec<String>,
    /// Metric of --pivot, as task or task:metric [default: the sweep's objective]
    #[arg(long, value_name = "METRIC", requires = "pivot")]
    pub(in crate::cli) metric: Option<String>,
    /// Show every row, and why jobs failed, diverged or did not converge
    #[arg(long)]
    pub(in crate::cli) all: bool,
    /// Maximum number of rows [default: 40; all with --json]
    #[arg(short = 'r', long, value_name = "N", conflicts_with = "all", value_parser = positive)]
    pub(in crate::cli) rows: Option<usize>,
}

/// What of a leaderboard is shown.
#[derive(Debug, Args, Clone, Default)]
pub(in crate::cli) struct ShownArguments {
    /// Sort by a task or task:metric (best first), loss, time, memory, trainable, or a key
    #[arg(long, value_name = "BY")]
    pub(in crate::cli) sort: Option<String>,
    /// Metrics to show, as task or task:metric, comma-separated [default: the first of each task]
    #[arg(long, value_name = "METRICS", value_delimiter = ',')]
    pub(in crate::cli) metrics: Vec<String>,
    /// Other columns, comma-separated: difference, trainable, loss, time, memory, n, state, reason, jobs, or keys
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub(in crate::cli) columns: Vec<String>,
    /// Only jobs that meet a condition on keys and scores, such as "lora.rank >= 64 && arc_easy > 0.4"
    #[arg(long = "where", value_name = "CONDITION")]
    pub(in crate::cli) condition: Option<String>,
    /// One row for all jobs with equal values of these keys, comma-separated
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub(in crate::cli) group_by: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArguments {
    #[arg(help = JOB_OR_ROW_HELP, add = super::super::completion::jobs())]
    pub(in crate::cli) job: String,
    /// Show documents of a task: prompt, target, and what the model answered
    #[arg(long, value_name = "TASK")]
    pub(in crate::cli) examples: Option<String>,
    /// How many documents --examples shows
    #[arg(short = 'N', long, value_name = "N", default_value_t = 3)]
    pub(in crate::cli) count: usize,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CompareArguments {
    #[arg(help = JOB_OR_ROW_HELP, add = super::super::completion::jobs())]
    pub(in crate::cli) first: String,
    /// The other job
    #[arg(add = super::super::completion::jobs())]
    pub(in crate::cli) second: String,
    /// Show N documents of each task that only one of them answers correctly, and their samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(in crate::cli) examples: usize,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct EffectsArguments {
    /// Sweep [default: the last one submitted]
    #[arg(add = super::super::completion::sweeps())]
    pub(in crate::cli) sweep: Option<String>,
    /// Task or task:metric to explain [default: the sweep's objective]
    #[arg(long, value_name = "METRIC")]
    pub(in crate::cli) metric: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct FindingsArguments {
    /// File with claims, such as sweeps/study/mini/findings.toml
    #[arg(value_name = "CLAIMS.toml")]
    pub(in crate::cli) file: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BestArguments {
    /// Sweep [default: the last one submitted]
    #[arg(add = super::super::completion::sweeps())]
    pub(in crate::cli) sweep: Option<String>,
    // The section's brackets would be a link in a doc comment.
    #[arg(long = "final", help = "Score the winner and the base model on the held-out tasks of [final]")]
    pub(in crate::cli) final_tasks: bool,
    /// Write the winner for use elsewhere, with a model card: peft, gguf (llama.cpp, with an Ollama Modelfile) or merged
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        requires = "out",
        conflicts_with = "final_tasks",
        hide_possible_values = true
    )]
    pub(in crate::cli) export: Option<WinnerFormat>,
    /// Folder to write
    #[arg(long, value_name = "FOLDER", requires = "export")]
    pub(in crate::cli) out: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) working: WorkingArguments,
}

/// What `best --export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum WinnerFormat {
    Peft,
    Gguf,
    Merged,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ReportArguments {
    /// Sweeps [default: the last one submitted]
    #[arg(value_name = "SWEEP", add = super::super::completion::sweeps())]
    pub(in crate::cli) sweeps: Vec<String>,
    /// File to write: .html, .md (charts in a folder beside it) or .tex [default: Markdown on standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// Format [default: by the file's extension]
    #[arg(long, value_enum)]
    pub(in crate::cli) format: Option<ReportFormat>,
    /// Also check the claims of this file
    #[arg(long, value_name = "CLAIMS.toml")]
    pub(in crate::cli) findings: Option<PathBuf>,
    /// Title [default: the sweeps' names]
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) title: Option<String>,
}

/// Formats of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum ReportFormat {
    /// One self-contained page
    Html,
    /// GitHub Markdown with SVG charts
    Markdown,
    /// LaTeX with booktabs and pgfplots
    Latex,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArguments {
    /// Sweep [default: the last one submitted]
    #[arg(add = super::super::completion::sweeps())]
    pub(in crate::cli) sweep: Option<String>,
    /// What to export
    #[arg(long, value_enum, default_value_t = ExportWhat::Runs)]
    pub(in crate::cli) what: ExportWhat,
    /// Format [default: by the file's extension]
    #[arg(long, value_enum)]
    pub(in crate::cli) format: Option<ExportFormat>,
    /// File to write; a folder for lm-eval and tensorboard [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// Send to a tracker instead: mlflow, tensorboard or trackio; only what it has not received yet
    #[arg(long, value_enum, value_name = "TRACKER", conflicts_with_all = ["what", "format"], hide_possible_values = true)]
    pub(in crate::cli) to: Option<TrackerKind>,
    /// MLflow server [default: MLFLOW_TRACKING_URI, else that of the sweep file]
    #[arg(long, value_name = "URI", requires = "to")]
    pub(in crate::cli) uri: Option<String>,
    /// Trackio project [default: the sweep's name]
    #[arg(long, value_name = "NAME", requires = "to")]
    pub(in crate::cli) project: Option<String>,
    /// Tell it everything again
    #[arg(long, requires = "to")]
    pub(in crate::cli) again: bool,
}

/// Trackers outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum TrackerKind {
    Mlflow,
    Tensorboard,
    Trackio,
}

/// What an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum ExportWhat {
    /// One row per job: every key, training statistics, every score
    Runs,
    /// One row per score
    Scores,
    /// One row per point of the loss curves
    Curves,
    /// One row per document of each task
    Documents,
}

/// Formats of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum ExportFormat {
    /// Comma-separated, RFC 4180
    Csv,
    /// A JSON array of objects
    Json,
    /// One JSON object per line
    Jsonl,
    /// Apache Parquet
    Parquet,
    /// A Markdown table
    Markdown,
    /// A LaTeX table with booktabs
    Latex,
    /// A folder per job with files as lm_eval writes them
    LmEval,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct QueryArguments {
    /// SELECT over the views runs, scores, curves, documents, attempts and samples
    pub(in crate::cli) sql: String,
    /// Print CSV
    #[arg(long)]
    pub(in crate::cli) csv: bool,
    /// Time limit in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SweepCommand {
    /// List the versions of a sweep with the jobs that each added and dropped
    History(HistoryArguments),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct HistoryArguments {
    /// Sweep
    #[arg(add = super::super::completion::sweeps())]
    pub(in crate::cli) name: String,
}
