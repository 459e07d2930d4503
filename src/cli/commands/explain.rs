//! `loragrid explain`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{local_time, show_table, write_json, write_line};
use crate::cli::queue_arguments::ExplainArguments;
use crate::report::{Cell, Column, Table};
use crate::store::{AttemptRecord, JobExplanation, Store};
use crate::workspace::Workspace;
use crate::workspace::job_named;

pub(in crate::cli) fn run(arguments: &ExplainArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let (job, standing, attempts) = block_on(async {
        let store = Store::open_to_read(&workspace.db).await?;
        let job = job_named(&store, &arguments.job).await?;
        let standing = store.standing(&job).await?;
        let attempts = store.attempts(&job.id).await?;
        store.close().await;
        Ok((job, standing, attempts))
    })?;
    if arguments.json {
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
            let again = if *attempts > 0 { format!(" after {attempts} attempts") } else { String::new() };
            let now = match running {
                0 => "no worker is running; `loragrid work` starts one".to_owned(),
                running => format!("{running} jobs are running"),
            };
            format!("queued{again}, {before} jobs ahead; {now}")
        }
        JobExplanation::Running { owner, device } => format!("{owner} works at it on {device}"),
        JobExplanation::Orphaned { owner } => {
            format!("the process that ran it, {owner}, is gone; the next `run` or `work` puts it back")
        }
        JobExplanation::Paused { reason } => {
            told("it is held back", reason, "`loragrid resume` lets it go on")
        }
        JobExplanation::Cancelled { reason } => {
            told("it was given up", reason, "`loragrid retry` queues it again")
        }
        JobExplanation::Failed { reason } => told("it failed", reason, "`loragrid retry` tries again"),
        JobExplanation::Diverged { reason } => {
            told("it diverged", reason, "a smaller learning rate may help")
        }
        JobExplanation::Done { scores } => format!("it is done, with {scores} scores"),
    }
}

fn told(what: &str, reason: &Option<String>, help: &str) -> String {
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
