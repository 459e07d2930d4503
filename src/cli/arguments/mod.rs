//! Every command with its arguments. `docs/commands.md` is made from these definitions.

mod data;
mod groups;
mod models;
mod queue;
mod results;
mod servers;
mod sweeps;
mod tools;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(super) use data::*;
pub(super) use groups::command;
#[cfg(test)]
pub(super) use groups::groups;
pub(super) use models::*;
pub(super) use queue::*;
pub(super) use results::*;
pub(super) use servers::*;
pub(super) use sweeps::*;
pub(super) use tools::*;

use crate::workspace::ConfigFlags;

/// Run sweeps of LoRA finetunings, and find out which settings are better.
#[derive(Debug, Parser)]
#[command(name = "loragrid", version, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: GlobalArguments,
    /// The command
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalArguments {
    /// Results database: a file, or postgres://USER@HOST/NAME [default: results/loragrid.db]
    #[arg(long, global = true, value_name = "DATABASE")]
    pub(super) db: Option<PathBuf>,
    /// Folder of adapters and logs, for a PostgreSQL database [default: results]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(super) results: Option<PathBuf>,
    /// Object store instead of a shared folder, for a PostgreSQL database: s3://BUCKET/PREFIX
    #[arg(long, global = true, value_name = "URL")]
    pub(super) artifacts: Option<String>,
    /// Print JSON; errors too
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Print results, warnings and errors only
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Print more: -v what is done, -vv details
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Use color: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, global = true, value_enum, value_name = "WHEN", hide_possible_values = true, hide_default_value = true, default_value_t = ColorChoice::Auto)]
    pub(super) color: ColorChoice,
}

/// When output is colored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// The commands, in the order of their groups.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the jobs of a sweep with their parameters, memory, disk and time
    Plan(PlanArguments),
    /// Run a sweep and show its leaderboard
    Run(RunArguments),
    /// Add a sweep to the queue
    Submit(SubmitArguments),
    /// Run queued jobs of all sweeps
    ///
    /// Several workers can share one database: a file on one machine, or PostgreSQL on any number of them.
    Work(WorkArguments),
    /// List sweeps with their jobs by state
    Status(StatusArguments),
    /// List workers with their devices and jobs
    Workers(WorkersArguments),
    /// Watch a sweep in the terminal while it runs
    ///
    /// Slots, loss curves, leaderboard, what waits and why, logs; keys pause, cancel and retry jobs. Quitting leaves the run alone.
    Watch(WatchArguments),
    /// Wait until a sweep has ended
    Wait(WaitArguments),
    /// Pause a sweep or a job; progress is kept
    Pause(ControlArguments),
    /// Resume paused jobs
    Resume(ControlArguments),
    /// Cancel a sweep or a job
    Cancel(ControlArguments),
    /// Requeue jobs that failed, diverged or were cancelled
    Retry(RetryArguments),
    /// Change the priority of a sweep's waiting jobs
    Priority(PriorityArguments),
    /// Undo the last pause, resume, cancel, retry or change of priority; list what was done by whom
    Undo(UndoArguments),
    /// Queue a job again with some keys changed, as a sweep of its own
    Clone(CloneArguments),
    /// Explain a job's state and list its attempts
    Explain(ExplainArguments),
    /// Print the log of a job's attempt
    Logs(LogsArguments),
    /// Remove a sweep from the database
    Rm(RmArguments),
    /// Show the leaderboard of one or more sweeps
    #[command(visible_alias = "leaderboard")]
    Top(TopArguments),
    /// Show a job: configuration, training, scores, samples
    Show(ShowArguments),
    /// Test whether one job beats another, paired by document
    Compare(CompareArguments),
    /// Show the winner of a sweep, or run its held-out evaluation
    Best(BestArguments),
    /// Show how much each axis of a sweep matters
    Effects(EffectsArguments),
    /// Check claims about sweeps against the results
    Findings(FindingsArguments),
    /// Write a report with tables and charts as HTML, Markdown or LaTeX
    Report(ReportArguments),
    /// Serve the results as pages, with the queue's controls
    Serve(ServeArguments),
    /// Export runs, scores, curves or documents as CSV, JSON, Parquet, …
    Export(ExportArguments),
    /// Run a read-only SQL query over the results
    Query(QueryArguments),
    /// Copy new results from a PostgreSQL database to this machine
    ///
    /// Every command that reads results does so too; this one does nothing else.
    Sync(SyncArguments),
    /// Show the versions of a sweep
    #[command(subcommand)]
    Sweep(SweepCommand),
    /// Import results of other programs
    #[command(subcommand)]
    Import(ImportCommand),
    /// Download, show, merge, compare and try models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Inspect training data
    #[command(subcommand)]
    Data(DataCommand),
    /// List, show and check evaluation tasks
    #[command(subcommand)]
    Task(TaskCommand),
    /// Score a model, or adapters of it, on tasks as lm_eval does
    Eval(EvalArguments),
    /// Merge an adapter into its base model
    Merge(MergeArguments),
    /// Compare the logits of two models
    Verify(VerifyArguments),
    /// Generate text from a prompt
    Generate(GenerateArguments),
    /// Chat with a model, with or without an adapter
    Chat(ChatArguments),
    /// Upload a folder to a Hugging Face Hub
    Push(PushArguments),
    /// Serve a model and its adapters with OpenAI's API
    ServeModel(ServeModelArguments),
    /// Write a commented sweep file
    Init(InitArguments),
    /// List the keys of a sweep file
    Keys(KeysArguments),
    /// Show the configuration and where each value comes from
    Config(ConfigArguments),
    /// Check engine, devices, database, disk and memory
    Doctor(DoctorArguments),
    /// Delete checkpoints, adapters and cached files that no job needs
    Gc(GcArguments),
    /// Maintain the database file
    #[command(subcommand)]
    Db(DbCommand),
    /// Print shell completions
    Completions(CompletionsArguments),
    /// Write man pages
    Man(ManArguments),
}

