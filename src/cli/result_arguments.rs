//! Flags of the commands that read results.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args, Default)]
pub(super) struct TopArguments {
    /// The sweeps [default: the last one that was submitted]
    #[arg(value_name = "SWEEP")]
    pub(super) sweeps: Vec<String>,
    #[command(flatten)]
    pub(super) shown: ShownArguments,
    /// A table of two keys against each other, such as lora.rank lora.alpha
    #[arg(long, num_args = 2, value_names = ["ROWS", "COLUMNS"], conflicts_with_all = ["sort", "metrics", "columns", "group_by"])]
    pub(super) pivot: Vec<String>,
    /// The metric of --pivot, task or task:metric [default: the sweep's objective]
    #[arg(long, value_name = "METRIC", requires = "pivot")]
    pub(super) metric: Option<String>,
    /// Every row, and why jobs failed, diverged or count as not converged
    #[arg(long)]
    pub(super) all: bool,
    /// Most rows to show, the base model's among them [default: 40; all of them with --json]
    #[arg(long, value_name = "N", conflicts_with = "all", value_parser = positive)]
    pub(super) rows: Option<usize>,
    /// Print one JSON object with the rows in `rows`
    #[arg(long)]
    pub(super) json: bool,
}

/// What of a leaderboard is shown.
#[derive(Debug, Args, Default)]
pub(super) struct ShownArguments {
    /// Order of the rows: a task or task:metric (best first), loss, time, memory, trainable, or a key of the sweep file
    #[arg(long, value_name = "BY")]
    pub(super) sort: Option<String>,
    /// The metrics to show, task or task:metric, with commas [default: the first of each task]
    #[arg(long, value_name = "METRICS", value_delimiter = ',')]
    pub(super) metrics: Vec<String>,
    /// The other columns, with commas: difference, trainable, loss, time, memory, n, state, reason, jobs, or keys
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub(super) columns: Vec<String>,
    /// Only jobs in which this holds, on keys and scores, such as "lora.rank >= 64 && arc_easy > 0.4"
    #[arg(long = "where", value_name = "CONDITION")]
    pub(super) condition: Option<String>,
    /// One row for all jobs with the same values of these keys, with commas
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    pub(super) group_by: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// A job's id or its start, or its label as `top` prints it, such as 'r=16 lr=0.002' or SWEEP/base
    pub(super) job: String,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CompareArguments {
    /// A job's id or its start, or its label as `top` prints it, such as 'r=16 lr=0.002' or SWEEP/base
    pub(super) first: String,
    /// Another's
    pub(super) second: String,
    /// Show so many documents that only one of them has right, for each task, with what both said; and their samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) examples: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct EffectsArguments {
    /// The sweep [default: the last one submitted]
    pub(super) sweep: Option<String>,
    /// The task or task:metric to explain [default: the sweep's objective]
    #[arg(long, value_name = "METRIC")]
    pub(super) metric: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct FindingsArguments {
    /// A file of claims, such as sweeps/study/mini/findings.toml
    #[arg(value_name = "CLAIMS.toml")]
    pub(super) file: PathBuf,
    /// Print one JSON object with the claims in `findings`
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct BestArguments {
    /// The sweep [default: the last one submitted]
    pub(super) sweep: Option<String>,
    /// Score the tasks of the section final with the winner and the base model, once
    #[arg(long = "final")]
    pub(super) final_tasks: bool,
    #[command(flatten)]
    pub(super) working: super::work::WorkingArguments,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ReportArguments {
    /// The sweeps, each with its own report in one document [default: the last one submitted]
    #[arg(value_name = "SWEEP")]
    pub(super) sweeps: Vec<String>,
    /// The file to write: .html, .md or .tex; charts of a .md go into a folder beside it [default: Markdown on standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// The syntax [default: what the file's name says]
    #[arg(long, value_enum)]
    pub(super) format: Option<ReportFormat>,
    /// Also say what became of the claims in this file
    #[arg(long, value_name = "CLAIMS.toml")]
    pub(super) findings: Option<PathBuf>,
    /// The document's title [default: the sweeps' names]
    #[arg(long, value_name = "TEXT")]
    pub(super) title: Option<String>,
}

/// Syntax of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ReportFormat {
    /// One self-contained page
    Html,
    /// For GitHub, with charts beside
    Markdown,
    /// For pdflatex, with booktabs and pgfplots
    Latex,
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// The sweep [default: the last one submitted]
    pub(super) sweep: Option<String>,
    /// What to export
    #[arg(long, value_enum, default_value_t = ExportWhat::Runs)]
    pub(super) what: ExportWhat,
    /// The syntax [default: what the file's name says]
    #[arg(long, value_enum)]
    pub(super) format: Option<ExportFormat>,
    /// The file to write; for lm-eval a folder [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

/// What an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ExportWhat {
    /// A row for each job: every key, what training took, every score
    Runs,
    /// A row for each score
    Scores,
    /// A row for each point of the loss curves
    Curves,
    /// A row for each document of each task
    Documents,
}

/// Syntax of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ExportFormat {
    /// Comma-separated, RFC 4180
    Csv,
    /// One JSON list of objects
    Json,
    /// One JSON object a line
    Jsonl,
    /// Apache Parquet
    Parquet,
    /// A Markdown table
    Markdown,
    /// A LaTeX table with booktabs
    Latex,
    /// A folder for each job with the files that lm_eval writes
    LmEval,
}

#[derive(Debug, Args)]
pub(super) struct QueryArguments {
    /// One SELECT over the views runs, scores, curves, documents, attempts and samples
    pub(super) sql: String,
    /// Print one JSON list of objects
    #[arg(long, conflicts_with = "csv")]
    pub(super) json: bool,
    /// Print CSV
    #[arg(long)]
    pub(super) csv: bool,
    /// Seconds after which it is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) timeout: u64,
}

/// A number from 1 on.
fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a whole number from 1 on".to_owned())
}
