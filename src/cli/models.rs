//! Models that a command names: on this machine, or brought from a hub.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::environment::Environment;
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::output::write_error;
use crate::hub::{Pulled, RepositoryId};

/// The path of a model: as it is named, in the cache, or pulled now. Errors: neither path nor id, the hub's.
pub(super) fn local_model(name: &str, environment: &Environment) -> Result<PathBuf, Failure> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_owned());
    }
    let id = repository_id(name)?;
    match environment.hub.cache.find(&id) {
        Some(folder) => Ok(folder),
        None => Ok(pull(&id, environment)?.folder),
    }
}

/// Parses an id. Error: it is none.
pub(super) fn repository_id(name: &str) -> Result<RepositoryId, Failure> {
    RepositoryId::parse(name).ok_or_else(|| {
        let help = "name a .gguf file, a checkpoint folder, or a hub id such as HuggingFaceTB/SmolLM2-135M"
            .to_owned();
        Failure::new(ExitCode::Model, format!("there is no model at {name}"), help)
    })
}

/// Pulls a model and shows how far it is on standard error.
pub(super) fn pull(id: &RepositoryId, environment: &Environment) -> Result<Pulled, Failure> {
    write_error(&format!("{id} is no path here: pulling it from {}", environment.hub.endpoint));
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:24} {bytes} of {total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    let pulled = environment.hub.pull(id, |transfer| {
        bar.set_message(transfer.file.to_owned());
        bar.set_length(transfer.size.0);
        bar.set_position(transfer.done.0);
    });
    bar.finish_and_clear();
    Ok(pulled?)
}
