//! `loragrid man`

use clap::CommandFactory;

use crate::cli::ExitCode;
use crate::cli::arguments::{Arguments, ManArguments};
use crate::cli::failure::Failure;
use crate::cli::output::write_error;

pub(in crate::cli) fn run(arguments: &ManArguments) -> Result<ExitCode, Failure> {
    let folder = &arguments.folder;
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command().name("loragrid"), folder));
    written.map_err(|error| {
        Failure::new(ExitCode::Internal, format!("{} cannot be written: {error}", folder.display()), None)
    })?;
    write_error(&format!("wrote man pages to {}; read them with `man -l`", folder.display()));
    Ok(ExitCode::Success)
}
