//! Tasks in lm_eval's YAML: parsing, checked definitions, requests, document scores and aggregates.

mod catalogue;
mod definition;
mod dialect;
mod error;
mod metric;
mod prompt;

pub use catalogue::{Catalogue, Selection};
pub use definition::{
    Document, Fields, Gold, Group, GroupMetric, GroupValue, Leaf, Member, OutputType, Pool, Published,
    RowStep, Sampler, Scoring, Shots, Subset, Task, TaskDocuments, combine,
};
pub use dialect::{Check, Field, Refusal, TaskIndex, TaskSpec, function};
pub use error::TaskError;
pub use metric::{
    Additive, Aggregate, Aggregation, DocumentValue, Metric, MetricName, RequestScore, TaskMetric, aggregate,
    column_of, score_document,
};
pub use prompt::{
    ChatForm, EncodedRequest, Prompting, Request, RequestEncoder, build_documents, count_documents,
};
