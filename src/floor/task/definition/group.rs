//! Task groups and their aggregates.

use crate::task::dialect::yaml::Node;
use crate::task::metric::aggregate::Aggregate;
use crate::task::metric::kind::Metric;

/// A group's metric over its tasks: always the mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetric {
    /// The metric.
    pub metric: String,
    /// Over these filters; none: over every filter of a task.
    pub filters: Option<Vec<String>>,
    /// Whether tasks are weighted by their documents.
    pub weight_by_size: bool,
}

/// A task by its index in the selection, or a nested group.
#[derive(Debug, Clone, PartialEq)]
pub enum Member {
    /// A task.
    Task(usize),
    /// A group.
    Group(Group),
}

/// A group of tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name; `parent::name` for a nested group.
    pub name: String,
    /// Its display name.
    pub alias: String,
    /// lm_eval's version, as a string.
    pub version: String,
    /// Its tasks and groups.
    pub members: Vec<Member>,
    /// Its metrics over all of its tasks.
    pub metrics: Vec<GroupMetric>,
    /// The file as shown in lm_eval's results.
    pub config: serde_json::Value,
}

/// A value of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupValue {
    /// The metric.
    pub metric: Metric,
    /// The filter.
    pub filter: String,
    /// Mean over tasks.
    pub value: f64,
    /// Its standard error, if each task has one.
    pub stderr: Option<f64>,
    /// Documents of the tasks with the metric.
    pub documents: u64,
}

/// A task's metrics and filters, for its group.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// Its metrics.
    pub aggregates: &'a [Aggregate],
    /// Its filters.
    pub filters: &'a [String],
}

impl Leaf<'_> {
    /// The aggregate of a metric after a filter. The filters of log-likelihoods change nothing: one aggregate is that of each.
    fn aggregate(&self, metric: Metric, filter: &String) -> Option<Aggregate> {
        let of =
            |wanted: Metric| self.aggregates.iter().find(|aggregate| aggregate.metric == wanted).copied();
        let is_filtered = self.aggregates.iter().any(|aggregate| aggregate.metric != aggregate.metric.base());
        let plain = || of(metric).filter(|_| !is_filtered && self.filters.contains(filter));
        of(metric.after(filter)).filter(|_| is_filtered).or_else(plain)
    }
}

impl Group {
    /// A group without members from its file's map. Error: an aggregation other than the mean, an entry without a metric.
    pub(in crate::task) fn shell(name: &str, node: &Node) -> Result<Self, String> {
        let entries: Vec<&Node> = match node.get("aggregate_metric_list") {
            Some(Node::List(entries)) => entries.iter().collect(),
            Some(entry) => vec![entry],
            None => Vec::new(),
        };
        let metric = |entry: &&Node| {
            if let Some(other) = entry.get("aggregation").filter(|node| node.text() != Some("mean")) {
                return Err(format!("aggregate_metric_list: the aggregation {} is not known", other.json()));
            }
            let filters = match entry.get("filter_list") {
                Some(Node::List(names)) => Some(names.iter().filter_map(Node::scalar).collect()),
                Some(filter) => Some(filter.scalar().into_iter().collect()),
                None => None,
            };
            let metric = entry.get("metric").and_then(Node::scalar);
            let metric = metric.ok_or("aggregate_metric_list: an entry has no metric")?;
            let weight_by_size = !matches!(entry.get("weight_by_size"), Some(Node::Bool(false)));
            Ok(GroupMetric { metric, filters, weight_by_size })
        };
        let version =
            node.get("metadata").and_then(|metadata| metadata.get("version")).and_then(Node::scalar);
        Ok(Self {
            name: name.to_owned(),
            alias: node.get("group_alias").and_then(Node::scalar).unwrap_or_else(|| name.to_owned()),
            version: version.unwrap_or_else(|| "N/A".to_owned()),
            members: Vec::new(),
            metrics: entries.iter().map(metric).collect::<Result<_, String>>()?,
            config: node.json(),
        })
    }

    /// The indices of all its tasks, nested groups included.
    pub fn tasks(&self) -> Vec<usize> {
        let numbers = |member: &Member| match member {
            Member::Task(number) => vec![*number],
            Member::Group(group) => group.tasks(),
        };
        self.members.iter().flat_map(numbers).collect()
    }

