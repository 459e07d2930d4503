//! Parsed tasks: definitions, groups, documents and the scored subset.

pub(in crate::task) mod document;
pub(in crate::task) mod documents_file;
pub(in crate::task) mod group;
pub(in crate::task) mod subset;
pub(in crate::task) mod task;

pub use document::{Document, Gold};
pub use documents_file::TaskDocuments;
pub use group::{Group, GroupMetric, GroupValue, Leaf, Member, combine};
pub use subset::Subset;
pub use task::{Fields, OutputType, Pool, Published, RowStep, Sampler, Scoring, Shots, Task};
