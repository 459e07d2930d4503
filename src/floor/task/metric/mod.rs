//! Computes metrics from the model's results on a document's requests, and their aggregates over documents.

pub(in crate::task) mod additive;
pub(in crate::task) mod aggregate;
pub(in crate::task) mod kind;
pub(in crate::task) mod name;
pub(in crate::task) mod score;

pub use additive::{Additive, column_of};
pub use aggregate::{Aggregate, DocumentValue, aggregate};
pub use kind::{Aggregation, Metric, TaskMetric};
pub use name::MetricName;
pub use score::{RequestScore, score_document, score_requests_of};
