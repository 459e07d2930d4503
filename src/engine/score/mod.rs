//! Scoring: log-likelihoods of continuations, each distinct input once, logits at scored positions only.

mod exact;
mod walk;

use loragrid::checkpoint::ModelTokenizer;
use loragrid::protocol::{DocumentScore, ScoreOrder};
use loragrid::task::{EncodedRequest, RequestScore, build_documents, encode_request, score_document};

use crate::failure::EngineError;
use crate::lora::Adapter;
use crate::model::Model;

pub(crate) use exact::score_exactly;
pub(crate) use walk::score_requests;

/// Scores the tasks of an order, all of them in one walk, and hands each document to `report` in the order of tasks and
/// documents. Returns the tokens that went through the model. Errors: a document that cannot be built, a log-likelihood
/// that is not finite, what `report` returns.
pub(crate) fn score_tasks(
    model: &Model,
    tokenizer: &ModelTokenizer,
    adapter: Option<&Adapter>,
    order: &ScoreOrder,
    mut report: impl FnMut(DocumentScore) -> Result<(), EngineError>,
) -> Result<u64, EngineError> {
    let max = model.config.max_positions as usize;
    let mut documents = Vec::new();
    let mut requests: Vec<EncodedRequest> = Vec::new();
    for (task, limit) in &order.tasks {
        for document in build_documents(task, *limit)? {
            for request in &document.requests {
                requests.push(encode_request(tokenizer, request, max)?);
            }
            documents.push((task, document));
        }
    }
    let (scores, tokens) = if order.exact {
        score_exactly(model, adapter, &requests)?
    } else {
        score_requests(model, adapter, &requests, order.token_budget)?
    };
    let mut rest: &[RequestScore] = &scores;
    for (task, document) in &documents {
        let (own, others) = rest.split_at(document.requests.len());
        rest = others;
        if let Some(bad) = own.iter().find(|score| !score.log_likelihood.is_finite()) {
            return Err(EngineError::LikelihoodNotFinite {
                task: task.name.clone(),
                document: document.id,
                value: bad.log_likelihood,
            });
        }
        let metrics = task.metrics.iter().map(|metric| score_document(*metric, document, own)).collect();
        report(DocumentScore {
            task: task.name.clone(),
            document: document.id,
            requests: own.to_vec(),
            metrics,
        })?;
    }
    Ok(tokens)
}
