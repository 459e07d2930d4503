//! `loragrid config`

use serde_json::{Value as Json, json};

use crate::cli::ExitCode;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, show_table, write_json, write_line};
use crate::report::{Cell, Column, Table};
use crate::workspace::{Config, Configured};

pub(in crate::cli) fn run(config: &Config) -> Result<ExitCode, Failure> {
    let rows = [
        row("db", &config.db, |db| json!(db.to_string())),
        row("results", &config.results, |path| json!(path)),
        row("artifacts", &config.artifacts, |text| json!(text)),
        row("devices", &config.devices, |text| json!(text)),
        row("gpus_per_job", &config.gpus_per_job, |number| json!(number)),
        row("pack", &config.pack, |number| json!(number)),
        row("engine", &config.engine, |path| json!(path)),
        row("launcher", &config.launching, |launching| {
            launching.as_ref().map_or(
                Json::Null,
                |launching| json!({ "command": launching.launcher.to_string(), "slots": launching.slots }),
            )
        }),
        row("data", &config.data, |path| json!(path)),
        row("notify", &config.notify, |notify| {
            notify.as_ref().map_or(Json::Null, |notify| {
                json!({ "command": notify.command, "webhook_env": notify.webhook_env, "on": notify.on })
            })
        }),
        row("slurm", &config.slurm, |slurm| slurm.as_ref().map_or(Json::Null, |slurm| json!(slurm))),
    ];
    if is_json() {
        let value =
            |(key, value, from): &(&str, Json, String)| json!({ "key": key, "value": value, "from": from });
        write_json(&json!({ "config": rows.iter().map(value).collect::<Vec<_>>() }))?;
        return Ok(ExitCode::Success);
    }
    let columns = vec![Column::text("key"), Column::text("value"), Column::text("from")];
    let cells = |(key, value, from): &(&str, Json, String)| {
        let value = match value {
            Json::Null => Cell::Missing,
            Json::String(text) => Cell::Text(text.clone()),
            other => Cell::Text(other.to_string()),
        };
        vec![Cell::Text((*key).to_owned()), value, Cell::Text(from.clone())]
    };
    write_line(&show_table(&Table { columns, rows: rows.iter().map(cells).collect() }))?;
    Ok(ExitCode::Success)
}

fn row<T>(
    key: &'static str,
    configured: &Configured<T>,
    value: impl Fn(&T) -> Json,
) -> (&'static str, Json, String) {
    (key, value(&configured.value), configured.origin.to_string())
}
