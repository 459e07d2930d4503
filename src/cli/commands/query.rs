//! `loragrid query`

use std::time::Duration;

use crate::cli::ExitCode;
use crate::cli::arguments::QueryArguments;
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, show_table, write_bytes, write_json, write_line};
use crate::report::{frame_csv, frame_json, frame_table};
use crate::store::{QueryError, query};
use crate::workspace::Workspace;

pub(in crate::cli) fn run(arguments: &QueryArguments, workspace: &Workspace) -> Result<ExitCode, Failure> {
    let limit = Duration::from_secs(arguments.timeout);
    let found = block_on(async { Ok(query(&workspace.db, &arguments.sql, limit).await?) })?;
    if is_json() {
        let rows: serde_json::Value = serde_json::from_str(&frame_json(&found)).unwrap_or_default();
        write_json(&serde_json::json!({ "rows": rows }))?;
    } else if arguments.csv {
        write_bytes(&frame_csv(&found))?;
    } else {
        write_line(&show_table(&frame_table(&found)))?;
        let rows = found.rows.len();
        write_line(&format!("{rows} {}", if rows == 1 { "row" } else { "rows" }))?;
    }
    Ok(ExitCode::Success)
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let views =
            "the views are runs, scores, curves, documents, attempts and samples: docs/schema.md".to_owned();
        let message = error.to_string();
        match error {
            QueryError::Store(error) => error.into(),
            QueryError::NotAQuestion { .. } | QueryError::Several | QueryError::Failed(_) => {
                Self::new(ExitCode::Usage, message, views)
            }
            QueryError::TooLarge { .. } => {
                let help = "use LIMIT, or open the file with sqlite3 or DuckDB".to_owned();
                Self::new(ExitCode::Database, message, help)
            }
            QueryError::TimeOut { .. } => {
                let help = "--timeout SECONDS waits longer; `EXPLAIN QUERY PLAN SELECT …` says what is slow"
                    .to_owned();
                Self::new(ExitCode::Database, message, help)
            }
        }
    }
}
