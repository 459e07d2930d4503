//! Every flag, once.

use std::path::PathBuf;

pub(super) use super::model_arguments::*;

use super::queue_arguments::{
    CloneArguments, ControlArguments, DbCommand, DoctorArguments, ExplainArguments, GcArguments,
    LogsArguments, RetryArguments, SubmitArguments, SweepCommand, WorkArguments,
};
pub(super) use super::result_arguments::*;
use super::work::WorkingArguments;
use crate::scheduler::PACK_MOST;
use crate::workspace::SweepRequest;
use clap::{Args, Parser, Subcommand};

/// Run a sweep of LoRA finetunings as one program.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "A first sweep:\n  loragrid init                          a commented sweep file\n  loragrid plan sweeps/quickstart.toml   what would run; nothing does\n  loragrid run  sweeps/quickstart.toml   run it; ends with the leaderboard\n  loragrid top                           the leaderboard again\n  loragrid report -o report.html         tables and charts, to show\n\nExit codes: 0 done, 1 internal error, 2 wrong usage, 3 sweep file, 4 model, 5 data, 6 task,\n7 no engine, 8 some jobs failed, 9 database, 10 not found, 11 engine, 12 models apart, 13 disk full, 14 jobs left that cannot run here, 130 stopped by the user."
)]
pub(super) struct Arguments {
    /// The results database
    #[arg(
        long,
        global = true,
        env = "LORAGRID_DB",
        value_name = "FILE",
        default_value = DATABASE
    )]
    pub(super) db: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show every job of a sweep with its parameters, memory, disk and time; nothing runs
    Plan(PlanArguments),
    /// Plan a sweep, run what is missing, end with the leaderboard
    Run(RunArguments),
    /// Plan a sweep and queue what is missing
    Submit(SubmitArguments),
    /// Run what is queued, of every sweep, beside any other workers
    Work(WorkArguments),
    /// Hold back the jobs of a sweep, or one job; what they have done stays
    Pause(ControlArguments),
    /// Let paused jobs go on
    Resume(ControlArguments),
    /// Give up jobs for good
    Cancel(ControlArguments),
    /// Queue jobs again that failed, diverged or were cancelled
    Retry(RetryArguments),
    /// Queue a job again with some keys changed, as a sweep of its own
    Clone(CloneArguments),
    /// Print the log of a job's attempt
    Logs(LogsArguments),
    /// Say why a job stands where it does, and every attempt at it
    Explain(ExplainArguments),
    /// Look at the versions of a sweep
    #[command(subcommand)]
    Sweep(SweepCommand),
    /// Remove checkpoints and adapters that no job needs
    Gc(GcArguments),
    /// Look after the database file
    #[command(subcommand)]
    Db(DbCommand),
    /// Check what a night needs: engine, database, disk, memory
    Doctor(DoctorArguments),
    /// Show the leaderboard of a sweep
    Top(TopArguments),
    /// Show where every sweep stands
    Status(StatusArguments),
    /// Show one job: every resolved key with where it came from, its training and its scores
    Show(ShowArguments),
    /// Say whether one job is really better than another, by what both said of the same documents
    Compare(CompareArguments),
    /// Name the winner by the objective and what to do with it; --final scores the tasks that were kept for it
    Best(BestArguments),
    /// Say which axis of a sweep mattered, and its best setting
    Effects(EffectsArguments),
    /// Say which claims of a file the results confirm or refute, and which they leave open
    Findings(FindingsArguments),
    /// Write a report with tables and charts: a page, Markdown or LaTeX
    Report(ReportArguments),
    /// Write runs, scores, curves or documents for other programs: CSV, JSON, Parquet, Markdown, LaTeX, lm_eval's files
    Export(ExportArguments),
    /// Answer one SELECT over the results
    Query(QueryArguments),
    /// Look at training data: lengths, or the tokens and labels of a row
    #[command(subcommand)]
    Data(DataCommand),
    /// Score a model, or adapters of it, on tasks, as lm_eval would
    Eval(EvalArguments),
    /// Put results of other programs into a leaderboard
    #[command(subcommand)]
    Import(ImportCommand),
    /// Look at task files
    #[command(subcommand)]
    Task(TaskCommand),
    /// Bring a model from a hub, or look at one
    #[command(subcommand)]
    Model(ModelCommand),
    /// Write a model with an adapter added to its weights, as a Hugging Face folder
    Merge(MergeArguments),
    /// Compare what two models say of the same texts; fails over a bound
    Verify(VerifyArguments),
    /// Continue one prompt
    Generate(GenerateArguments),
    /// Talk with a model, with or without an adapter
    Chat(ChatArguments),
    /// Write a commented sweep file to start from
    Init(InitArguments),
    /// List every key of a sweep file with its range and default
    Keys(KeysArguments),
    /// Print completions for a shell
    Completions(CompletionsArguments),
    /// Write man pages into a folder
    Man(ManArguments),
}

