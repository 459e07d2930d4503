//! Tasks in lm_eval's YAML: parsing, checked definitions, requests, document scores and aggregates.

mod catalogue;
mod definition;
mod dialect;
mod error;
mod generation;
mod metric;
mod prompt;
pub mod published;
pub mod text_score;

pub use catalogue::{Catalogue, Selection};
pub use definition::{
    Document, Fields, Gold, Group, GroupMetric, GroupValue, Leaf, Member, OutputType, Pool, Published,
    RowStep, Sampler, Scoring, Shots, Subset, Task, TaskDocuments, combine,
};
pub use dialect::{Check, Field, Refusal, TaskIndex, TaskSpec, function};
pub use error::TaskError;
pub use generation::{
    AnswerFilter, AnsweredDocument, FilterStep, Generation, GenerationSettings, MatchOptions, ShownAnswer,
    StopWatch, TaskSampling, UnsupportedSetting, cut_at_stops, read_gen_kwargs, score_answers, shown_answers,
};
pub use metric::{
    Additive, Aggregate, Aggregation, DocumentValue, Metric, MetricName, RequestScore, TaskMetric, aggregate,
    column_of, score_document, score_requests_of,
};
pub use prompt::{
    ChatForm, EncodedDocument, EncodedRequest, FEWSHOT_SEED, Prompting, Request, RequestEncoder,
    build_documents, count_documents,
};
