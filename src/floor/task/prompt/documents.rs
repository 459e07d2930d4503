//! The requests of many documents, encoded on all cores.

use super::request::{EncodedRequest, RequestEncoder};
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
        let encode = |documents: &[Document]| {
            let encode = |document| {
                let (requests, prompt) = (self.document(task, document)?, self.prompt_of(task, document)?);
                Ok(EncodedDocument { requests, prompt })
            };
            documents.iter().map(encode).collect::<Result<Vec<_>, TaskError>>()
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(documents.len() / PER_THREAD + 1);
        if threads == 1 {
            return encode(documents);
        }
        let chunks: Vec<Result<Vec<EncodedDocument>, TaskError>> = std::thread::scope(|scope| {
            let chunks = documents.chunks(documents.len().div_ceil(threads));
            let running: Vec<_> = chunks.map(|chunk| scope.spawn(move || encode(chunk))).collect();
            // A panic goes on in the caller.
            let joined = running.into_iter().map(|thread| thread.join());
            joined.map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let mut all = Vec::with_capacity(documents.len());
        for chunk in chunks {
            all.extend(chunk?);
        }
        Ok(all)
    }
}
