//! Which parts of a leaderboard are shown, and in which order.

use thiserror::Error;

use crate::store::Leaderboard;
use crate::task::{Metric, MetricName};

/// A metric that a sweep does not score.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the sweep has no scores of '{wanted}'")]
pub struct UnknownMetric {
    /// The requested metric.
    pub wanted: String,
    /// The metrics that it scores.
    pub known: Vec<String>,
}

/// The sort order of rows; base models always come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sort {
    /// The view's metric, best first.
    Rank,
    /// Loss of the last window.
    Loss,
    /// Seconds of training.
    Time,
    /// Peak memory.
    Memory,
    /// Parameters of the adapter.
    Trainable,
    /// A key's value, in numeric order for numbers.
    Key(String),
}

/// A column other than the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoardColumn {
    /// Difference in the ranking metric from the base model.
    Difference,
    /// Parameters of the adapter.
    Trainable,
    /// Loss of the last window.
    Loss,
    /// Seconds of training.
    Time,
    /// Peak memory.
    Memory,
    /// Jobs of the row.
    Seeds,
    /// The state of its jobs.
    State,
    /// Why they failed or diverged.
    Reason,
    /// Their ids.
    Jobs,
    /// A key's value.
    Key(String),
}

impl BoardColumn {
    /// The column of this name: a built-in one, else a key.
    pub fn named(name: &str) -> Self {
        match name {
            "difference" => Self::Difference,
            "trainable" => Self::Trainable,
            "loss" => Self::Loss,
            "time" => Self::Time,
            "memory" => Self::Memory,
            "n" => Self::Seeds,
            "state" => Self::State,
            "reason" => Self::Reason,
            "jobs" => Self::Jobs,
            key => Self::Key(key.to_owned()),
        }
    }
}

impl Sort {
    /// The sort order of this name if it is not a metric: a built-in one, else a key.
    pub fn named(name: &str) -> Self {
        match name {
            "loss" => Self::Loss,
            "time" => Self::Time,
            "memory" => Self::Memory,
            "trainable" => Self::Trainable,
            key => Self::Key(key.to_owned()),
        }
    }
}

/// Which parts of a leaderboard are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardView {
    /// Jobs with equal values of these keys are one row.
    pub keys: Vec<String>,
    /// Whether these rows are coarser than grid cells.
    pub grouped: bool,
    /// The metrics that have a column.
    pub metrics: Vec<MetricName>,
    /// Whether these were requested by name.
    pub metrics_named: bool,
    /// The metric that decides which row is best.
    pub rank: Option<MetricName>,
    /// The order of the rows.
    pub sort: Sort,
    /// The other columns; none: the default ones.
    pub columns: Option<Vec<BoardColumn>>,
}

impl BoardView {
    /// The default view: cells, the first metric of each task, ranked by the objective.
    pub fn of(board: &Leaderboard) -> Self {
        let rank = board.objective.as_ref().map(|(task, metric)| MetricName::new(task, *metric));
        let mut metrics: Vec<MetricName> = Vec::new();
        let shown = |task: &String| {
            let (_, metrics) = board.metrics.iter().find(|(known, _)| known == task)?;
            let wanted = rank.as_ref().filter(|name| name.task == *task).map(|name| name.metric);
            Some(MetricName::new(task, wanted.or(metrics.first().copied())?))
        };
        metrics.extend(board.tasks.iter().filter_map(shown));
        // A task within a group may be the objective although only the group is shown.
        if let Some(rank) = rank.as_ref().filter(|rank| !metrics.contains(rank)) {
            metrics.insert(0, rank.clone());
        }
        Self {
            keys: board.axes.iter().filter(|axis| *axis != "seed").cloned().collect(),
            grouped: false,
            metrics,
            metrics_named: false,
            rank,
            sort: Sort::Rank,
            columns: None,
        }
    }
}

impl Leaderboard {
    /// The metric that `task` or `task:metric` names; a bare task means its first metric. Error: the sweep does not score it.
    pub fn metric_named(&self, wanted: &str) -> Result<MetricName, UnknownMetric> {
        let (task, metric) = MetricName::split(wanted);
        let metrics =
            self.metrics.iter().find(|(known, _)| known == task).map(|(_, metrics)| metrics.as_slice());
        let metrics = metrics.unwrap_or_default();
        let found = Metric::among(metrics.iter().copied(), metric);
        found.map(|metric| MetricName::new(task, metric)).ok_or_else(|| UnknownMetric {
            wanted: wanted.to_owned(),
            known: self.metric_names().iter().map(ToString::to_string).collect(),
        })
    }

    /// Every metric that the sweep scores.
    pub fn metric_names(&self) -> Vec<MetricName> {
        let of = |(task, metrics): &(String, Vec<Metric>)| {
            metrics.iter().map(|metric| MetricName::new(task, *metric)).collect::<Vec<_>>()
        };
        self.metrics.iter().flat_map(of).collect()
    }
}
