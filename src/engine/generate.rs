//! Token-by-token generation with a key-value cache.

use std::time::Instant;

use floor::job::{Seconds, Tokens};
use floor::protocol::{Event, GenerateOrder, Sampling};
use floor::random::{Purpose, Stream};
use tch::{Kind, Tensor};

use crate::failure::EngineError;
use crate::lora::{Active, Adapter};
use crate::model::{Cache, Model};

/// Generates until a stop token, the order's limit or the model's longest sequence. Every token, stop tokens included,
/// goes to `report` at once. Errors: logits that are not finite, what `report` returns.
pub(crate) fn generate(
    model: &Model,
    adapter: Option<&Adapter>,
    order: &GenerateOrder,
    mut report: impl FnMut(u32) -> Result<(), EngineError>,
) -> Result<Event, EngineError> {
    let started = Instant::now();
    let mut cache = Cache::new(model.config.layers as usize);
    let active = adapter.map(Active::of);
    let room = (model.config.max_positions as usize).saturating_sub(order.prompt.len()) as u64;
    let mut next = order.prompt.clone();
    let mut made = 0;
    while made < order.max_new_tokens.min(room) {
        let token = tch::no_grad(|| {
            let states = model.continue_with(&next, &mut cache, active.as_ref());
            let last = states.narrow(0, states.size()[0] - 1, 1);
            choose(&model.logits(&last, active.as_ref()).view([-1]), order.sampling, made)
        })?;
        made += 1;
        report(token)?;
        if order.stop.contains(&token) {
            break;
        }
        next = vec![token];
    }
    let seconds = Seconds(started.elapsed().as_secs_f64());
    Ok(Event::Generated { tokens: Tokens(made), seconds })
}

/// The token sampled from logits `[vocab]`; `place` is the number of tokens before it.
fn choose(logits: &Tensor, sampling: Sampling, place: u64) -> Result<u32, EngineError> {
    // A NaN anywhere makes the maximum NaN.
    if !logits.max().double_value(&[]).is_finite() {
        return Err(EngineError::LogitsNotFinite);
    }
    if sampling.temperature == 0.0 {
        return Ok(logits.argmax(None, false).int64_value(&[]) as u32);
    }
    let probabilities = (logits / sampling.temperature).softmax(-1, Kind::Double);
    let (values, tokens) = probabilities.sort(-1, true);
    let values = Vec::<f64>::try_from(values)?;
    let tokens = Vec::<i64>::try_from(tokens)?;
    let kept = nucleus(&values, sampling);
    let total: f64 = values[..kept].iter().sum();
    if !total.is_finite() || total <= 0.0 {
        return Err(EngineError::LogitsNotFinite);
    }
    let mut left = Stream::new(sampling.seed, Purpose::Sample, 0).uniform(place) * total;
    let at = values[..kept].iter().position(|value| {
        left -= value;
        left < 0.0
    });
    Ok(tokens[at.unwrap_or(kept - 1)] as u32)
}

/// Number of top tokens to sample from; at least one.
fn nucleus(descending: &[f64], sampling: Sampling) -> usize {
    let by_k = if sampling.top_k == 0 { descending.len() } else { sampling.top_k.min(descending.len()) };
    let mut sum = 0.0;
    let by_p = descending.iter().position(|value| {
        sum += value;
        sum >= sampling.top_p
    });
    by_p.map_or(descending.len(), |at| at + 1).min(by_k).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLING: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 3 };

    #[test]
    fn draws_have_the_probabilities_of_the_logits() {
        let logits = Tensor::from_slice(&[0.5f64.ln(), 0.3f64.ln(), 0.2f64.ln()]);
        let mut counts = [0i64; 3];
        for place in 0..4000 {
            counts[choose(&logits, SAMPLING, place).unwrap() as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([2000, 1200, 800]) {
            assert!((count - expected).abs() < 120, "{counts:?}");
        }
    }

    #[test]
    fn cold_top_k_and_top_p_leave_the_likeliest() {
        let logits = Tensor::from_slice(&[0.1f32, 2.0, 1.5]);
        let cold = Sampling { temperature: 0.0, ..SAMPLING };
        let top_1 = Sampling { top_k: 1, ..SAMPLING };
        let half = Sampling { top_p: 0.5, ..SAMPLING };
        for sampling in [cold, top_1, half] {
            assert!((0..50).all(|place| choose(&logits, sampling, place).unwrap() == 1), "{sampling:?}");
        }
        let two = Sampling { top_k: 2, ..SAMPLING };
        assert!((0..200).all(|place| choose(&logits, two, place).unwrap() != 0));
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        let logits = Tensor::from_slice(&[1.0, f32::NAN, 0.5]);
        let greedy = Sampling { temperature: 0.0, ..SAMPLING };
        assert!(choose(&logits, SAMPLING, 0).is_err() && choose(&logits, greedy, 0).is_err());
    }
}
