//! The command line: the only room that prints or exits. One file per command.

mod arguments;
mod commands;
mod completion;
mod downloads;
mod environment;
mod exit_code;
mod failure;
mod notify;
mod output;
mod progress;
#[cfg(test)]
mod reference;
mod time;
mod watch;

mod work;

pub use exit_code::ExitCode;

use clap::FromArgMatches;

use crate::workspace::Workspace;
use arguments::{Arguments, Command, ModelCommand};
use environment::config_of;
use failure::Failure;
use output::set_mode;

/// Reads the arguments, runs the command, prints its error if it has one.
pub fn main() -> std::process::ExitCode {
    clap_complete::CompleteEnv::with_factory(arguments::command).complete();
    let parsed =
        arguments::command().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error).into(),
    };
    let global = &arguments.global;
    set_mode(global.json, global.quiet, global.color);
    start_log(global.verbose);
    match carry_out(&arguments) {
        Ok(code) => code.into(),
        Err(failure) => {
            failure.print();
            failure.code.into()
        }
    }
}

/// Prints what is wrong with the arguments. Help and version are "errors" that go to standard output; a closed pipe ends quietly.
fn refuse(error: &clap::Error) -> ExitCode {
    let asks_for_json = std::env::args().any(|argument| argument == "--json");
    if asks_for_json && error.use_stderr() {
        let text = error.render().to_string();
        let text = text.trim().strip_prefix("error: ").unwrap_or(&text);
        let message = text.split("\n\n").next().unwrap_or(text).to_owned();
        set_mode(true, false, arguments::ColorChoice::Never);
        Failure::new(ExitCode::Usage, message, "--help lists the options".to_owned()).print();
    } else {
        let _ = error.print();
    }
    if error.use_stderr() { ExitCode::Usage } else { ExitCode::Success }
}

/// Runs the command.
fn carry_out(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = config_of(arguments)?;
    let workspace = Workspace::new(&config);
    match &arguments.command {
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
        Command::Priority(command) => commands::control::priority(command, &workspace),
        Command::Undo(command) => commands::undo::run(command, &workspace),
        Command::Run(command) => commands::run::run(command, &workspace),
        Command::Top(command) => commands::top::run(command, &workspace),
        Command::Status(_) => commands::status::run(&workspace),
        Command::Show(command) => commands::show::run(command, &workspace),
        Command::Compare(command) => commands::compare::run(command, &workspace),
        Command::Effects(command) => commands::effects::run(command, &workspace),
        Command::Best(command) => commands::best::run(command, &workspace),
        Command::Findings(command) => commands::findings::run(command, &workspace),
        Command::Report(command) => commands::report::run(command, &workspace),
        Command::Serve(command) => commands::serve::run(command, workspace),
        Command::Export(command) => commands::export::run(command, &workspace),
        Command::Sync(_) => commands::sync::run(&workspace),
        Command::Query(command) => commands::query::run(command, &workspace),
        Command::Data(command) => commands::data::run(command, &workspace),
        Command::Eval(command) => commands::eval::run(command, &workspace),
        Command::Import(command) => commands::import::run(command, &workspace),
        Command::Task(command) => commands::task::run(command, &workspace),
        Command::Model(ModelCommand::Pull(command)) => commands::model::pull(command, &workspace),
        Command::Model(ModelCommand::Show(command)) => commands::model::show(command, &workspace),
        Command::Merge(command) | Command::Model(ModelCommand::Merge(command)) => {
            commands::merge::run(command, &workspace)
        }
        Command::Verify(command) | Command::Model(ModelCommand::Verify(command)) => {
            commands::verify::run(command, &workspace)
        }
        Command::Generate(command) | Command::Model(ModelCommand::Generate(command)) => {
            commands::generate::run(command, &workspace)
        }
        Command::Chat(command) | Command::Model(ModelCommand::Chat(command)) => {
            commands::chat::run(command, &workspace)
        }
        Command::Push(command) => commands::model::push(command, &workspace),
        Command::ServeModel(command) => commands::serve_model::run(command, &workspace),
        Command::Workers(_) => commands::workers::run(&workspace),
        Command::Watch(command) => watch::run(command, &workspace),
        Command::Wait(command) => commands::wait::run(command, &workspace),
        Command::Rm(command) => commands::rm::run(command, &workspace),
        Command::Config(_) => commands::config::run(&config),
        Command::Init(command) => commands::init::run(command),
        Command::Keys(_) => commands::keys::run(),
        Command::Completions(command) => commands::completions::run(command),
        Command::Man(command) => commands::man::run(command),
    }
}

/// Log lines go to standard error: warnings, and more with -v or `LORAGRID_LOG=debug`.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("LORAGRID_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("{level},sqlx=error")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(output::is_colored(std::io::IsTerminal::is_terminal(&std::io::stderr())))
        .init();
}
