//! `loragrid sync`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line};
use crate::job::counted;
use crate::store::Store;
use crate::workspace::Workspace;

pub(in crate::cli) fn run(workspace: &Workspace) -> Result<ExitCode, Failure> {
    let db = &workspace.db;
    if db.server().is_none() {
        let help = "only the results of a PostgreSQL database (--db postgres://USER@HOST/NAME) are copied"
            .to_owned();
        return Err(Failure::new(ExitCode::Usage, format!("{db} is a file of this machine"), help));
    }
    let brought = block_on(async {
        let store = Store::open_existing(db).await?;
        let brought = store.brought_home();
        store.close().await;
        Ok(brought)
    })?;
    if is_json() {
        write_json(&json!({ "copy": db.file(), "copied": brought }))?;
        return Ok(ExitCode::Success);
    }
    let rows = [
        (brought.jobs, "job"),
        (brought.attempts, "attempt"),
        (brought.trainings, "training"),
        (brought.scores, "score"),
        (brought.documents, "document"),
    ];
    let rows: Vec<String> = rows.iter().map(|(count, what)| counted(*count, what)).collect();
    write_line(&format!("copied {} into {}", rows.join(", "), db.file().display()))?;
    Ok(ExitCode::Success)
}