impl Command {
    /// The devices that run what the command plans, and the engine, if it is named.
    pub(super) fn devices(&self) -> (&str, Option<PathBuf>) {
        match self {
            Self::Plan(command) => (&command.devices, None),
            Self::Submit(command) => (&command.devices, None),
            Self::Run(command) => (&command.working.devices, command.working.engine.clone()),
            Self::Work(command) => (&command.working.devices, command.working.engine.clone()),
            Self::Best(command) => (&command.working.devices, command.working.engine.clone()),
            _ => ("auto", None),
        }
    }

    /// Whether output and errors are JSON.
    pub(super) fn json(&self) -> bool {
        match self {
            Self::Plan(command) => command.json,
            Self::Run(command) => command.json,
            Self::Submit(command) => command.json,
            Self::Work(_) | Self::Logs(_) => false,
            Self::Pause(command) | Self::Resume(command) | Self::Cancel(command) => command.json,
            Self::Retry(command) => command.json,
            Self::Clone(command) => command.json,
            Self::Explain(command) => command.json,
            Self::Sweep(SweepCommand::History(command)) => command.json,
            Self::Gc(command) => command.json,
            Self::Db(DbCommand::Upgrade(command)) => command.json,
            Self::Doctor(command) => command.json,
            Self::Top(command) => command.json,
            Self::Status(command) => command.json,
            Self::Show(command) => command.json,
            Self::Compare(command) => command.json,
            Self::Effects(command) => command.json,
            Self::Best(command) => command.json,
            Self::Findings(command) => command.json,
            Self::Export(_) | Self::Report(_) => false,
            Self::Query(command) => command.json,
            Self::Data(DataCommand::Stats(command)) => command.json,
            Self::Data(DataCommand::Show(command)) => command.json,
            Self::Keys(command) => command.json,
            Self::Eval(command) => command.json,
            Self::Task(TaskCommand::Check(command)) => command.json,
            Self::Import(ImportCommand::LmEval(command)) => command.json,
            Self::Task(TaskCommand::List(command)) => command.json,
            Self::Task(TaskCommand::Show(command)) => command.json,
            Self::Model(ModelCommand::Pull(command)) => command.json,
            Self::Model(ModelCommand::Show(command)) => command.json,
            Self::Merge(command) => command.json,
            Self::Verify(command) => command.json,
            Self::Generate(command) => command.json,
            Self::Chat(_) | Self::Init(_) | Self::Completions(_) | Self::Man(_) => false,
        }
    }
}

/// The database where none is named.
pub(super) const DATABASE: &str = "results/loragrid.db";

/// A sweep file with overrides.
#[derive(Debug, Args)]
pub(super) struct SweepArguments {
    /// The sweep file, or - for standard input
    #[arg(value_name = "SWEEP.toml")]
    pub(super) file: PathBuf,
    /// Override a key for every job, such as train.iterations=64; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(super) set: Vec<(String, String)>,
    /// A folder of task files, which come before those that are shipped
    #[arg(long, value_name = "DIR")]
    pub(super) include_path: Option<PathBuf>,
}

