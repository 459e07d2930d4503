//! `--where`: the jobs in which a condition holds.

use std::ops::Range;

use thiserror::Error;

use crate::job::{Origin, Settings, ValueType, find_key};
use crate::spec::{Expression, ExpressionError};
use crate::store::{BoardJob, Leaderboard};

/// A condition that cannot be asked.
#[derive(Debug, Error)]
pub enum FilterError {
    /// It is not understood.
    #[error("{error}")]
    Text {
        /// What is wrong.
        error: ExpressionError,
        /// The bytes of the text that it is about.
        span: Range<usize>,
    },
    /// Its value is not true or false.
    #[error("the condition is neither true nor false: it is a value")]
    NotBool,
}

/// Keeps the jobs of the grid in which the condition holds; one that lacks a key of it does not count. Base models and imported
/// results stay. The jobs' settings must have been read. Errors: see [`FilterError`].
pub fn keep_where(board: &mut Leaderboard, condition: &str) -> Result<(), FilterError> {
    let expression = parsed(condition)?;
    let keys = expression.keys();
    board.jobs.retain(|job| !job.is_cell() || expression.holds(&settings_of(job, &keys)).unwrap_or(false));
    Ok(())
}

/// The keys that a condition names. Errors: see [`FilterError`].
pub fn condition_keys(condition: &str) -> Result<Vec<&'static str>, FilterError> {
    Ok(parsed(condition)?.keys())
}

fn parsed(condition: &str) -> Result<Expression, FilterError> {
    let expression =
        Expression::parse(condition).map_err(|(error, span)| FilterError::Text { error, span })?;
    if expression.value_type() == ValueType::Bool { Ok(expression) } else { Err(FilterError::NotBool) }
}

fn settings_of(job: &BoardJob, keys: &[&'static str]) -> Settings {
    let mut settings = Settings::new();
    for path in keys {
        if let (Some(key), Some(value)) = (find_key(path), job.settings.get(*path)) {
            settings.set(key, value.clone(), Origin::Default);
        }
    }
    settings
}
