//! Trackio's local store: a SQLite file for a project. A row's `log_id` is unique there, so that what is sent twice is there once.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::error::TrackError;
use super::{TrackedPart, TrackedPoint};

/// The tables that Trackio makes, as far as they are written here; it adds the others when it opens the file.
const TABLES: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL, \
     run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL, log_id TEXT, space_id TEXT)",
    "CREATE INDEX IF NOT EXISTS idx_metrics_run_step ON metrics(run_id, step)",
    "CREATE UNIQUE INDEX IF NOT EXISTS idx_metrics_log_id ON metrics(log_id) WHERE log_id IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS configs (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, run_name TEXT NOT NULL, \
     config TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE(run_id))",
    "CREATE INDEX IF NOT EXISTS idx_configs_run_name ON configs(run_name)",
];

/// A project of Trackio's local store.
#[derive(Debug)]
pub struct Trackio {
    file: PathBuf,
}

impl Trackio {
    /// A project in Trackio's folder: TRACKIO_DIR, else below HF_HOME.
    pub fn new(project: &str, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || set("HOME").unwrap_or_default();
        let hub = || set("HF_HOME").unwrap_or_else(|| home().join(".cache/huggingface"));
        let folder = set("TRACKIO_DIR").unwrap_or_else(|| hub().join("trackio"));
        let name: String = project.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
        let name = if name.is_empty() { "default".to_owned() } else { name };
        Self { file: folder.join(format!("{name}.db")) }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn send(&mut self, part: &TrackedPart) -> Result<String, TrackError> {
        let failed = |reason: String| TrackError::Database { path: self.file.clone(), reason };
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        }
        // Trackers are called on a thread that may block.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(error.to_string()))?;
        runtime.block_on(write(&self.file, part)).map_err(|error| failed(error.to_string()))?;
        Ok(part.job.clone())
    }
}

async fn write(file: &Path, part: &TrackedPart) -> Result<(), sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let options = options.busy_timeout(std::time::Duration::from_secs(10));
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    let written = write_rows(&pool, part).await;
    pool.close().await;
    written
}

async fn write_rows(pool: &SqlitePool, part: &TrackedPart) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    for statement in TABLES {
        sqlx::query(statement).execute(&mut *tx).await?;
    }
    if part.run.is_none() {
        let mut config: Map<String, Json> =
            part.settings.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        config.insert("_Created".to_owned(), json!(time(part.started_ms)));
        config.insert("_Group".to_owned(), json!(part.sweep));
        let insert =
            "INSERT OR IGNORE INTO configs (run_id, run_name, config, created_at) VALUES ($1, $2, $3, $4)";
        let insert = sqlx::query(insert).bind(&part.job).bind(&part.label);
        let insert = insert.bind(Json::Object(config).to_string()).bind(time(part.started_ms));
        insert.execute(&mut *tx).await?;
    }
    let mut rows: Vec<(String, i64, i64, Json)> = part
        .points
        .iter()
        .map(|point| {
            (format!("{}-{}", part.job, point.step), point.step, part.time_ms(point), numbers(point))
        })
        .collect();
    let scores = part.scores.iter().filter(|(_, value)| value.is_finite());
    let scores: Map<String, Json> = scores.map(|(name, value)| (name.clone(), json!(value))).collect();
    if !scores.is_empty() {
        let id = format!("{}-scores-{}", part.job, scores.len());
        rows.push((id, part.last_step, part.last_ms(), Json::Object(scores)));
    }
    for (id, step, time_ms, metrics) in rows {
        let insert = sqlx::query(
            "INSERT OR IGNORE INTO metrics (timestamp, run_id, run_name, step, metrics, log_id) VALUES ($1, $2, $3, $4, $5, $6)",
        );
        let insert = insert.bind(time(time_ms)).bind(&part.job).bind(&part.label).bind(step);
        insert.bind(metrics.to_string()).bind(id).execute(&mut *tx).await?;
    }
    tx.commit().await
}

fn numbers(point: &TrackedPoint) -> Json {
    Json::Object(TrackedPart::numbers(point).map(|(name, value)| (name.to_owned(), json!(value))).collect())
}

fn time(milliseconds: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_a_file_in_trackios_folder_with_its_spelling() {
        let file = |project: &str, pairs: &[(&str, &str)]| {
            let find = |name: &str| {
                pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            Trackio::new(project, &find).file.display().to_string()
        };
        assert_eq!(file("my.night", &[("TRACKIO_DIR", "/t")]), "/t/mynight.db");
        assert_eq!(file("../..", &[("HF_HOME", "/h")]), "/h/trackio/default.db");
        assert_eq!(file("a", &[("HOME", "/me")]), "/me/.cache/huggingface/trackio/a.db");
    }
}
