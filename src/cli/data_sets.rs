//! Data sets that tasks name: on this machine, or brought from the hub.

use indicatif::{ProgressBar, ProgressStyle};

use super::environment::Environment;
use super::exit_code::ExitCode;
use super::failure::Failure;
use super::output::write_error;
use crate::data::DataError;
use crate::hub::{HubError, Tables};
use crate::task::{Published, Task};

/// Brings the rows that tasks read and that are not here. Returns whether any were brought; offline none are. Errors: the
/// hub's.
pub(super) fn bring<'a>(
    tasks: impl Iterator<Item = &'a Task>,
    environment: &Environment,
) -> Result<bool, Failure> {
    let mut brought = false;
    let mut asked: Vec<&Published> = Vec::new();
    for rows in tasks.flat_map(Task::sources).filter(|rows| rows.here.is_none()) {
        if environment.hub.offline || asked.contains(&rows) {
            continue;
        }
        asked.push(rows);
        brought |= bring_rows(rows, environment)?;
    }
    Ok(brought)
}

fn bring_rows(rows: &Published, environment: &Environment) -> Result<bool, Failure> {
    let Some((id, file)) = rows.place().repository() else { return Ok(false) };
    write_error(&format!(
        "the rows of {} are not here: bringing them from {}",
        rows.name(),
        environment.hub.endpoint
    ));
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:24} {bytes} of {total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    let tables = match &file {
        Some(file) => Tables::File(file),
        None => Tables::Split { config: rows.config.as_deref(), split: &rows.split },
    };
    let pulled = environment.hub.pull_tables(&id, tables, |transfer| {
        bar.set_message(transfer.file.to_owned());
        bar.set_length(transfer.size.0);
        bar.set_position(transfer.done.0);
    });
    bar.finish_and_clear();
    let not_here = |error: HubError| {
        let name = rows.name();
        let help = format!("{}; or {}", error.help(), DataError::NotLocal { name: name.clone() }.help());
        Failure::new(ExitCode::Task, format!("the rows of {name} are not here: {error}"), help)
    };
    pulled.map(|_| true).map_err(not_here)
}
