//! `--where`: the jobs in which a condition holds.

use std::collections::HashMap;
use std::ops::Range;

use thiserror::Error;

use crate::job::{Value, ValueType};
use crate::store::{BoardJob, Leaderboard};
use crate::sweep_file::{Expression, ExpressionError, Scope};
use crate::task::MetricName;

/// An invalid condition.
#[derive(Debug, Error)]
pub enum FilterError {
    /// It does not parse.
    #[error("{error}")]
    Text {
        /// The error.
        error: ExpressionError,
        /// Its byte range in the condition.
        span: Range<usize>,
    },
    /// Its value is not true or false.
    #[error("the condition is neither true nor false: it is a value")]
    NotBool,
}

/// A condition on a board's jobs: on keys of the sweep file and on scores, by `task` or `task:metric`.
#[derive(Debug, Clone)]
pub struct Condition {
    expression: Expression,
    scores: HashMap<String, MetricName>,
}

impl Condition {
    /// Parses a condition on the jobs of a board. Errors: see [`FilterError`].
    pub fn parse(text: &str, board: &Leaderboard) -> Result<Self, FilterError> {
        let is_score = |name: &str| board.metric_named(name).is_ok();
        let expression = Expression::parse_with(text, &is_score)
            .map_err(|(error, span)| FilterError::Text { error, span })?;
        if expression.value_type() != ValueType::Bool {
            return Err(FilterError::NotBool);
        }
        let named = |name: &str| Some((name.to_owned(), board.metric_named(name).ok()?));
        let scores = expression.scores().into_iter().filter_map(named).collect();
        Ok(Self { expression, scores })
    }

    /// The keys that it reads.
    pub fn keys(&self) -> Vec<&'static str> {
        self.expression.keys()
    }

    /// The scores that it reads.
    pub fn metrics(&self) -> impl Iterator<Item = &MetricName> {
        self.scores.values()
    }

    /// Keeps the grid jobs that meet the condition. A missing key, a number that is not finite, or a score of a diverged training fails
    /// it. Base models and imported results stay. The jobs' settings and scores must have been read.
    pub fn keep(&self, board: &mut Leaderboard) {
        let holds =
            |job: &BoardJob| self.expression.holds(&OfJob { job, scores: &self.scores }).unwrap_or(false);
        board.jobs.retain(|job| !job.is_cell() || holds(job));
    }
}

/// The values of a condition's names in a job.
struct OfJob<'a> {
    job: &'a BoardJob,
    scores: &'a HashMap<String, MetricName>,
}

impl Scope for OfJob<'_> {
    fn setting(&self, path: &str) -> Option<&Value> {
        self.job.settings.get(path)
    }

    fn score(&self, name: &str) -> Option<f64> {
        let MetricName { task, metric } = self.scores.get(name)?;
        Some(self.job.ranked_score(task, *metric)?.value)
    }
}
