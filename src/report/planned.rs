//! The plan, as a table and as JSON.

use serde_json::{Value as Json, json};

use super::table::{Cell, Column, Table};
use crate::job::Bytes;
use crate::plan::{Plan, PlannedJob, Throughput};

/// A row for each job.
pub fn plan_table(plan: &Plan) -> Table {
    let columns = vec![
        Column::text("job"),
        Column::text("run"),
        Column::number("trainable", None).weighing(3),
        Column::number("memory", None).weighing(4),
        Column::number("disk", None).weighing(2),
        Column::number("time", None).weighing(5),
        Column::text("to do"),
    ];
    let row = |job: &PlannedJob| {
        let size = |bytes: Bytes| Cell::Text(bytes.to_string());
        vec![
            Cell::Text(job.id.to_string()),
            Cell::Text(job.label.clone()),
            if job.trainable > 0 { Cell::Count(job.trainable) } else { Cell::Missing },
            job.estimate.memory.map_or(Cell::Missing, |memory| size(memory.total())),
            if job.trainable > 0 { size(job.estimate.disk) } else { Cell::Missing },
            if job.is_done() { Cell::Missing } else { Cell::Text(job.estimate.time.to_string()) },
            Cell::Text(to_do(job)),
        ]
    };
    Table { columns, rows: plan.jobs.iter().map(row).collect() }
}

fn to_do(job: &PlannedJob) -> String {
    match (job.train_missing, job.missing.len()) {
        (false, 0) => "done".to_owned(),
        (true, 0) => "train".to_owned(),
        (true, n) => format!("train, score {n}"),
        (false, n) => format!("score {n}"),
    }
}

/// The plan as one JSON object with its jobs in `jobs`.
pub fn plan_json(plan: &Plan) -> Json {
    let job = |job: &PlannedJob| {
        let settings: serde_json::Map<String, Json> = job
            .settings
            .iter()
            .map(|(path, setting)| {
                (path.to_owned(), json!({ "value": setting.value, "from": setting.origin.to_string() }))
            })
            .collect();
        json!({
            "id": job.id,
            "label": job.label,
            "trainable_parameters": job.trainable,
            "done": job.is_done(),
            "train": job.train_missing,
            "score": job.missing.iter().map(|&task| &plan.tasks[task].task.name).collect::<Vec<_>>(),
            "estimate": job.estimate,
            "memory_bytes": job.estimate.memory.map(|memory| memory.total()),
            "settings": settings,
        })
    };
    let (rate, measured) = match plan.throughput {
        Throughput::Measured(rate) => (rate, true),
        Throughput::Guessed(rate) => (rate, false),
    };
    json!({
        "sweep": plan.name,
        "model": plan.model_path.display().to_string(),
        "base_parameters": plan.model.parameters(),
        "dtype": plan.dtype,
        "tasks": plan.tasks.iter().map(|planned| json!({
            "name": planned.task.name, "documents": planned.documents, "version": planned.version,
        })).collect::<Vec<_>>(),
        "tokens_per_second": rate,
        "tokens_per_second_measured": measured,
        "jobs": plan.jobs.iter().map(job).collect::<Vec<_>>(),
    })
}
