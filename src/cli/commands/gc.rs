//! `loragrid gc`

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::{write_json, write_line};
use crate::cli::queue_arguments::GcArguments;
use crate::job::Bytes;
use crate::store::Store;

/// A folder that nothing needs.
struct Garbage {
    path: PathBuf,
    why: &'static str,
    size: Bytes,
}

pub(in crate::cli) fn run(arguments: &GcArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    let results = environment.results();
    let garbage = block_on(async {
        let store = Store::open_existing(&environment.db).await?;
        let unfinished: HashSet<String> = store.unfinished_subjects().await?.into_iter().collect();
        let trained: HashSet<String> = store.kept_subjects().await?.into_iter().collect();
        store.close().await;
        let mut garbage = Vec::new();
        for entry in folders(&results.join("checkpoints"))? {
            if !unfinished.contains(&name(&entry)) {
                garbage.push(of(entry, "its training is at its end"));
            }
        }
        for entry in folders(&results.join("adapters"))? {
            // What an engine had not written to its end has its process's number behind the name.
            let file = name(&entry);
            let own = file.split('.').next().unwrap_or_default();
            if !unfinished.contains(own) && (own != file || !trained.contains(own)) {
                garbage.push(of(entry, "no finished training has it"));
            }
        }
        Ok(garbage)
    })?;
    let total = Bytes(garbage.iter().map(|one| one.size.0).sum());
    if !arguments.dry_run {
        for one in &garbage {
            std::fs::remove_dir_all(&one.path)?;
        }
    }
    if arguments.json {
        let one = |one: &Garbage| json!({ "path": one.path, "why": one.why, "bytes": one.size.0 });
        let removed = garbage.iter().map(one).collect::<Vec<_>>();
        write_json(&json!({ "dry_run": arguments.dry_run, "bytes": total.0, "folders": removed }))?;
        return Ok(ExitCode::Success);
    }
    for one in &garbage {
        write_line(&format!("{} ({}): {}", one.path.display(), one.size, one.why))?;
    }
    let word = if arguments.dry_run { "would go" } else { "gone" };
    write_line(&format!("{} folders with {total} {word}", garbage.len()))?;
    Ok(ExitCode::Success)
}

fn of(path: PathBuf, why: &'static str) -> Garbage {
    let size = Bytes(size(&path));
    Garbage { path, why, size }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn folders(of: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match std::fs::read_dir(of) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    paths.sort();
    Ok(paths)
}

fn size(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            entry.metadata().map_or(0, |meta| if meta.is_dir() { size(&entry.path()) } else { meta.len() })
        })
        .sum()
}
