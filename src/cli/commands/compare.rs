//! `loragrid compare`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::CompareArguments;
use crate::cli::environment::{Environment, block_on};
use crate::cli::failure::Failure;
use crate::cli::output::{terminal_width, write_json, write_line};
use crate::job::{Bytes, Seconds};
use crate::report::{
    TaskDifference, render_terminal, setting_differences, setting_differences_table, task_differences,
    task_differences_table, verdict,
};
use crate::store::{Store, StoredJob};

pub(in crate::cli) fn run(
    arguments: &CompareArguments,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    let (jobs, values) = block_on(async {
        let store = Store::open_existing(&environment.db).await?;
        let jobs = [store.job(&arguments.first).await?, store.job(&arguments.second).await?];
        let values = [store.document_values(&jobs[0].id).await?, store.document_values(&jobs[1].id).await?];
        store.close().await;
        Ok((jobs, values))
    })?;
    let [first, second] = &jobs;
    let settings = setting_differences(first, second);
    let tasks = task_differences(&values[0], &values[1]);
    if arguments.json {
        let side = |job: &StoredJob| {
            json!({
                "id": job.id, "state": job.state, "seconds": job.seconds, "peak_memory": job.peak_memory,
                "trainable": job.trainable, "last_loss": job.last_loss,
            })
        };
        write_json(&json!({
            "first": side(first), "second": side(second), "settings": settings, "tasks": tasks,
            "verdict": verdict(&tasks),
        }))?;
        return Ok(ExitCode::Success);
    }
    for (name, job) in [("first ", first), ("second", second)] {
        write_line(&side_line(name, job))?;
    }
    if !settings.is_empty() {
        write_line(&render_terminal(&setting_differences_table(&settings), terminal_width()))?;
    }
    if !tasks.is_empty() {
        write_line(&render_terminal(&task_differences_table(&tasks), terminal_width()))?;
    }
    for task in tasks.iter().filter(|_| arguments.examples > 0) {
        examples(task, arguments.examples)?;
    }
    write_line(&verdict(&tasks))?;
    Ok(ExitCode::Success)
}

fn side_line(name: &str, job: &StoredJob) -> String {
    let mut parts = vec![format!("{name} {} {}", job.id, job.state.as_str())];
    parts.extend(job.seconds.map(|seconds| Seconds(seconds).to_string()));
    parts.extend(job.peak_memory.map(|bytes| format!("peak memory {}", Bytes(bytes.max(0) as u64))));
    parts.extend(job.last_loss.map(|loss| format!("last loss {loss:.3}")));
    parts.join(", ")
}

/// Documents of a task that one has right and the other wrong.
fn examples(task: &TaskDifference, most: usize) -> Result<(), Failure> {
    for (who, documents) in [("second", &task.gained), ("first", &task.lost)] {
        let Some(documents) = documents.as_ref().filter(|documents| !documents.is_empty()) else { continue };
        let shown: Vec<String> = documents.iter().take(most).map(ToString::to_string).collect();
        let more = documents.len().saturating_sub(most);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        write_line(&format!(
            "{}: only the {who} is right on documents {}{rest}",
            task.task,
            shown.join(", ")
        ))?;
    }
    Ok(())
}
