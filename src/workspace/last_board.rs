//! The rows of the leaderboard that was shown last, so that a command can name a job by its row.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::WorkspaceError;
use super::job_names::job_named;
use crate::report::BoardRow;
use crate::store::{Store, StoredJob};

/// File name beside the database.
const FILE: &str = ".last-board.json";
/// Fewest digits of an id that name a job where rows have numbers too.
const SHORTEST_ID: usize = 4;
/// Rows beyond these are not named by a number.
const MOST: usize = 9_999;

#[derive(Debug, Default, Serialize, Deserialize)]
struct LastBoard {
    /// The first job of each row.
    rows: Vec<String>,
}

/// Remembers the rows of a leaderboard. Where the folder cannot be written, the numbers of an earlier one would be wrong: they are gone.
pub fn remember_board(results: &Path, rows: &[BoardRow]) {
    let first = |row: &BoardRow| row.jobs.first().cloned().unwrap_or_default();
    let board = LastBoard { rows: rows.iter().take(MOST).map(first).collect() };
    let file = results.join(FILE);
    let written = serde_json::to_vec(&board).map(|text| std::fs::write(&file, text));
    if !matches!(written, Ok(Ok(()))) {
        let _ = std::fs::remove_file(&file);
    }
}

/// The job that a name or the number of a row means. Errors: as [`job_named`].
pub async fn job_or_row(store: &Store, name: &str) -> Result<StoredJob, WorkspaceError> {
    let digits = name.strip_prefix('#').unwrap_or(name);
    let number = digits.parse::<usize>().ok().filter(|number| (1..=MOST).contains(number));
    if let Some(number) = number {
        let text = std::fs::read(store.results().join(FILE)).unwrap_or_default();
        let board: LastBoard = serde_json::from_slice(&text).unwrap_or_default();
        if let Some(id) = board.rows.get(number - 1)
            && let Ok(job) = store.job(id).await
        {
            return Ok(job);
        }
        // Short numbers are rows, never the start of an id.
        if name.starts_with('#') || name.len() < SHORTEST_ID {
            return Err(WorkspaceError::NoRow { number, rows: board.rows.len() });
        }
    }
    job_named(store, name).await
}
