//! Scoring: log-likelihoods of continuations. Each distinct input is computed once, logits at scored positions only.

mod answers;
mod exact;
mod tally;
mod walk;

use std::cell::RefCell;

use floor::job::Softmax;
use floor::pretrained::ModelTokenizer;
use floor::protocol::{DocumentScore, ScoreOrder};
use floor::task::{Document, EncodedRequest, RequestEncoder, RequestScore, TaskDocuments};
use tch::{Kind, Tensor};

use crate::failure::EngineError;
use crate::interrupt::{LifeSigns, Pulse};
use crate::lora::{Active, Adapter};
use crate::model::Model;
use crate::tensor::wide;

use answers::AnsweredTasks;
#[cfg(test)]
pub(crate) use exact::TakeOne;
pub(crate) use exact::score_exactly;
use tally::Tally;
pub(crate) use walk::score_requests;

/// Documents that are encoded between two signs of life.
const ENCODED_AT_ONCE: usize = 256;

/// How log-likelihoods are computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScoringOptions {
    /// Maximum tokens per pass.
    pub(crate) token_budget: usize,
    /// Dtype for log-likelihoods from logits.
    pub(crate) softmax: Softmax,
}

impl ScoringOptions {
    /// In single precision or better.
    #[cfg(test)]
    pub(crate) fn precise(token_budget: usize) -> Self {
        Self { token_budget, softmax: Softmax::Fp32 }
    }

    /// The dtype of the softmax over the logits. In single precision libtorch's log-softmax over a vocabulary is off by
    /// a few millionths; lm_eval's figures include that, so the same kernel is used.
    fn kind(self, model: &Model) -> Kind {
        match self.softmax {
            Softmax::Fp32 => wide(model.kind),
            Softmax::Model => model.kind,
        }
    }

    /// A sum of log-probabilities rounded to the dtype.
    fn rounded(self, model: &Model, sum: f64) -> f64 {
        match self.kind(model) {
            Kind::BFloat16 => half::bf16::from_f64(sum).to_f64(),
            Kind::Float => f64::from(sum as f32),
            _ => sum,
        }
    }
}

/// Progress reports of scoring.
pub(crate) enum ScoringEvent {
    /// A pass completed.
    Pass,
    /// A member answered the last request of a document.
    Document(usize, DocumentScore),
    /// A member failed; the others continue.
    Failed(usize, EngineError),
}

/// Receives a member's score of a sequence, both by number, as soon as it is known. Returns whether the member
/// continues.
pub(crate) type Take<'a> = dyn FnMut(usize, usize, RequestScore) -> Result<bool, EngineError> + 'a;

/// Logits `[rows, vocab]` of these rows of states, at least one; computed with enough rows.
pub(crate) fn logits_of(model: &Model, active: Option<&Active<'_>>, states: &Tensor, rows: &[i64]) -> Tensor {
    let wanted = rows.len() as i64;
    let mut rows = rows.to_vec();
    rows.resize(model.row_rule().rows(wanted) as usize, rows[0]);
    let states = states.index_select(0, &Tensor::from_slice(&rows).to_device(states.device()));
    model.logits(&states, active).narrow(0, 0, wanted)
}

/// Scores an order's tasks for each of its members in one walk, and passes each document to `tell` once its last
/// request is answered. Returns the number of tokens processed. Errors: a document that cannot be built, what `tell`
/// returns. A member whose log-likelihood is not finite fails alone.
pub(crate) fn score_tasks(
    model: &Model,
    tokenizer: &ModelTokenizer,
    members: &[Option<&Adapter>],
    order: &ScoreOrder,
    tell: impl FnMut(ScoringEvent) -> Result<(), EngineError>,
) -> Result<u64, EngineError> {
    let tell = RefCell::new(tell);
    let mut tally =
        Tally::new(members.len(), |member, score| (tell.borrow_mut())(ScoringEvent::Document(member, score)));
    let mut sequences: Vec<EncodedRequest> = Vec::new();
    let mut signs = LifeSigns::new();
    let mut answered = AnsweredTasks::default();
    let (most, rows) = (model.config.max_positions as usize, model.config.vocab_size);
    for (place, wanted) in order.tasks.iter().enumerate() {
        let TaskDocuments { task, documents, .. } = TaskDocuments::read(&wanted.documents)
            .ok_or_else(|| EngineError::NoDocuments { path: wanted.documents.display().to_string() })?;
        tracing::info!("scoring {} by {} of one base", task.name, members.len());
        let number = tally.add_task(&task);
        let encoder = RequestEncoder::new(tokenizer, most, rows, task.prompting.profile);
        let documents = documents.into_iter().filter(|document| !wanted.done.contains(&document.id));
        if let Some(generation) = task.generation.clone() {
            let documents: Vec<Document> = documents.collect();
            answered.add(place, task, generation, documents, (&encoder, tokenizer))?;
            continue;
        }
        let mut documents = documents.peekable();
        while documents.peek().is_some() {
            // Encoding many documents takes as long as a pass, or longer.
            signs.beat(&mut || (tell.borrow_mut())(ScoringEvent::Pass))?;
            let some: Vec<Document> = documents.by_ref().take(ENCODED_AT_ONCE).collect();
            for (encoded, document) in encoder.documents(&task, &some)?.into_iter().zip(some) {
                tally.open(number, document, &encoded.requests)?;
                sequences.extend(encoded.into_sequences());
            }
        }
    }
    let way = ScoringOptions { token_budget: order.token_budget, softmax: order.softmax };
    let mut take = |member, sequence, score| match tally.take(member, sequence, score) {
        Ok(()) => Ok(true),
        Err(error @ EngineError::LikelihoodNotFinite { .. }) => {
            (tell.borrow_mut())(ScoringEvent::Failed(member, error))?;
            Ok(false)
        }
        Err(error) => Err(error),
    };
    let mut sign = || (tell.borrow_mut())(ScoringEvent::Pass);
    let mut pulse = Pulse::new(&mut sign);
    let scored = if order.exact {
        let mut tokens = 0;
        for (member, adapter) in members.iter().enumerate() {
            let mut take = |sequence, score| take(member, sequence, score);
            tokens += score_exactly(model, *adapter, &sequences, way, &mut take, &mut pulse)?;
        }
        tokens
    } else {
        score_requests(model, members, &sequences, way, &mut take, &mut pulse)?
    };
    let mut sign = || (tell.borrow_mut())(ScoringEvent::Pass);
    let mut pulse = Pulse::new(&mut sign);
    let mut report = |member, score| {
        let event = match score {
            Ok(score) => ScoringEvent::Document(member, score),
            Err(error) => ScoringEvent::Failed(member, error),
        };
        (tell.borrow_mut())(event)
    };
    Ok(scored + answered.answer((model, tokenizer), members, order, &mut report, &mut pulse)?)
}
