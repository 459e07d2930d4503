//! The command line: the only room that prints or exits. One file per command.

mod arguments;
mod commands;
mod downloads;
mod environment;
mod exit_code;
mod failure;
mod model_arguments;
mod notify;
mod output;
mod progress;
mod queue_arguments;
mod result_arguments;
mod work;

pub use exit_code::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use environment::workspace_of;

/// Reads the arguments, runs the command, prints its error if it has one.
pub fn main() -> std::process::ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are "errors" that go to standard output; a closed pipe ends quietly.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::Usage } else { ExitCode::Success }.into();
        }
    };
    start_log();
    let workspace = workspace_of(&arguments);
    let json = arguments.command.json();
    let result = match &arguments.command {
        Command::Plan(command) => commands::plan::run(command, &workspace),
        Command::Submit(command) => commands::submit::run(command, &workspace),
        Command::Work(command) => commands::work::run(command, &workspace),
        Command::Pause(command) => commands::control::pause(command, &workspace),
        Command::Resume(command) => commands::control::resume(command, &workspace),
        Command::Cancel(command) => commands::control::cancel(command, &workspace),
        Command::Logs(command) => commands::logs::run(command, &workspace),
        Command::Explain(command) => commands::explain::run(command, &workspace),
        Command::Sweep(command) => commands::sweep::run(command, &workspace),
        Command::Gc(command) => commands::gc::run(command, &workspace),
        Command::Db(command) => commands::db::run(command, &workspace),
        Command::Doctor(command) => commands::doctor::run(command, &workspace),
        Command::Clone(command) => commands::clone::run(command, &workspace),
        Command::Retry(command) => commands::control::retry(command, &workspace),
        Command::Run(command) => commands::run::run(command, &workspace),
        Command::Top(command) => commands::top::run(command, &workspace),
        Command::Status(command) => commands::status::run(command, &workspace),
        Command::Show(command) => commands::show::run(command, &workspace),
        Command::Compare(command) => commands::compare::run(command, &workspace),
        Command::Effects(command) => commands::effects::run(command, &workspace),
        Command::Best(command) => commands::best::run(command, &workspace),
        Command::Findings(command) => commands::findings::run(command, &workspace),
        Command::Report(command) => commands::report::run(command, &workspace),
        Command::Export(command) => commands::export::run(command, &workspace),
        Command::Query(command) => commands::query::run(command, &workspace),
        Command::Data(command) => commands::data::run(command, &workspace),
        Command::Eval(command) => commands::eval::run(command, &workspace),
        Command::Import(command) => commands::import::run(command, &workspace),
        Command::Task(command) => commands::task::run(command, &workspace),
        Command::Model(command) => commands::model::run(command, &workspace),
        Command::Merge(command) => commands::merge::run(command, &workspace),
        Command::Verify(command) => commands::verify::run(command, &workspace),
        Command::Generate(command) => commands::generate::run(command, &workspace),
        Command::Chat(command) => commands::chat::run(command, &workspace),
        Command::Init(command) => commands::init::run(command),
        Command::Keys(command) => commands::keys::run(command),
        Command::Completions(command) => commands::completions::run(command),
        Command::Man(command) => commands::man::run(command),
    };
    match result {
        Ok(code) => code.into(),
        Err(failure) => {
            failure.print(json);
            failure.code.into()
        }
    }
}

/// Warnings of the program's own rooms go to standard error; `LORAGRID_LOG=debug` shows more.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LORAGRID_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(
            std::env::var_os("NO_COLOR").is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr()),
        )
        .init();
}
