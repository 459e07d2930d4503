//! Submitting a plan: its rows are those that a file would have, made by a file that lives for a moment.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteRow, SqliteValueRef};
use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction, TypeInfo, Value as _, ValueRef};

use super::connection::{Server, transaction};
use super::orders::{JobFacts, drop_wants, from_json, json, put_jobs};
use crate::job::{JobId, JobState};
use crate::plan::Plan;
use crate::queue::Submission;
use crate::store::error::StoreError;
use crate::store::now_ms;
use crate::store::open::Store;
use crate::store::queue::{SweepOrigin, parse_order};

/// The tables with the rows of a version; each also has the columns `sweep_id` and `version`.
const TABLES: [(&str, &[&str]); 5] = [
    (
        "sweep_versions",
        &[
            "text",
            "axes",
            "tasks",
            "objective_task",
            "objective_metric",
            "created_ms",
            "task_groups",
            "file",
            "include_path",
            "overrides",
            "pinned",
            "warnings",
            "submitter",
        ],
    ),
    ("sweep_jobs", &["position", "job_id", "label", "axes", "cell"]),
    ("wanted_scores", &["task_position", "job_id", "score_key"]),
    ("sweep_tasks", &["position", "task", "metrics"]),
    ("wanted_samples", &["position", "sample_key"]),
];

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Cell {
    Integer(i64),
    Text(String),
    Nothing(()),
}

/// What a version of a sweep is in the tables of a file: rows by table, each in the order of its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct VersionRows(BTreeMap<String, Vec<Vec<Cell>>>);

impl VersionRows {
    /// The rows of a version in a file.
    async fn of(store: &Store, (sweep, version): (i64, i64)) -> Result<Self, StoreError> {
        let mut tables = BTreeMap::new();
        for (table, columns) in TABLES {
            let columns = columns.join(", ");
            let select =
                format!("SELECT {columns} FROM {table} WHERE sweep_id = $1 AND version = $2 ORDER BY 1, 2");
            let rows =
                sqlx::query(AssertSqlSafe(select)).bind(sweep).bind(version).fetch_all(&store.pool).await?;
            let rows: Vec<Vec<Cell>> = rows.iter().map(cells).collect::<Result<_, _>>()?;
            tables.insert(table.to_owned(), rows);
        }
        Ok(Self(tables))
    }

    /// Writes them into a file, in place of what the version was there.
    pub(super) async fn write(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        (sweep, version): (i64, i64),
    ) -> Result<(), StoreError> {
        for (table, columns) in TABLES {
            let marks: Vec<String> = (3..columns.len() + 3).map(|at| format!("${at}")).collect();
            let insert = format!(
                "INSERT OR REPLACE INTO {table} (sweep_id, version, {}) VALUES ($1, $2, {})",
                columns.join(", "),
                marks.join(", ")
            );
            for row in self.rows(table) {
                if row.len() != columns.len() {
                    return Err(StoreError::Value { what: "a version", value: format!("a row of {table}") });
                }
                let mut query = sqlx::query(AssertSqlSafe(insert.as_str())).bind(sweep).bind(version);
                for cell in row {
                    query = match cell {
                        Cell::Integer(value) => query.bind(value),
                        Cell::Text(value) => query.bind(value),
                        Cell::Nothing(()) => query.bind(None::<String>),
                    };
                }
                query.execute(&mut **tx).await?;
            }
        }
        Ok(())
    }

    fn rows(&self, table: &str) -> &[Vec<Cell>] {
        self.0.get(table).map_or(&[], Vec::as_slice)
    }

    /// Its jobs, in its order.
    pub(super) fn job_ids(&self) -> Result<Vec<JobId>, StoreError> {
        let id = |row: &Vec<Cell>| match row.get(1) {
            Some(Cell::Text(id)) => Ok(JobId::from_store(id.clone())),
            _ => Err(StoreError::Value { what: "a version", value: "a job without an id".to_owned() }),
        };
        self.rows("sweep_jobs").iter().map(id).collect()
    }

    /// Whether it is the same file with the same jobs and scores.
    fn is_like(&self, other: &Self) -> bool {
        let text = |rows: &Self| rows.rows("sweep_versions").first().and_then(|row| row.first().cloned());
        let jobs = |rows: &Self| rows.job_ids().ok();
        text(self) == text(other)
            && jobs(self) == jobs(other)
            && self.rows("wanted_scores") == other.rows("wanted_scores")
    }
}

fn cells(row: &SqliteRow) -> Result<Vec<Cell>, StoreError> {
    (0..row.columns().len()).map(|at| cell(row.try_get_raw(at)?)).collect()
}

fn cell(value: SqliteValueRef<'_>) -> Result<Cell, StoreError> {
    if value.is_null() {
        return Ok(Cell::Nothing(()));
    }
    let (kind, value) = (value.type_info().name().to_owned(), value.to_owned());
    match kind.as_str() {
        "INTEGER" => Ok(Cell::Integer(value.try_decode()?)),
        "TEXT" => Ok(Cell::Text(value.try_decode()?)),
        other => Err(StoreError::Value { what: "a version", value: format!("a value of type {other}") }),
    }
}