    /// The group and all nested groups, each before its own nested groups.
    pub fn groups(&self) -> Vec<&Group> {
        let mut all = vec![self];
        for member in &self.members {
            if let Member::Group(group) = member {
                all.extend(group.groups());
            }
        }
        all
    }

    /// The group's metrics over all its tasks; `leaf` returns a task's aggregates. Tasks without a metric are excluded
    /// from it. The pooled standard error is lm_eval's: √(Σ (nᵢ−1)·sᵢ²·nᵢ / (N−k) / N); without weights √(Σ sᵢ²)/k.
    pub fn values<'a>(&self, leaf: impl Fn(usize) -> Leaf<'a>) -> Vec<GroupValue> {
        let leaves: Vec<Leaf<'_>> = self.tasks().into_iter().map(leaf).collect();
        let mut values = Vec::new();
        for wanted in &self.metrics {
            let Some(metric) = Metric::named(&wanted.metric) else { continue };
            let has = |leaf: &Leaf<'a>, filter: &String| leaf.aggregate(metric, filter);
            let of_leaf = |leaf: &Leaf<'a>| {
                let filters: Vec<String> =
                    leaf.filters.iter().filter(|filter| has(leaf, filter).is_some()).cloned().collect();
                filters
            };
            let mut filters: Vec<String> = match &wanted.filters {
                Some(filters) => filters.clone(),
                None => leaves.iter().flat_map(of_leaf).collect(),
            };
            if wanted.filters.is_none() {
                filters.sort_unstable();
                filters.dedup();
            }
            for filter in filters {
                let aggregates: Vec<Aggregate> =
                    leaves.iter().filter_map(|leaf| has(leaf, &filter)).collect();
                if let Some(value) = combine(metric, filter, &aggregates, wanted.weight_by_size) {
                    values.push(value);
                }
            }
        }
        values
    }
}

/// The group value of one metric's aggregates; none if there are none. See [`Group::values`].
pub fn combine(
    metric: Metric,
    filter: String,
    aggregates: &[Aggregate],
    weighted: bool,
) -> Option<GroupValue> {
    let sum = |of: &dyn Fn(&Aggregate) -> f64| aggregates.iter().map(of).sum::<f64>();
    let size = |aggregate: &Aggregate| aggregate.documents as f64;
    let (count, all) = (aggregates.len() as f64, sum(&size));
    if aggregates.is_empty() {
        return None;
    }
    let value = if weighted {
        sum(&|aggregate| aggregate.value * size(aggregate)) / all
    } else {
        sum(&|aggregate| aggregate.value) / count
    };
    let squares = |weight: &dyn Fn(&Aggregate) -> f64| {
        aggregates
            .iter()
            .map(|aggregate| aggregate.stderr.map(|error| weight(aggregate) * error.powi(2)))
            .sum::<Option<f64>>()
    };
    let stderr = if weighted {
        squares(&|aggregate| (size(aggregate) - 1.0) * size(aggregate))
            .map(|pooled| (pooled / (all - count) / all).sqrt())
    } else {
        squares(&|_| 1.0).map(|sum| sum.sqrt() / count)
    };
    let documents = aggregates.iter().map(|aggregate| aggregate.documents).sum();
    Some(GroupValue { metric, filter, value, stderr, documents })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aggregate(value: f64, documents: u64, stderr: Option<f64>) -> Aggregate {
        Aggregate { metric: Metric::Acc, value, stderr, documents }
    }

    #[test]
    fn tasks_count_by_their_documents_or_alike() {
        let aggregates = [aggregate(0.4, 20, Some(0.1)), aggregate(0.8, 5, Some(0.2))];
        let weighted = combine(Metric::Acc, "none".into(), &aggregates, true).unwrap();
        assert!((weighted.value - 0.48).abs() < 1e-15);
        assert!((weighted.stderr.unwrap() - 0.089_442_719_099_991_59).abs() < 1e-15);
        let alike = combine(Metric::Acc, "none".into(), &aggregates, false).unwrap();
        assert!((alike.value - 0.6).abs() < 1e-15);
        assert!((alike.stderr.unwrap() - 0.111_803_398_874_989_5).abs() < 1e-15);
        assert_eq!(weighted.documents, 25);
        let unknown = [aggregate(0.4, 20, Some(0.1)), aggregate(0.8, 1, None)];
        assert_eq!(combine(Metric::Acc, "none".into(), &unknown, true).unwrap().stderr, None);
    }
}
