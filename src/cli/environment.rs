//! What the program takes from its surroundings, read once, and the runtime of a command.

use super::arguments::Arguments;
use super::failure::Failure;
use crate::workspace::Workspace;

/// The workspace that the arguments and the environment name.
pub(super) fn workspace_of(arguments: &Arguments) -> Workspace {
    let (devices, engine) = arguments.command.devices();
    Workspace::new(arguments.db.clone(), devices, engine)
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
