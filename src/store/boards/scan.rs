//! Bulk reads. Passing a row from SQLite's thread to ours costs about two microseconds, more than ten times the cost of finding it. A
//! leaderboard of ten thousand runs is therefore read by SQLite's own cursor on the calling thread. This is the only `unsafe` code in
//! this module.

use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::ptr::NonNull;

use libsqlite3_sys as sqlite;
use serde::de::DeserializeOwned;
use sqlx::sqlite::LockedSqliteHandle;

use crate::store::error::StoreError;
use crate::store::open::Store;

/// Limits strings and blobs on a connection to this many bytes: a single step that creates one cannot be interrupted.
pub(in crate::store) fn limit_values(locked: &mut LockedSqliteHandle<'_>, bytes: i32) {
    // SAFETY: the connection is open while it is locked; the call only sets a number.
    unsafe { sqlite::sqlite3_limit(locked.as_raw_handle().as_ptr(), sqlite::SQLITE_LIMIT_LENGTH, bytes) };
}

/// A value for one of a statement's parameters, `?1` first.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Bound<'a> {
    Integer(i64),
    Text(&'a str),
}

impl Store {
    /// Calls `take` with each row of a SELECT, in order. Errors: those of SQLite, and those of `take`, which end the scan.
    pub(in crate::store) async fn scan(
        &self,
        sql: &str,
        bound: &[Bound<'_>],
        mut take: impl FnMut(&Line<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut locked = connection.lock_handle().await?;
        let mut cursor = Cursor::open(&mut locked, sql, bound)?;
        while let Some(line) = cursor.next()? {
            take(&line)?;
        }
        Ok(())
    }
}

/// A statement that is being read. It must not outlive the lock on its connection or the bound values.
struct Cursor<'c> {
    connection: NonNull<sqlite::sqlite3>,
    statement: NonNull<sqlite::sqlite3_stmt>,
    lives: PhantomData<&'c str>,
}

impl<'c> Cursor<'c> {
    fn open(
        locked: &'c mut LockedSqliteHandle<'_>,
        sql: &str,
        bound: &'c [Bound<'c>],
    ) -> Result<Self, StoreError> {
        // To SQLite `$1` is a name, numbered by its first occurrence.
        if sql.contains('$') {
            return Err(sqlx::Error::Protocol(format!("a place is written ?1: {sql}")).into());
        }
        let connection = locked.as_raw_handle();
        let mut statement = std::ptr::null_mut();
        // SAFETY: the connection is open and locked for this thread, and the string has the length that is passed.
        let code = unsafe {
            sqlite::sqlite3_prepare_v3(
                connection.as_ptr(),
                sql.as_ptr().cast(),
                length(sql)?,
                0,
                &raw mut statement,
                std::ptr::null_mut(),
            )
        };
        let Some(statement) = NonNull::new(statement).filter(|_| code == sqlite::SQLITE_OK) else {
            return Err(failed(connection));
        };
        let cursor = Self { connection, statement, lives: PhantomData };
        // SAFETY: the statement is prepared.
        let places = unsafe { sqlite::sqlite3_bind_parameter_count(statement.as_ptr()) };
        if usize::try_from(places).ok() != Some(bound.len()) {
            let message = format!("{places} places for {} values", bound.len());
            return Err(sqlx::Error::Protocol(message).into());
        }
        for (value, place) in bound.iter().zip(1..) {
            // SAFETY: the string is borrowed for longer than the cursor lives, so SQLite need not copy it.
            let code = unsafe {
                match value {
                    Bound::Integer(number) => sqlite::sqlite3_bind_int64(statement.as_ptr(), place, *number),
                    Bound::Text(text) => sqlite::sqlite3_bind_text(
                        statement.as_ptr(),
                        place,
                        text.as_ptr().cast(),
                        length(text)?,
                        sqlite::SQLITE_STATIC(),
                    ),
                }
            };
            if code != sqlite::SQLITE_OK {
                return Err(failed(connection));
            }
        }
        Ok(cursor)
    }

    /// The next row, until the end.
    fn next(&mut self) -> Result<Option<Line<'_>>, StoreError> {
        // SAFETY: the statement is prepared, and no earlier line is alive: it would borrow the cursor.
        match unsafe { sqlite::sqlite3_step(self.statement.as_ptr()) } {
            sqlite::SQLITE_ROW => Ok(Some(Line { statement: self.statement, row: PhantomData })),
            sqlite::SQLITE_DONE => Ok(None),
            _ => Err(failed(self.connection)),
        }
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        // SAFETY: it was prepared, and is not used any more.
        unsafe { sqlite::sqlite3_finalize(self.statement.as_ptr()) };
    }
}

/// A row. Values are read in their stored type: a conversion could move the strings that were already returned.
pub(in crate::store) struct Line<'c> {
    statement: NonNull<sqlite::sqlite3_stmt>,
    row: PhantomData<&'c ()>,
}

