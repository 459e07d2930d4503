//! `loragrid gc`

mod stored;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::GcArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{confirmed, is_json, write_json, write_line};
use crate::job::{Bytes, Digest, JobId};
use crate::queue::Queue;
use crate::store::{Store, StoreError};
use crate::workspace::Workspace;
use stored::StoredGarbage;

/// What was changed more recently may belong to a process that has not told the database of it yet.
const YOUNG: Duration = Duration::from_secs(60);

/// Encoded rows that nothing has read for so long are made again when they are wanted.
const CACHE_AGE: Duration = Duration::from_secs(30 * 86_400);
/// Logs of attempts that ended longer ago.
const LOG_AGE: Duration = Duration::from_secs(90 * 86_400);

/// A file that has not been touched for long.
struct OldFile {
    path: PathBuf,
    why: &'static str,
    size: Bytes,
}

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

pub(in crate::cli) fn run(arguments: &GcArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    block_on(async {
        let store = Store::open_existing(&workspace.db).await?;
        let mut garbage = candidates(&store.results())?;
        // A look, so that nothing is listed that the database would not let go.
        let unneeded = store.unneeded_subjects().await?;
        garbage.retain(|one| {
            let known = unneeded.get(&one.subject);
            known.is_some_and(|adapter_is_gone| !one.adapter || one.is_partial() || *adapter_is_gone)
        });
        let mut old = old_files(&store.results());
        let needed = needed_inputs(&store).await?;
        old.retain(|file| {
            !file.path.file_name().is_some_and(|name| needed.contains(&*name.to_string_lossy()))
        });
        let stored = stored::candidates(&store, &unneeded).await?;
        let sizes = garbage.iter().map(|one| one.size.0).chain(old.iter().map(|one| one.size.0));
        let total = Bytes(sizes.chain(stored.iter().map(|one| one.size.0)).sum());
        let count = garbage.len() + old.len() + stored.len();
        let items =
            if count == 1 { "1 folder or file".to_owned() } else { format!("{count} folders and files") };
        if !is_json() {
            let lines = garbage.iter().map(|one| (&one.path, one.size, one.why));
            for (path, size, why) in lines.chain(old.iter().map(|one| (&one.path, one.size, one.why))) {
                write_line(&format!("{} ({size}): {why}", path.display()))?;
            }
            for one in &stored {
                write_line(&format!("{} ({}): {}", one.address, one.size, one.why))?;
            }
        }
        let deletes = !arguments.dry_run
            && count > 0
            && (arguments.yes || confirmed(&format!("Delete {items} ({total})?"))?);
        let mut removed = 0;
        for one in old.iter().filter(|_| deletes) {
            removed += usize::from(std::fs::remove_file(&one.path).is_ok());
        }
        for one in garbage.iter().filter(|_| deletes) {
            let adapter = one.adapter && !one.is_partial();
            // The state is read again in the transaction that nobody can change it beside.
            let remove = async || {
                std::fs::remove_dir_all(&one.path).map_err(|error| StoreError::Sql(sqlx::Error::Io(error)))
            };
            removed += usize::from(store.remove_unneeded(&one.subject, adapter, remove).await?);
        }
        for one in stored.iter().filter(|_| deletes) {
            removed += usize::from(one.remove(&store).await?);
        }
        store.close().await;
        if is_json() {
            let one = |one: &Garbage| json!({ "path": one.path, "why": one.why, "bytes": one.size.0 });
            let folders = garbage.iter().map(one).collect::<Vec<_>>();
            let file = |one: &OldFile| json!({ "path": one.path, "why": one.why, "bytes": one.size.0 });
            let files = old.iter().map(file).collect::<Vec<_>>();
            let one =
                |one: &StoredGarbage| json!({ "url": one.address, "why": one.why, "bytes": one.size.0 });
            let objects = stored.iter().map(one).collect::<Vec<_>>();
            write_json(
                &json!({ "dry_run": !deletes, "bytes": total.0, "removed": removed, "folders": folders, "files": files, "objects": objects }),
            )?;
        } else if deletes {
            write_line(&format!("deleted {removed} of {items} ({total})"))?;
        } else {
            let how = if count == 0 { "" } else { "; `loragrid gc --yes` deletes them" };
            write_line(&format!("{items} ({total}) can be deleted{how}"))?;
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
                (false, _) => "checkpoints of an ended training",
                (true, true) => "an incomplete adapter",
                (true, false) => "removed by [keep], or no sweep needs it",
            };
            let size = Bytes(size(&path));
            garbage.push(Garbage { path, subject, adapter, why, size });
        }
    }
    Ok(garbage)
}

/// The files of the cache that queued and running jobs read.
async fn needed_inputs(store: &Store) -> Result<HashSet<String>, Failure> {
    let jobs: Vec<JobId> = store.active().await?.into_iter().map(|job| job.id).collect();
    let orders = store.orders(&jobs).await?;
    Ok(orders.iter().flat_map(|(order, _)| order.inputs().map(str::to_owned)).collect())
}

/// Encoded rows and logs, by the names that this program gives, that nothing has touched for long.
fn old_files(results: &Path) -> Vec<OldFile> {
    let is_log = |name: &str| {
        let job = name.strip_suffix(".log").and_then(|name| name.rsplit_once('-'));
        job.is_some_and(|(id, number)| {
            id.len() >= 12 && id.bytes().all(|b| b.is_ascii_hexdigit()) && number.parse::<u32>().is_ok()
        })
    };
    let is_cache = |name: &str| {
        // Releases before orders called rows `.tokens`.
        let endings = [".rows", ".tokens", ".documents", ".samples"];
        let hash = endings.iter().find_map(|ending| name.strip_suffix(ending));
        hash.is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    type IsOwn<'a> = &'a dyn Fn(&str) -> bool;
    let cache = ("cache", &is_cache as IsOwn<'_>, CACHE_AGE, "cached inputs not used for 30 days");
    let logs = ("logs", &is_log as IsOwn<'_>, LOG_AGE, "a log older than 90 days");
    let mut found = Vec::new();
    for (folder, is_own, age, why) in [cache, logs] {
        for entry in std::fs::read_dir(results.join(folder)).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let touched = [meta.modified(), meta.accessed()].into_iter().flatten().max();
            let is_old =
                touched.is_some_and(|at| SystemTime::now().duration_since(at).is_ok_and(|own| own > age));
            if meta.is_file() && is_old && is_own(&entry.file_name().to_string_lossy()) {
                found.push(OldFile { path: entry.path(), why, size: Bytes(meta.len()) });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn is_young(path: &Path) -> bool {
    let modified = std::fs::metadata(path).and_then(|meta| meta.modified());
    modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < YOUNG))
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