impl SweepArguments {
    /// The sweep that they name.
    pub(super) fn request(&self) -> SweepRequest {
        let (file, overrides, include_path) =
            (self.file.clone(), self.set.clone(), self.include_path.clone());
        SweepRequest { file, overrides, include_path }
    }
}

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    #[command(flatten)]
    pub(super) sweep: SweepArguments,
    /// List every job, however many there are
    #[arg(long)]
    pub(super) all: bool,
    /// The devices that will run it, as for `run`; cuda also where no GPU is, as on a login node
    #[arg(long, value_name = "DEVICES", default_value = "auto")]
    pub(super) devices: String,
    /// Print each resolved key of one job with where it came from; an id, its start, or a label
    #[arg(long, value_name = "JOB")]
    pub(super) explain: Option<String>,
    /// Most jobs that share passes over one base
    #[arg(long, env = "LORAGRID_PACK", hide_env_values = true, value_name = "N", default_value_t = PACK_MOST as u64, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(super) pack: u64,
    /// Print one JSON object with the jobs in `jobs`
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) sweep: SweepArguments,
    #[command(flatten)]
    pub(super) working: WorkingArguments,
    /// End with one JSON object with the leaderboard in `rows`
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// Print one JSON object with the sweeps in `sweeps`
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum DataCommand {
    /// Rows, tokens, and a histogram of lengths
    Stats(DataStatsArguments),
    /// The tokens of a row with what the loss scores
    Show(DataShowArguments),
}

#[derive(Debug, Args)]
pub(super) struct DataStatsArguments {
    #[command(flatten)]
    pub(super) sweep: SweepArguments,
    /// Also draw the histogram into a file
    #[arg(long, value_name = "FILE.svg")]
    pub(super) svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DataShowArguments {
    #[command(flatten)]
    pub(super) sweep: SweepArguments,
    /// The row, counted from 1
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) row: u64,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// What EleutherAI's lm_eval wrote with --output_path; with --log_samples also its documents
    LmEval(ImportArguments),
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// The folder, or one results_*.json
    #[arg(value_name = "DIR")]
    pub(super) path: PathBuf,
    /// The sweep [default: the last one that was submitted; a sweep `imported` where there is none]
    #[arg(long, value_name = "NAME")]
    pub(super) sweep: Option<String>,
    /// The row's name, for a single file [default: the model's name and the adapter's]
    #[arg(long, value_name = "TEXT")]
    pub(super) label: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum TaskCommand {
    /// Count which tasks of a folder are understood, and why the others are refused
    Check(TaskCheckArguments),
    /// List tasks, groups and tags by name
    List(TaskListArguments),
    /// Show what a task asks: its first prompt, the choices and the right answer
    Show(TaskShowArguments),
}

#[derive(Debug, Args)]
pub(super) struct TaskCheckArguments {
    /// The folder of task files
    #[arg(long, value_name = "DIR")]
    pub(super) include_path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TaskListArguments {
    /// Also the tasks of this folder
    #[arg(long, value_name = "DIR")]
    pub(super) include_path: Option<PathBuf>,
    /// Print one JSON object with the tasks in `tasks`
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TaskShowArguments {
    /// The task, or its file
    pub(super) name: String,
    /// A folder of task files, which come before those that are shipped
    #[arg(long, value_name = "DIR")]
    pub(super) include_path: Option<PathBuf>,
    /// The document, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) document: usize,
    /// Examples before the document, where the task does not say 0
    #[arg(long, value_name = "K")]
    pub(super) num_fewshot: Option<u64>,
    /// Print the task's file as JSON, with what it includes
    #[arg(long)]
    pub(super) file: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// The file to write; one that is there is left alone
    #[arg(value_name = "SWEEP.toml", default_value = "sweep.toml")]
    pub(super) file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell
    pub(super) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// The folder
    pub(super) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct KeysArguments {
    /// Print one JSON object with the keys in `keys`
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Arguments::command().debug_assert();
    }
}
