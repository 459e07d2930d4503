//! `loragrid explain`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::ExplainArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, local_time, show_table, write_json, write_line};
use crate::job::counted;
use crate::report::{Cell, Column, Table};
use crate::store::{AttemptRecord, JobExplanation, Store};
use crate::workspace::Workspace;
use crate::workspace::job_or_row;

pub(in crate::cli) fn run(arguments: &ExplainArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let (job, standing, attempts) = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let job = job_or_row(&store, &arguments.job).await?;
        let standing = store.standing(&job).await?;
        let attempts = store.attempts(&job.id).await?;
        store.close().await;
        Ok((job, standing, attempts))
    })?;
    if is_json() {
        write_json(
            &json!({ "job": job.id, "standing": standing, "text": words(&standing), "attempts": attempts }),
        )?;
        return Ok(ExitCode::Success);
    }
    write_line(&format!("job {}: {}", job.id, words(&standing)))?;
    if !attempts.is_empty() {
        write_line(&show_table(&table(&attempts)))?;
    }
    Ok(ExitCode::Success)
}

fn words(standing: &JobExplanation) -> String {
    match standing {
        JobExplanation::Queued { reason: Some(reason), .. } => format!("queued: {reason}"),
        JobExplanation::Queued { reason: None, before, attempts, running } => {
            let again = if *attempts > 0 {
                format!(" after {}", counted(*attempts, "attempt"))
            } else {
                String::new()
            };
            let now = match running {
                0 => "no worker is running; `loragrid work` starts one".to_owned(),
                1 => "1 job is running".to_owned(),
                running => format!("{running} jobs are running"),
            };
            format!("queued{again}, {} ahead; {now}", counted(*before, "job"))
        }
        JobExplanation::Running { owner, device } => format!("running on {device} (worker {owner})"),
        JobExplanation::Orphaned { owner } => {
            format!("running, but its worker {owner} exited; the next `run` or `work` requeues it")
        }
        JobExplanation::Paused { reason } => with_reason("paused", reason, "`loragrid resume` continues it"),
        JobExplanation::Cancelled { reason } => {
            with_reason("cancelled", reason, "`loragrid retry` requeues it")
        }
        JobExplanation::Failed { reason } => with_reason("failed", reason, "`loragrid retry` requeues it"),
        JobExplanation::Diverged { reason } => {
            with_reason("diverged", reason, "a lower learning rate may help")
        }
        JobExplanation::Done { scores } => format!("done, with {scores} scores"),
    }
}

fn with_reason(what: &str, reason: &Option<String>, help: &str) -> String {
    match reason {
        Some(reason) => format!("{what}: {reason}; {help}"),
        None => format!("{what}; {help}"),
    }
}

fn table(attempts: &[AttemptRecord]) -> Table {
    let columns = vec![
        Column::number("attempt", None),
        Column::text("started"),
        Column::number("time", Some("s")),
        Column::text("on"),
        Column::text("outcome"),
        Column::text("reason"),
    ];
    let row = |attempt: &AttemptRecord| {
        let started = local_time(attempt.started_ms, "%m-%d %H:%M:%S");
        // The clock on the wall may have been set meanwhile.
        let by_wall = attempt.ended_ms.map(|ended| (ended - attempt.started_ms) as f64 / 1000.0);
        let seconds = attempt.seconds.or(by_wall.filter(|seconds| *seconds >= 0.0));
        vec![
            Cell::Count(attempt.attempt as u64),
            Cell::Text(started),
            Cell::maybe_number(seconds, 1),
            Cell::Text(attempt.device.clone()),
            Cell::Text(attempt.outcome.clone().unwrap_or_else(|| "runs".to_owned())),
            Cell::Text(attempt.reason.clone().unwrap_or_default()),
        ]
    };
    Table { columns, rows: attempts.iter().map(row).collect() }
}
