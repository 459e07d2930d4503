//! The requests of many documents, encoded on all cores.

use super::request::{EncodedRequest, RequestEncoder};
use crate::cores::by_parts;
use crate::task::definition::document::Document;
use crate::task::definition::task::Task;
use crate::task::error::TaskError;

/// Fewer documents than this are not worth another thread.
const PER_THREAD: usize = 64;

/// The requests of a document as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedDocument {
    /// The sequences of each request; of a request to answer, none.
    pub requests: Vec<Vec<EncodedRequest>>,
    /// The prompt to answer; none for log-likelihoods.
    pub prompt: Option<EncodedRequest>,
}

impl EncodedDocument {
    /// Every sequence.
    pub fn into_sequences(self) -> impl Iterator<Item = EncodedRequest> {
        self.requests.into_iter().flatten().chain(self.prompt)
    }
}

impl RequestEncoder<'_> {
    /// The requests of each document. Error: that of the first document that cannot be encoded, see
    /// [`RequestEncoder::document`] and [`RequestEncoder::prompt_of`].
    pub fn documents(&self, task: &Task, documents: &[Document]) -> Result<Vec<EncodedDocument>, TaskError> {
        let encode = |document: &Document| {
            let (requests, prompt) = (self.document(task, document)?, self.prompt_of(task, document)?);
            Ok(EncodedDocument { requests, prompt })
        };
        let encode = |documents: &[Document]| documents.iter().map(encode).collect();
        let parts = by_parts(documents, PER_THREAD, |_, documents| encode(documents));
        let parts: Vec<Vec<EncodedDocument>> = parts.into_iter().collect::<Result<_, TaskError>>()?;
        Ok(parts.into_iter().flatten().collect())
    }
}
