//! What the program takes from its surroundings, read once, and the runtime of a command.

use super::arguments::Arguments;
use super::failure::Failure;
use crate::workspace::{Config, WorkspaceError};

/// The configuration that arguments, environment and files name. Error: a file or variable that is wrong.
pub(super) fn config_of(arguments: &Arguments) -> Result<Config, Failure> {
    let folder = std::env::current_dir()?;
    let variable = |name: &str| std::env::var(name).ok();
    Ok(Config::read(&arguments.config_flags(), &folder, &variable).map_err(WorkspaceError::from)?)
}

/// Runs the asynchronous part of a command on this thread. Signals and engines are heard on another, so that they are while
/// this one plans.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(super::ExitCode::Internal, format!("the runtime does not start: {error}"), None)
    })?;
    runtime.block_on(future)
}
