//! The command line: the only room that prints or exits. One file per command.

mod arguments;
mod commands;
mod data_sets;
mod environment;
mod exit_code;
mod failure;
mod job_names;
mod model_arguments;
mod models;
mod notify;
mod output;
mod progress;
mod queue_arguments;
mod replan;
mod result_arguments;
mod session;
mod work;

pub use exit_code::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use environment::Environment;

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
    let environment = Environment::read(&arguments);
    let json = arguments.command.json();
    let result = match &arguments.command {
        Command::Plan(command) => commands::plan::run(command, &environment),
        Command::Submit(command) => commands::submit::run(command, &environment),
        Command::Work(command) => commands::work::run(command, &environment),
        Command::Pause(command) => commands::control::pause(command, &environment),
        Command::Resume(command) => commands::control::resume(command, &environment),
        Command::Cancel(command) => commands::control::cancel(command, &environment),
        Command::Logs(command) => commands::logs::run(command, &environment),
        Command::Explain(command) => commands::explain::run(command, &environment),
        Command::Sweep(command) => commands::sweep::run(command, &environment),
        Command::Gc(command) => commands::gc::run(command, &environment),
        Command::Db(command) => commands::db::run(command, &environment),
        Command::Doctor(command) => commands::doctor::run(command, &environment),
        Command::Clone(command) => commands::clone::run(command, &environment),
        Command::Retry(command) => commands::control::retry(command, &environment),
        Command::Run(command) => commands::run::run(command, &environment),
        Command::Top(command) => commands::top::run(command, &environment),
        Command::Status(command) => commands::status::run(command, &environment),
        Command::Show(command) => commands::show::run(command, &environment),
        Command::Compare(command) => commands::compare::run(command, &environment),
        Command::Effects(command) => commands::effects::run(command, &environment),
        Command::Best(command) => commands::best::run(command, &environment),
        Command::Findings(command) => commands::findings::run(command, &environment),
        Command::Report(command) => commands::report::run(command, &environment),
        Command::Export(command) => commands::export::run(command, &environment),
        Command::Query(command) => commands::query::run(command, &environment),
        Command::Data(command) => commands::data::run(command, &environment),
        Command::Eval(command) => commands::eval::run(command, &environment),
        Command::Import(command) => commands::import::run(command, &environment),
        Command::Task(command) => commands::task::run(command, &environment),
        Command::Model(command) => commands::model::run(command, &environment),
        Command::Merge(command) => commands::merge::run(command, &environment),
        Command::Verify(command) => commands::verify::run(command, &environment),
        Command::Generate(command) => commands::generate::run(command, &environment),
        Command::Chat(command) => commands::chat::run(command, &environment),
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
