//! `loragrid logs`

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::cli::ExitCode;
use crate::cli::arguments::LogsArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::store::{Store, StoreError};
use crate::workspace::Workspace;
use crate::workspace::job_or_row;

/// How often a log that grows is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

pub(in crate::cli) fn run(arguments: &LogsArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let job = job_or_row(&store, &arguments.job).await?.id;
        let mut from = 0;
        loop {
            let attempts = store.attempts(&job).await?;
            let found = match arguments.attempt {
                Some(number) => attempts.iter().find(|attempt| attempt.attempt == number),
                None => attempts.last(),
            };
            let Some(attempt) = found else {
                let message = format!("job {job} has no such attempt");
                return Err(Failure::new(ExitCode::NotFound, message, None));
            };
            let path = store.results().join(&attempt.log);
            if let Some(artifacts) = store.artifacts().store().filter(|_| !path.exists()) {
                match artifacts.bring_log(&attempt.log, &path).await {
                    Err(error) if error.is_missing() => {}
                    brought => brought.map_err(StoreError::from)?,
                }
            }
            from += copy(&path, from)?;
            if !arguments.follow || attempt.ended_ms.is_some() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        store.close().await;
        Ok(ExitCode::Success)
    })
}

/// Prints a file from a byte on. Returns how many were printed.
fn copy(path: &Path, from: u64) -> Result<u64, Failure> {
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        // An attempt whose engine has not said anything yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    match std::io::stdout().lock().write_all(&bytes) {
        // A reader that has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(bytes.len() as u64),
    }
}