impl Line<'_> {
    fn kind(&self, column: c_int) -> c_int {
        // SAFETY: the statement is at a row; for a column out of range SQLite returns null.
        unsafe { sqlite::sqlite3_column_type(self.statement.as_ptr(), column) }
    }

    /// An integer, or null.
    pub(in crate::store) fn maybe_integer(&self, column: c_int) -> Result<Option<i64>, StoreError> {
        match self.kind(column) {
            sqlite::SQLITE_NULL => Ok(None),
            // SAFETY: as in `kind`.
            sqlite::SQLITE_INTEGER => {
                Ok(Some(unsafe { sqlite::sqlite3_column_int64(self.statement.as_ptr(), column) }))
            }
            _ => Err(other("no whole number", column)),
        }
    }

    /// An integer.
    pub(in crate::store) fn integer(&self, column: c_int) -> Result<i64, StoreError> {
        self.maybe_integer(column)?.ok_or_else(|| other("no whole number", column))
    }

    /// A number, or null.
    pub(in crate::store) fn maybe_real(&self, column: c_int) -> Result<Option<f64>, StoreError> {
        match self.kind(column) {
            sqlite::SQLITE_NULL => Ok(None),
            // SAFETY: as in `kind`; an integer is read as the same number.
            sqlite::SQLITE_FLOAT | sqlite::SQLITE_INTEGER => {
                Ok(Some(unsafe { sqlite::sqlite3_column_double(self.statement.as_ptr(), column) }))
            }
            _ => Err(other("no number", column)),
        }
    }

    /// A string, or null.
    pub(in crate::store) fn maybe_text(&self, column: c_int) -> Result<Option<&str>, StoreError> {
        match self.kind(column) {
            sqlite::SQLITE_NULL => Ok(None),
            sqlite::SQLITE_TEXT => {
                // SAFETY: as in `kind`; the string is valid until the next step, before which this line must be dropped.
                let bytes = unsafe {
                    let start = sqlite::sqlite3_column_text(self.statement.as_ptr(), column);
                    let bytes = sqlite::sqlite3_column_bytes(self.statement.as_ptr(), column);
                    match (start.is_null(), usize::try_from(bytes)) {
                        (false, Ok(bytes)) => std::slice::from_raw_parts(start, bytes),
                        _ => &[],
                    }
                };
                std::str::from_utf8(bytes).map(Some).map_err(|_| other("a text that is not UTF-8", column))
            }
            _ => Err(other("no text", column)),
        }
    }

    /// A string.
    pub(in crate::store) fn text(&self, column: c_int) -> Result<&str, StoreError> {
        self.maybe_text(column)?.ok_or_else(|| other("no text", column))
    }

    /// A string that holds JSON.
    pub(in crate::store) fn json<T: DeserializeOwned>(&self, column: c_int) -> Result<T, StoreError> {
        let text = self.text(column)?;
        serde_json::from_str(text).map_err(|_| StoreError::Value { what: "JSON", value: text.to_owned() })
    }
}

fn other(what: &'static str, column: c_int) -> StoreError {
    StoreError::Value { what, value: format!("column {}", column + 1) }
}

fn length(text: &str) -> Result<c_int, StoreError> {
    c_int::try_from(text.len()).map_err(|_| sqlx::Error::Protocol("a text is too long".to_owned()).into())
}

/// SQLite's error of its last call.
fn failed(connection: NonNull<sqlite::sqlite3>) -> StoreError {
    // SAFETY: the connection is open; its message is a C string until the next call, and is copied before.
    let message = unsafe { CStr::from_ptr(sqlite::sqlite3_errmsg(connection.as_ptr())) };
    sqlx::Error::Protocol(message.to_string_lossy().into_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("a.db")).await.unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn rows_come_as_they_are_stored_and_values_are_bound() {
        let (_folder, store) = store().await;
        let sql = "WITH n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?2)
                   SELECT x, x / 8.0, 'é' || ?1 || x, NULL, json_array(x) FROM n";
        let mut found = Vec::new();
        let bound = [Bound::Text("a'b"), Bound::Integer(3)];
        store
            .scan(sql, &bound, |line| {
                assert_eq!(line.maybe_real(3)?, None);
                assert_eq!(line.json::<Vec<i64>>(4)?, [line.integer(0)?]);
                found.push((line.integer(0)?, line.maybe_real(1)?.unwrap(), line.text(2)?.to_owned()));
                Ok(())
            })
            .await
            .unwrap();
        let row = |x: i64| (x, x as f64 / 8.0, format!("éa'b{x}"));
        assert_eq!(found, [row(1), row(2), row(3)]);
    }

    #[tokio::test]
    async fn a_value_of_another_kind_and_a_statement_that_fails_are_errors_and_the_connection_goes_on() {
        let (_folder, store) = store().await;
        let wrong = store.scan("SELECT 'x', x'ff'", &[], |line| line.integer(0).map(|_| ())).await;
        assert!(matches!(wrong, Err(StoreError::Value { what: "no whole number", .. })), "{wrong:?}");
        let wrong = store.scan("SELECT CAST(x'ff' AS TEXT)", &[], |line| line.text(0).map(|_| ())).await;
        assert!(matches!(wrong, Err(StoreError::Value { .. })), "{wrong:?}");
        let missing = store.scan("SELECT nonsense FROM runs", &[], |_| Ok(())).await.unwrap_err();
        assert!(missing.to_string().contains("no such column: nonsense"), "{missing}");
        let unnamed = store.scan("SELECT ?1", &[Bound::Integer(1), Bound::Integer(2)], |_| Ok(())).await;
        assert!(unnamed.unwrap_err().to_string().contains("1 places for 2 values"));
        let named = store.scan("SELECT $1", &[Bound::Integer(1)], |_| Ok(())).await;
        assert!(named.unwrap_err().to_string().contains("a place is written ?1"));
        let nothing = store.scan("", &[], |_| Ok(())).await;
        assert!(nothing.is_err());
        let mut rows = 0;
        store
            .scan("SELECT 1 UNION ALL SELECT 2", &[], |_| {
                rows += 1;
                Ok(())
            })
            .await
            .unwrap();
        assert_eq!(rows, 2);
    }
}
