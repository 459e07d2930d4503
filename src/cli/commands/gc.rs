//! `loragrid gc`

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::{write_json, write_line};
use crate::cli::queue_arguments::GcArguments;
use crate::job::{Bytes, Digest};
use crate::store::Store;

/// What was changed more recently may belong to a process that has not told the database of it yet.
const YOUNG: Duration = Duration::from_secs(60);

/// A folder that nothing needs.
struct Garbage {
    path: PathBuf,
    /// The subject whose it is.
    subject: String,
    /// Whether it is an adapter; else checkpoints.
    adapter: bool,
    why: &'static str,
    size: Bytes,
}

pub(in crate::cli) fn run(arguments: &GcArguments, environment: &Environment) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_existing(&environment.db).await?;
        let mut garbage = candidates(&store.results())?;
        // A look, so that nothing is listed that the database would not let go.
        let unneeded = store.unneeded_subjects().await?;
        garbage.retain(|one| {
            let known = unneeded.get(&one.subject);
            known.is_some_and(|adapter_is_gone| !one.adapter || one.is_partial() || *adapter_is_gone)
        });
        let total = Bytes(garbage.iter().map(|one| one.size.0).sum());
        if !arguments.json {
            for one in &garbage {
                write_line(&format!("{} ({}): {}", one.path.display(), one.size, one.why))?;
            }
        }
        let deletes =
            !arguments.dry_run && !garbage.is_empty() && (arguments.yes || confirmed(&garbage, total)?);
        let mut removed = 0;
        for one in garbage.iter().filter(|_| deletes) {
            let adapter = one.adapter && !one.is_partial();
            // The state is read again in the transaction that nobody can change it beside.
            let gone = store.remove_unneeded(&one.subject, adapter, || std::fs::remove_dir_all(&one.path));
            removed += usize::from(gone.await?);
        }
        store.close().await;
        if arguments.json {
            let one = |one: &Garbage| json!({ "path": one.path, "why": one.why, "bytes": one.size.0 });
            let folders = garbage.iter().map(one).collect::<Vec<_>>();
            write_json(
                &json!({ "dry_run": !deletes, "bytes": total.0, "removed": removed, "folders": folders }),
            )?;
        } else if deletes {
            write_line(&format!("removed {removed} folders of {total}"))?;
        } else {
            let how = if garbage.is_empty() { "" } else { "; `loragrid gc --yes` removes them" };
            write_line(&format!("{} folders with {total} are not needed{how}", garbage.len()))?;
        }
        Ok(ExitCode::Success)
    })
}

impl Garbage {
    /// Whether it is what an engine had not written to its end.
    fn is_partial(&self) -> bool {
        self.path.extension().is_some()
    }
}

/// Folders whose names are those that this program gives, old enough to be nobody's work.
fn candidates(results: &Path) -> Result<Vec<Garbage>, Failure> {
    let mut garbage = Vec::new();
    for (folder, adapter) in [("checkpoints", false), ("adapters", true)] {
        for path in folders(&results.join(folder))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (subject, partial) = match name.split_once('.') {
                Some((subject, rest)) => (subject.to_owned(), rest.ends_with("partial")),
                None => (name.clone(), false),
            };
            let is_own = Digest::parse(&subject).is_some() && (subject == name || adapter && partial);
            if !is_own || is_young(&path) {
                continue;
            }
            let why = match (adapter, partial) {
                (false, _) => "its training has ended",
                (true, true) => "an adapter that was not written to its end",
                (true, false) => "[keep] has let it go",
            };
            let size = Bytes(size(&path));
            garbage.push(Garbage { path, subject, adapter, why, size });
        }
    }
    Ok(garbage)
}

fn is_young(path: &Path) -> bool {
    let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < YOUNG))
}

/// Asks on a terminal. Error: there is none, and `--yes` was not given.
fn confirmed(garbage: &[Garbage], total: Bytes) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        let help = "add --yes to remove them, or --dry-run to only list them".to_owned();
        let message = format!("{} folders with {total} would be removed", garbage.len());
        return Err(Failure::new(ExitCode::Usage, message, help));
    }
    let mut output = std::io::stdout();
    write!(output, "Remove {} folders with {total}? [y/N] ", garbage.len())?;
    output.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The folders in a folder, none of them a link.
fn folders(of: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(ExitCode::Internal, format!("{} cannot be read: {error}", of.display()), None)
    };
    let entries = match std::fs::read_dir(of) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut paths: Vec<PathBuf> = entries.flatten().filter(is_folder).map(|entry| entry.path()).collect();
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
