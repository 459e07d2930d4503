//! `task:metric`, a task's metric as named by users and sweep files.

use serde::Serialize;

use super::kind::Metric;

/// A task or group and one of its metrics, `task:metric`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MetricName {
    /// The task or group.
    pub task: String,
    /// The metric.
    pub metric: Metric,
}

impl MetricName {
    /// A task's metric.
    pub fn new(task: &str, metric: Metric) -> Self {
        Self { task: task.to_owned(), metric }
    }

    /// Parses `task:metric`; a bare task has no metric.
    pub fn split(text: &str) -> (&str, Option<&str>) {
        text.split_once(':').map_or((text, None), |(task, metric)| (task, Some(metric)))
    }
}

impl Metric {
    /// The metric with this name among a task's; without a name the first, and without a filter the first of those that have one.
    pub fn among(metrics: impl IntoIterator<Item = Self>, name: Option<&str>) -> Option<Self> {
        let metrics: Vec<Self> = metrics.into_iter().collect();
        let Some(name) = name else { return metrics.first().copied() };
        let of = |is_named: &dyn Fn(&Self) -> bool| metrics.iter().copied().find(is_named);
        of(&|metric| metric.as_str() == name).or_else(|| of(&|metric| metric.base().as_str() == name))
    }
}

impl std::fmt::Display for MetricName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.task, self.metric.as_str())
    }
}