impl Arguments {
    /// What the command line says of the configuration.
    pub(super) fn config_flags(&self) -> ConfigFlags {
        let none = ConfigFlags::default;
        let of_engine = |engine: &Option<PathBuf>| ConfigFlags { engine: engine.clone(), ..none() };
        let flags = match &self.command {
            Command::Plan(command) => {
                ConfigFlags { devices: command.devices.clone(), pack: command.pack, ..none() }
            }
            Command::Submit(command) => ConfigFlags { devices: command.devices.clone(), ..none() },
            Command::Run(command) => command.working.config(),
            Command::Work(command) => command.working.config(),
            Command::Best(command) => command.working.config(),
            Command::Doctor(command) => of_engine(&command.engine),
            Command::Eval(command) => of_engine(&command.load.engine),
            Command::Merge(command) | Command::Model(ModelCommand::Merge(command)) => {
                of_engine(&command.load.engine)
            }
            Command::Verify(command) | Command::Model(ModelCommand::Verify(command)) => {
                of_engine(&command.load.engine)
            }
            Command::Generate(command) | Command::Model(ModelCommand::Generate(command)) => {
                of_engine(&command.load.engine)
            }
            Command::Chat(command) | Command::Model(ModelCommand::Chat(command)) => {
                of_engine(&command.load.engine)
            }
            Command::ServeModel(command) => of_engine(&command.load.engine),
            Command::Status(_)
            | Command::Workers(_)
            | Command::Wait(_)
            | Command::Watch(_)
            | Command::Pause(_)
            | Command::Resume(_)
            | Command::Cancel(_)
            | Command::Retry(_)
            | Command::Priority(_)
            | Command::Undo(_)
            | Command::Clone(_)
            | Command::Explain(_)
            | Command::Logs(_)
            | Command::Rm(_)
            | Command::Top(_)
            | Command::Show(_)
            | Command::Compare(_)
            | Command::Effects(_)
            | Command::Findings(_)
            | Command::Report(_)
            | Command::Serve(_)
            | Command::Export(_)
            | Command::Push(_)
            | Command::Query(_)
            | Command::Sync(_)
            | Command::Sweep(_)
            | Command::Import(_)
            | Command::Model(ModelCommand::Pull(_) | ModelCommand::Show(_))
            | Command::Data(_)
            | Command::Task(_)
            | Command::Init(_)
            | Command::Keys(_)
            | Command::Config(_)
            | Command::Gc(_)
            | Command::Db(_)
            | Command::Completions(_)
            | Command::Man(_) => none(),
        };
        ConfigFlags {
            db: self.global.db.clone(),
            results: self.global.results.clone(),
            artifacts: self.global.artifacts.clone(),
            ..flags
        }
    }
}

/// A number of at least 1.
fn positive(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| "expected a whole number of at least 1".to_owned())
}

/// `KEY=VALUE`.
fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}
