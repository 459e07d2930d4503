//! Scoring: log-likelihoods of continuations, each distinct input once, logits at scored positions only.

mod exact;
mod tally;
mod walk;

use std::cell::RefCell;

use floor::job::Softmax;
use floor::pretrained::ModelTokenizer;
use floor::protocol::{DocumentScore, ScoreOrder};
use floor::task::{EncodedRequest, RequestEncoder, RequestScore, TaskDocuments};
use tch::{Kind, Tensor};

use crate::failure::EngineError;
use crate::interrupt::{LifeSigns, Pulse};
use crate::lora::{Active, Adapter};
use crate::model::{Branch, Model, filled};
use crate::tensor::wide;

#[cfg(test)]
pub(crate) use exact::TakeOne;
pub(crate) use exact::score_exactly;
use tally::Tally;
pub(crate) use walk::score_requests;

/// How log-likelihoods are computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScoringOptions {
    /// Most tokens of one pass.
    pub(crate) token_budget: usize,
    /// Dtype in which they are made of logits.
    pub(crate) softmax: Softmax,
}

impl ScoringOptions {
    /// In single precision or better.
    #[cfg(test)]
    pub(crate) fn precise(token_budget: usize) -> Self {
        Self { token_budget, softmax: Softmax::Fp32 }
    }

    /// The kind in which a model's logits go through the softmax. In single precision libtorch's log-softmax over a
    /// vocabulary is a few millionths off; lm_eval's figures have that, so it is computed by the same kernel.
    fn kind(self, model: &Model) -> Kind {
        match self.softmax {
            Softmax::Fp32 => wide(model.kind),
            Softmax::Model => model.kind,
        }
    }

    /// A sum of log-probabilities as the kind holds it.
    fn rounded(self, model: &Model, sum: f64) -> f64 {
        match self.kind(model) {
            Kind::BFloat16 => half::bf16::from_f64(sum).to_f64(),
            Kind::Float => f64::from(sum as f32),
            _ => sum,
        }
    }
}

/// What scoring tells while it runs.
pub(crate) enum ScoringEvent {
    /// A pass was made.
    Pass,
    /// A document's last request is answered by a member.
    Document(usize, DocumentScore),
    /// A member cannot go on; the others do.
    Failed(usize, EngineError),
}

/// What takes in a member's score of a sequence, both by their numbers, as soon as it is known, and says whether the member
/// goes on.
pub(crate) type Take<'a> = dyn FnMut(usize, usize, RequestScore) -> Result<bool, EngineError> + 'a;

/// Adds a run to a pass of few tokens, so that its rows go through the kernels of large ones. Returns the run's tokens.
fn fill(branches: &mut Vec<Branch>, tokens: i64) -> Option<Vec<u32>> {
    let filler = Branch::filler(tokens)?;
    let filling = vec![0; filler.tokens() as usize];
    branches.push(filler);
    Some(filling)
}

/// Logits `[rows, vocab]` of these rows of states, of which there is at least one; computed with enough rows.
fn logits_of(model: &Model, active: Option<&Active<'_>>, states: &Tensor, rows: &[i64]) -> Tensor {
    let wanted = rows.len() as i64;
    let mut rows = rows.to_vec();
    rows.resize(filled(wanted) as usize, rows[0]);
    let states = states.index_select(0, &Tensor::from_slice(&rows).to_device(states.device()));
    model.logits(&states, active).narrow(0, 0, wanted)
}

/// Scores the tasks of an order by each of its members, all of it in one walk, and hands each document to `tell` as soon as
/// its last request is answered. Returns the tokens that went through the model. Errors: a document that cannot be built,
/// what `tell` returns. A member whose log-likelihood is not finite fails alone.
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
    for wanted in &order.tasks {
        let TaskDocuments { task, documents, .. } = TaskDocuments::read(&wanted.documents)
            .ok_or_else(|| EngineError::NoDocuments { path: wanted.documents.display().to_string() })?;
        tracing::info!("scoring {} by {} of one base", task.name, members.len());
        let profile = task.prompting.profile;
        let number = tally.add_task(&task);
        let (most, rows) = (model.config.max_positions as usize, model.config.vocab_size);
        let encoder = RequestEncoder::new(tokenizer, most, rows, profile);
        for document in documents {
            if wanted.done.contains(&document.id) {
                continue;
            }
            // Many documents take as long to encode as a pass, or longer.
            signs.beat(&mut || (tell.borrow_mut())(ScoringEvent::Pass))?;
            let requests = encoder.document(&task, &document)?;
            tally.open(number, document, &requests)?;
            sequences.extend(requests.into_iter().flatten());
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
    if order.exact {
        let mut tokens = 0;
        for (member, adapter) in members.iter().enumerate() {
            let mut take = |sequence, score| take(member, sequence, score);
            tokens += score_exactly(model, *adapter, &sequences, way, &mut take, &mut pulse)?;
        }
        Ok(tokens)
    } else {
        score_requests(model, members, &sequences, way, &mut take, &mut pulse)
    }
}
