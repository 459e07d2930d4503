//! Scores one request at a time, each token computed separately: the walk is tested against it.

use floor::task::{EncodedRequest, RequestScore};
use tch::{Kind, Tensor};

use crate::failure::EngineError;
use crate::interrupt::Pulse;
use crate::lora::{Active, Adapter};
use crate::memory::within_memory;
use crate::model::{Model, PagedBatch, Sequence};
use crate::score::{ScoringOptions, logits_of};

/// Receives the score of a sequence, by its number, and returns whether to continue.
pub(crate) type TakeOne<'a> = dyn FnMut(usize, RequestScore) -> Result<bool, EngineError> + 'a;

/// Scores requests one after another; `take` gets each. Returns the number of tokens processed.
pub(crate) fn score_exactly(
    model: &Model,
    adapter: Option<&Adapter>,
    requests: &[EncodedRequest],
    way: ScoringOptions,
    take: &mut TakeOne<'_>,
    pulse: &mut Pulse<'_>,
) -> Result<u64, EngineError> {
    let active = adapter.map(Active::of);
    for (number, request) in requests.iter().enumerate() {
        let answer =
            within_memory(way.token_budget, || tch::no_grad(|| score(model, active.as_ref(), request, way)));
        if !take(number, answer?)? {
            break;
        }
        pulse.beat()?;
    }
    Ok(requests.iter().map(|request| request.input.len() as u64).sum())
}

fn score(
    model: &Model,
    active: Option<&Active<'_>>,
    request: &EncodedRequest,
    way: ScoringOptions,
) -> RequestScore {
    let length = request.input.len() as i64;
    let (pages, mut sequence) = (model.pages(), Sequence::default());
    let pass = |tokens: &[u32]| {
        let mut batch = PagedBatch::new(&pages);
        batch.add(&mut sequence, tokens);
        let tensors = batch.finish(model.row_rule(), model.device());
        model.walk(&tensors, active, &mut batch).narrow(0, 0, tokens.len() as i64)
    };
    let states: Vec<Tensor> =
        request.input.chunks(model.row_rule().within(request.input.len()).max(1)).map(pass).collect();
    let states = Tensor::cat(&states, 0);
    let wanted = request.targets.len() as i64;
    let rows: Vec<i64> = (length - wanted..length).collect();
    let logits = logits_of(model, active, &states, &rows);
    let targets: Vec<i64> = request.targets.iter().map(|&token| token.into()).collect();
    let targets = Tensor::from_slice(&targets).to_device(model.device());
    let greedy = logits.argmax(-1, false).eq_tensor(&targets).all().int64_value(&[]) == 1;
    let kind = way.kind(model);
    let picked = logits.to_kind(kind).log_softmax(-1, kind).gather(1, &targets.unsqueeze(1), false);
    let log_likelihood = way.rounded(model, picked.sum(Kind::Double).double_value(&[]));
    RequestScore { log_likelihood, is_greedy: greedy }
}
