//! `loragrid workers`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, local_time, show_table, write_json, write_line};
use crate::report::{Cell, Column, Table};
use crate::store::{Store, WorkerRecord};
use crate::workspace::Workspace;

pub(in crate::cli) fn run(workspace: &Workspace) -> Result<ExitCode, Failure> {
    let workers = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let workers = store.workers().await?;
        store.close().await;
        Ok(workers)
    })?;
    if is_json() {
        write_json(&json!({ "workers": workers }))?;
    } else if workers.is_empty() {
        write_line("no worker is running a job; `loragrid work` starts one")?;
    } else {
        write_line(&show_table(&table(&workers)))?;
    }
    Ok(ExitCode::Success)
}

fn table(workers: &[WorkerRecord]) -> Table {
    let columns = vec![
        Column::text("worker"),
        Column::text("device"),
        Column::text("job"),
        Column::text("run"),
        Column::text("since"),
        Column::text("heartbeat"),
    ];
    let row = |worker: &WorkerRecord| {
        let heartbeat = match worker.is_alive {
            Some(true) => "alive".to_owned(),
            Some(false) => "exited; its job is requeued by the next worker".to_owned(),
            None => format!("{} received", worker.heartbeats),
        };
        vec![
            Cell::Text(worker.process.clone()),
            Cell::Text(worker.device.clone()),
            Cell::Text(worker.job.short().to_owned()),
            Cell::Text(worker.label.clone()),
            Cell::Text(local_time(worker.started_ms, "%m-%d %H:%M:%S")),
            Cell::Text(heartbeat),
        ]
    };
    Table { columns, rows: workers.iter().map(row).collect() }
}
