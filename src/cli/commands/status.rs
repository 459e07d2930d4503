//! `loragrid status`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, show_table, write_json, write_line};
use crate::report::{render_json_rows, status_table};
use crate::store::Store;
use crate::workspace::Workspace;

pub(in crate::cli) fn run(workspace: &Workspace) -> Result<ExitCode, Failure> {
    let sweeps = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let sweeps = store.status().await?;
        store.close().await;
        Ok(sweeps)
    })?;
    let table = status_table(&sweeps);
    if is_json() {
        write_json(&json!({ "sweeps": render_json_rows(&table) }))?;
    } else {
        write_line(&show_table(&table))?;
    }
    Ok(ExitCode::Success)
}
