//! One request at a time, each token computed for it alone: what the walk is tested against.

use loragrid::task::{EncodedRequest, RequestScore};
use tch::{Kind, Tensor};

use crate::failure::EngineError;
use crate::lora::{Active, Adapter};
use crate::model::{Batch, Model};
use crate::score::{Take, Way};

/// Scores requests one after another; `take` gets each. Returns the tokens that went through the model.
pub(crate) fn score_exactly(
    model: &Model,
    adapter: Option<&Adapter>,
    requests: &[EncodedRequest],
    way: Way,
    take: &mut Take<'_>,
) -> Result<u64, EngineError> {
    let active = adapter.map(Active::of);
    for (number, request) in requests.iter().enumerate() {
        take(number, tch::no_grad(|| score(model, active.as_ref(), request, way)))?;
    }
    Ok(requests.iter().map(|request| request.input.len() as u64).sum())
}

fn score(model: &Model, active: Option<&Active<'_>>, request: &EncodedRequest, way: Way) -> RequestScore {
    let batch = Batch::new(&[request.input.as_slice()], model.device());
    let states = model.hidden_states(&batch, active);
    let wanted = request.targets.len() as i64;
    let logits = model.logits(&states.narrow(0, request.input.len() as i64 - wanted, wanted), active);
    let targets: Vec<i64> = request.targets.iter().map(|&token| token.into()).collect();
    let targets = Tensor::from_slice(&targets).to_device(model.device());
    let greedy = logits.argmax(-1, false).eq_tensor(&targets).all().int64_value(&[]) == 1;
    let kind = way.kind(model);
    let picked = logits.to_kind(kind).log_softmax(-1, kind).gather(1, &targets.unsqueeze(1), false);
    let log_likelihood = way.rounded(model, picked.sum(Kind::Double).double_value(&[]));
    RequestScore { log_likelihood, is_greedy: greedy }
}