/// The rows of a plan, and its jobs.
async fn rows_of(
    plan: &Plan,
    origin: &SweepOrigin,
    priority: i64,
) -> Result<(VersionRows, Vec<(Submission, Option<JobFacts>)>), StoreError> {
    let folder = tempfile::tempdir().map_err(|error| StoreError::Sql(sqlx::Error::Io(error)))?;
    let store = Store::open_file(&folder.path().join("submission.db")).await?;
    let version = store.submit_to_file(plan, origin, Some(priority)).await?;
    let sweep: i64 = sqlx::query_scalar("SELECT id FROM sweeps").fetch_one(&store.pool).await?;
    let rows = VersionRows::of(&store, (sweep, version)).await?;
    let query = sqlx::query(
        "SELECT job_order, state, kind, model_identity, dtype, settings, trainable, created_ms, numerics FROM jobs",
    );
    let mut jobs = Vec::new();
    for row in query.fetch_all(&store.pool).await? {
        let state = crate::store::boards::job_details::read_state(&row, 1)?;
        let submission =
            Submission { order: parse_order(row.try_get(0)?)?, is_done: state == JobState::Done };
        let facts = JobFacts {
            kind: row.try_get(2)?,
            model_identity: row.try_get(3)?,
            dtype: row.try_get(4)?,
            settings: row.try_get(5)?,
            trainable: row.try_get(6)?,
            created_ms: row.try_get(7)?,
            numerics: row.try_get(8)?,
        };
        jobs.push((submission, Some(facts)));
    }
    store.close().await;
    Ok((rows, jobs))
}

impl Server {
    /// As [`Store::submit`].
    pub(in crate::store) async fn submit_plan(
        &self,
        plan: &Plan,
        origin: &SweepOrigin,
        priority: i64,
    ) -> Result<i64, StoreError> {
        let (rows, jobs) = rows_of(plan, origin, priority).await?;
        let (name, planned): (&str, HashSet<JobId>) =
            (plan.name.as_str(), rows.job_ids()?.into_iter().collect());
        let text = json("a version", &rows)?;
        transaction!(self, |tx| {
            let insert = "INSERT INTO sweeps (name, created_ms) VALUES ($1, $2) ON CONFLICT (name) WHERE NOT is_removed DO NOTHING";
            sqlx::query(insert).bind(name).bind(now_ms()).execute(&mut **tx).await?;
            // One client submits a sweep at a time.
            let select = "SELECT id FROM sweeps WHERE name = $1 AND NOT is_removed FOR UPDATE";
            let sweep: i64 = sqlx::query_scalar(select).bind(name).fetch_one(&mut **tx).await?;
            let last = sqlx::query(
                "SELECT version, rows FROM sweep_versions WHERE sweep_id = $1 ORDER BY version DESC LIMIT 1",
            );
            let last = last.bind(sweep).fetch_optional(&mut **tx).await?;
            let last: Option<(i64, VersionRows)> = last
                .map(|row| Ok::<_, StoreError>((row.try_get(0)?, from_json("a version", row.try_get(1)?)?)))
                .transpose()?;
            let mut dropped = last.as_ref().map(|(_, rows)| rows.job_ids()).transpose()?.unwrap_or_default();
            dropped.retain(|job| !planned.contains(job));
            drop_wants(tx, name, &dropped).await?;
            put_jobs(tx, &jobs).await?;
            if let Some((version, _)) = last.as_ref().filter(|(_, last)| last.is_like(&rows)) {
                return Ok(*version);
            }
            let version = last.map_or(1, |(version, _)| version + 1);
            let insert = "INSERT INTO sweep_versions (sweep_id, version, rows) VALUES ($1, $2, $3)";
            sqlx::query(insert).bind(sweep).bind(version).bind(&text).execute(&mut **tx).await?;
            Ok(version)
        })
    }
}

impl Store {
    /// As [`Store::submit`], to a server; without a priority the sweep keeps the one that it has there.
    pub(in crate::store) async fn submit_to_server(
        &self,
        server: &Server,
        plan: &Plan,
        origin: &SweepOrigin,
        priority: Option<i64>,
    ) -> Result<i64, StoreError> {
        let priority = match priority {
            Some(priority) => priority,
            None => match self.priority(plan.name.as_str()).await {
                Err(StoreError::NoSweep { .. } | StoreError::Empty) => 0,
                known => known?,
            },
        };
        let version = server.submit_plan(plan, origin, priority).await?;
        self.refresh().await?;
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_column_of_a_version_is_brought_home() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_file(&folder.path().join("a.db")).await.unwrap();
        for (table, columns) in TABLES {
            let query = sqlx::query_scalar("SELECT name FROM pragma_table_info($1)").bind(table);
            let mut known: Vec<String> = query.fetch_all(&store.pool).await.unwrap();
            known.retain(|name| name != "sweep_id" && name != "version");
            let mut listed: Vec<&str> = columns.to_vec();
            known.sort();
            listed.sort_unstable();
            assert_eq!(known, listed, "{table}");
        }
    }
}
