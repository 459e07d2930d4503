//! Results of attempts: curves, adapters, scores with their documents, samples; and results of other programs.

pub(in crate::store) mod attempt_results;
pub(in crate::store) mod curves;
pub(in crate::store) mod document_values;
pub(in crate::store) mod imports;
pub(in crate::store) mod keep;
pub(in crate::store) mod samples;
pub(in crate::store) mod tracking;

pub use curves::CurvePoint;
pub use document_values::{ByDocument, DocumentValues, Documents};
pub use imports::{ImportedDocument, ImportedResults, ImportedScore};
pub use keep::{KeepTurn, StoredAdapter};
pub use tracking::{Sent, TrackedJob, TrackedPoint, TrackerPlace};
