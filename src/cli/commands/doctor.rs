//! `loragrid doctor`

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::DoctorArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line};
use crate::device::{Card, DeviceKind, Inventory, available_memory, cpu_slots};
use crate::engine_process::{Engine, EngineDevice, find_engine};
use crate::job::Bytes;
use crate::protocol::{Event, PROTOCOL_VERSION};
use crate::store::Store;
use crate::workspace::Workspace;

/// Below this a night is at risk.
const LITTLE_DISK: u64 = 2 << 30;

/// One thing that a night needs.
struct Finding {
    what: &'static str,
    good: bool,
    text: String,
}

pub(in crate::cli) fn run(arguments: &DoctorArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let findings = block_on(async {
        Ok(vec![
            engine(arguments).await,
            database(workspace).await,
            disk(workspace),
            processor(),
            memory(),
            cards(),
        ])
    })?;
    let good = findings.iter().all(|finding| finding.good);
    if is_json() {
        let one = |f: &Finding| json!({ "what": f.what, "good": f.good, "text": f.text });
        write_json(&json!({ "good": good, "findings": findings.iter().map(one).collect::<Vec<_>>() }))?;
    } else {
        for Finding { what, good, text } in &findings {
            write_line(&format!("{} {what}: {text}", if *good { "ok  " } else { "FAIL" }))?;
        }
    }
    Ok(if good { ExitCode::Success } else { ExitCode::Engine })
}

async fn engine(arguments: &DoctorArguments) -> Finding {
    let found = |good, text: String| Finding { what: "engine", good, text };
    let program = std::env::current_exe().ok();
    let path = std::env::var_os("PATH");
    let program = match find_engine(arguments.engine.as_deref(), program.as_deref(), path.as_deref()) {
        Ok(program) => program,
        Err(error) => return found(false, error.to_string()),
    };
    let started = async {
        let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (mut engine, _handle) =
            Engine::start(&program, &scratch.path().join("log"), &EngineDevice::default())
                .map_err(|error| error.to_string())?;
        let hello = tokio::time::timeout(std::time::Duration::from_secs(60), engine.next_event()).await;
        match hello {
            Ok(Ok(Some(Event::Hello { protocol, engine: version, .. }))) if protocol == PROTOCOL_VERSION => {
                Ok(version)
            }
            Ok(Ok(Some(Event::Hello { protocol, .. }))) => {
                Err(format!("protocol {protocol}, expected {PROTOCOL_VERSION}"))
            }
            Ok(_) => Err("it exits without a message".to_owned()),
            Err(_) => Err("no response in 60 s".to_owned()),
        }
    };
    match started.await {
        Ok(version) => found(true, format!("{} {version}", program.display())),
        Err(reason) => found(false, format!("{}: {reason}", program.display())),
    }
}

async fn database(workspace: &Workspace) -> Finding {
    let found = |good, text: String| Finding { what: "database", good, text };
    let path = &workspace.db;
    if !path.exists() {
        return found(true, format!("{path} does not exist yet"));
    }
    let checked = async {
        let store = Store::open_existing(&workspace.db).await?;
        let (integrity, version) = (store.integrity().await?, store.sqlite_version().await?);
        let server = store.server_version().await?;
        store.close().await;
        Ok::<_, crate::store::StoreError>((integrity, version, server))
    };
    match checked.await {
        Ok((word, _, Some(server))) if word == "ok" => {
            let copy = path.file().display();
            found(true, format!("{path} answers; PostgreSQL {server}; its results are copied into {copy}"))
        }
        Ok((word, version, None)) if word == "ok" => {
            let who = who_writes(path.file());
            found(true, format!("{path} passes its integrity check; SQLite {version}; {who}"))
        }
        Ok((word, ..)) => found(false, format!("{path}: {word}")),
        Err(error) => found(false, error.to_string()),
    }
}

/// Who may write a file by its rights.
fn who_writes(path: &std::path::Path) -> &'static str {
    let mode = std::fs::metadata(path).map(|file| file.permissions().mode()).unwrap_or_default();
    match (mode & 0o020 != 0, mode & 0o002 != 0) {
        (_, true) => "writable by every user",
        (true, false) => "writable by its group",
        (false, false) => "writable by its owner only",
    }
}

fn disk(workspace: &Workspace) -> Finding {
    let results = workspace.results();
    let there = results.ancestors().find(|path| path.is_dir()).unwrap_or(&results).to_owned();
    let free = nix::sys::statvfs::statvfs(&there)
        .map(|stat| stat.blocks_available().saturating_mul(stat.fragment_size()))
        .unwrap_or_default();
    let text = format!("{} free at {}", Bytes(free), there.display());
    Finding { what: "disk", good: free >= LITTLE_DISK, text }
}

fn processor() -> Finding {
    let slot = cpu_slots().remove(0);
    let text = format!(
        "{} cores, default dtype {}",
        slot.cores.len(),
        DeviceKind::of_this_cpu().auto_dtype().as_str()
    );
    Finding { what: "cpu", good: true, text }
}

fn memory() -> Finding {
    let available = available_memory();
    Finding { what: "memory", good: available.0 > 1 << 30, text: format!("{available} available") }
}

/// The graphics cards that engines may see, with what strangers leave free.
fn cards() -> Finding {
    let found = |good, text: String| Finding { what: "gpus", good, text };
    let one = |card: &Card| format!("{} ({} of {} free)", card.name, card.free, card.memory);
    match Inventory::find().visible() {
        Ok(cards) if cards.is_empty() => found(true, "none".to_owned()),
        Ok(cards) => found(true, cards.iter().map(one).collect::<Vec<_>>().join(", ")),
        Err(error) => found(false, error.to_string()),
    }
}
