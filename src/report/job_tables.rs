//! Stored data of one job, as tables.

use super::table::{Cell, Column, Table};
use crate::store::StoredJob;

/// Each resolved key with its origin.
pub fn stored_settings_table(job: &StoredJob) -> Table {
    let columns = vec![Column::text("key"), Column::text("value"), Column::text("from")];
    let row = |(path, (value, origin)): (&String, &(crate::job::Value, crate::job::StoredOrigin))| {
        vec![Cell::Text(path.clone()), Cell::Text(value.to_string()), Cell::Text(origin.to_string())]
    };
    Table { columns, rows: job.settings.iter().map(row).collect() }
}

/// Each score.
pub fn stored_scores_table(job: &StoredJob) -> Table {
    let columns = vec![
        Column::text("task"),
        Column::text("metric"),
        Column::number("value", None),
        Column::number("documents", None),
    ];
    let rows = job.scores.iter().map(|score| {
        let value = match score.stderr {
            Some(error) => Cell::Uncertain(score.value, error, 4),
            None => Cell::Number(score.value, 4),
        };
        vec![
            Cell::Text(score.task.clone()),
            Cell::Text(score.metric.as_str().to_owned()),
            value,
            Cell::Count(score.documents),
        ]
    });
    Table { columns, rows: rows.collect() }
}
