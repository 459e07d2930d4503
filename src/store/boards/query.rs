//! User SQL: one read-only statement over the views that docs/schema.md describes.

use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteRow;
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Connection, Row, SqlSafeStr, SqliteConnection, Statement,
    TypeInfo, ValueRef,
};
use thiserror::Error;

use crate::store::boards::frame::{Datum, Frame};
use crate::store::boards::scan::limit_values;
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::open::{Store, reading};

/// Steps of SQLite's virtual machine between two checks of the time limit.
const STEPS: i32 = 10_000;
/// Largest result in bytes; it is held in memory.
const MOST: usize = 1_000_000_000;
/// Largest string or blob of a result, in bytes.
const MOST_OF_ONE: i32 = 64_000_000;

/// Why a statement is rejected or fails.
#[derive(Debug, Error)]
pub enum QueryError {
    /// It is not a SELECT.
    #[error("'{word}' is not allowed: expected one SELECT statement")]
    NotAQuestion {
        /// Its first word.
        word: String,
    },
    /// There are several statements.
    #[error("expected one statement, found several")]
    Several,
    /// It does not parse, or names a table or column that does not exist.
    #[error("the query failed: {0}")]
    Failed(String),
    /// The result is too large.
    #[error("the result exceeds {} MB", most / 1_000_000)]
    TooLarge {
        /// Largest result in bytes.
        most: usize,
    },
    /// It took too long.
    #[error("the query exceeded its limit of {} s", after.as_secs())]
    TimeOut {
        /// The time limit.
        after: Duration,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs one SELECT. The connection is read-only. Errors: see [`QueryError`].
pub async fn query(database: impl Into<Database>, sql: &str, limit: Duration) -> Result<Frame, QueryError> {
    let database = database.into();
    let path = database.file();
    check(sql)?;
    // Reports a faulty file with its own error message.
    Store::open_to_read(&database).await?.close().await;
    let failed = |error: sqlx::Error| StoreError::Open { path: path.to_owned(), source: error };
    let mut connection = reading(path).read_only(true).connect().await.map_err(failed)?;
    // A deadline beyond the clock's range is no deadline.
    let deadline =
        Instant::now().checked_add(limit).unwrap_or_else(|| Instant::now() + Duration::from_secs(1 << 30));
    let mut handle = connection.lock_handle().await.map_err(failed)?;
    handle.set_progress_handler(STEPS, move || Instant::now() < deadline);
    limit_values(&mut handle, MOST_OF_ONE);
    drop(handle);
    let answer = answer(&mut connection, sql, MOST).await;
    // Errors on closing do not matter: the result is complete.
    let _ = connection.close().await;
    let frame = answer.map_err(|error| match error {
        _ if Instant::now() >= deadline => QueryError::TimeOut { after: limit },
        sqlx::Error::Database(error) => QueryError::Failed(error.message().to_owned()),
        error => QueryError::Failed(error.to_string()),
    })?;
    frame.ok_or(QueryError::TooLarge { most: MOST })
}

/// The result; none if it is larger than `most` bytes.
async fn answer(
    connection: &mut SqliteConnection,
    sql: &str,
    most: usize,
) -> Result<Option<Frame>, sqlx::Error> {
    use futures_util::TryStreamExt;
    use sqlx::Executor;
    // Prepared, not described: describing would run the statement once more.
    let sql = AssertSqlSafe(sql).into_sql_str();
    let prepared = (&mut *connection).prepare(sql.clone()).await;
    let names = |columns: &[sqlx::sqlite::SqliteColumn]| {
        columns.iter().map(|column| column.name().to_owned()).collect()
    };
    let mut frame = Frame {
        columns: prepared.map(|statement| names(statement.columns())).unwrap_or_default(),
        rows: Vec::new(),
    };
    let mut size = 0;
    let mut rows = sqlx::query(sql).fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        if frame.rows.is_empty() {
            frame.columns = names(row.columns());
        }
        let row = read_row(&row)?;
        size += row.iter().map(Datum::size).sum::<usize>();
        if size > most {
            return Ok(None);
        }
        frame.rows.push(row);
    }
    drop(rows);
    Ok(Some(frame))
}

fn read_row(row: &SqliteRow) -> Result<Vec<Datum>, sqlx::Error> {
    (0..row.len()).map(|at| read_datum(row, at)).collect()
}

pub(in crate::store) fn read_datum(row: &SqliteRow, at: usize) -> Result<Datum, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(Datum::Null);
    }
    let kind = value.type_info().name().to_owned();
    Ok(match kind.as_str() {
        "REAL" => Datum::Real(row.try_get_unchecked(at)?),
        "INTEGER" | "BOOLEAN" | "NUMERIC" => Datum::Integer(row.try_get_unchecked(at)?),
        "BLOB" => {
            let bytes: Vec<u8> = row.try_get_unchecked(at)?;
            Datum::Text(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        _ => Datum::Text(row.try_get_unchecked(at)?),
    })
}

/// Rejects everything but one SELECT before SQLite sees it. The read-only connection prevents anything else that a SELECT could do.
fn check(sql: &str) -> Result<(), QueryError> {
    let bare = without_comments_and_texts(sql);
    let mut statements = bare.split(';').map(str::trim).filter(|part| !part.is_empty());
    let first = statements.next().unwrap_or_default();
    let word =
        first.split(|c: char| !c.is_ascii_alphabetic()).find(|word| !word.is_empty()).unwrap_or_default();
    if !["select", "with", "values", "explain"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) {
        return Err(QueryError::NotAQuestion { word: word.to_owned() });
    }
    if statements.next().is_some() { Err(QueryError::Several) } else { Ok(()) }
}

/// The statement with blanks for comments, strings and quoted names, so that their characters are ignored.
fn without_comments_and_texts(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '\'' | '"' | '`' => rest[1..].find(c).map(|at| at + 2),
            '[' => rest.find(']').map(|at| at + 1),
            '-' if rest.starts_with("--") => rest.find('\n'),
            '/' if rest.starts_with("/*") => rest[2..].find("*/").map(|at| at + 4),
            _ => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        out.push(' ');
        rest = end.map_or("", |end| &rest[end..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_is_answered_and_nothing_else() {
        for sql in
            ["SELECT 1", " with a AS (SELECT ';') select * from a ; ", "-- why;\nVALUES (1)", "(SELECT 1)"]
        {
            assert!(check(sql).is_ok(), "{sql}");
        }
        for sql in [
            "",
            "UPDATE jobs SET state = 'done'",
            "ATTACH 'x' AS y",
            "PRAGMA user_version",
            "/* SELECT */ DROP TABLE jobs",
        ] {
            assert!(matches!(check(sql), Err(QueryError::NotAQuestion { .. })), "{sql}");
        }
        assert!(matches!(check("SELECT 1; DELETE FROM jobs"), Err(QueryError::Several)));
    }

    #[tokio::test]
    async fn a_statement_that_would_write_or_take_for_ever_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        Store::open(&path).await.unwrap().close().await;
        let long = Duration::from_secs(30);
        let found = query(&path, "SELECT 1 AS a, 0.5, 'x', NULL, x'00ff'", long).await.unwrap();
        assert_eq!(found.columns[0], "a");
        let text = |text: &str| Datum::Text(text.to_owned());
        assert_eq!(found.rows, [[Datum::Integer(1), Datum::Real(0.5), text("x"), Datum::Null, text("00ff")]]);
        let written = query(&path, "WITH a AS (SELECT 1) INSERT INTO sweeps SELECT 1, 'a', 0", long).await;
        assert!(matches!(&written, Err(QueryError::Failed(why)) if why.contains("readonly")), "{written:?}");
        let missing = query(&path, "SELECT nonsense FROM runs", long).await;
        assert!(
            matches!(&missing, Err(QueryError::Failed(why)) if why.contains("no such column: nonsense")),
            "{missing:?}"
        );
        let endless =
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n";
        let late = query(&path, endless, Duration::from_millis(50)).await;
        assert!(matches!(late, Err(QueryError::TimeOut { .. })), "{late:?}");
        let ever = query(&path, "SELECT 1", Duration::from_secs(u64::MAX)).await;
        assert_eq!(ever.unwrap().rows, [[Datum::Integer(1)]]);
        let mut connection =
            sqlx::sqlite::SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        let rows = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n";
        assert_eq!(answer(&mut connection, rows, 10_000).await.unwrap(), None);
    }
}
