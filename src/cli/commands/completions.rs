//! `loragrid completions`

use clap::CommandFactory;

use crate::cli::ExitCode;
use crate::cli::arguments::{Arguments, CompletionsArguments};
use crate::cli::failure::Failure;
use crate::cli::output::write_line;

pub(in crate::cli) fn run(arguments: &CompletionsArguments) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "loragrid", &mut script);
    write_line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::Success)
}
