//! Tasks in lm_eval's YAML: from a file to checked definitions, requests, scores of documents and their aggregate.

mod catalogue;
mod definition;
mod error;
mod folder;
pub mod function;
mod metric;
mod prompt;
pub mod python;
mod request;
mod score;
mod shots;
mod spec;
mod synthetic;
mod template;
mod yaml;

pub use catalogue::{Catalogue, builtin_names};
pub use definition::{OutputType, RowStep, Sampler, Scoring, Shots, Task};
pub use error::TaskError;
pub use folder::{Check, TaskFolder};
pub use metric::{Aggregate, Metric, aggregate};
pub use prompt::{Document, Gold, build_documents};
pub use request::{EncodedRequest, Request, encode_request};
pub use score::{RequestScore, score_document};
pub use spec::{Field, Refusal, TaskSpec};
