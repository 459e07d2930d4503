//! From what a model says of a document's requests to a metric's value, and from documents to their aggregate.

pub(in crate::task) mod additive;
pub(in crate::task) mod aggregate;
pub(in crate::task) mod kind;
pub(in crate::task) mod name;
pub(in crate::task) mod score;

pub use additive::{Additive, column_of};
pub use aggregate::{Aggregate, DocumentValue, aggregate};
pub use kind::{Aggregation, Metric, TaskMetric};
pub use name::MetricName;
pub use score::{RequestScore, score_document};
