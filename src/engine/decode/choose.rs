//! The next token from logits.

use floor::pretrained::GenerationDefaults;
use floor::protocol::TokenLogprobs;
use floor::random::{Purpose, Stream};
use tch::{Kind, Tensor};

use crate::failure::EngineError;

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Draw {
    /// The temperature, above 0.
    pub(crate) temperature: f64,
    /// Only the most likely tokens with this total probability.
    pub(crate) top_p: f64,
    /// Only the k most likely tokens; 0: all.
    pub(crate) top_k: usize,
    /// Seed.
    pub(crate) seed: u64,
    /// The answer's number among those of the seed; each has random numbers of its own, whatever is in its batch.
    pub(crate) answer: u64,
}

/// An answer as it stands before its next token.
pub(super) struct SoFar<'a> {
    pub(super) prompt: &'a [u32],
    pub(super) answer: &'a [u32],
    pub(super) draw: Option<Draw>,
    /// The tokens that end it.
    pub(super) ends: &'a [u32],
}

/// The next token of each row of logits `[rows, vocab]`; none for a row that is not finite.
pub(super) fn choose(
    logits: &Tensor,
    rows: &[SoFar<'_>],
    defaults: &GenerationDefaults,
) -> Result<Vec<Option<u32>>, EngineError> {
    // A NaN anywhere makes the maximum NaN.
    let largest = Vec::<f64>::try_from(logits.amax([-1i64].as_slice(), false).to_kind(Kind::Double))?;
    let greedy = Vec::<i64>::try_from(logits.argmax(-1, false))?;
    let mut tokens = Vec::with_capacity(rows.len());
    for (row, (so_far, greedy)) in rows.iter().zip(greedy).enumerate() {
        if !largest[row].is_finite() {
            tokens.push(None);
            continue;
        }
        let plain = defaults.is_plain(so_far.answer.len() as u64);
        if plain && so_far.draw.is_none() {
            tokens.push(Some(greedy as u32));
            continue;
        }
        let mut scores = Vec::<f32>::try_from(logits.get(row as i64).to_kind(Kind::Float))?;
        defaults.apply(&mut scores, so_far.prompt, so_far.answer, so_far.ends);
        tokens.push(match so_far.draw {
            None => Some(first_largest(&scores)),
            Some(draw) => drawn(&scores, draw, so_far.answer.len() as u64),
        });
    }
    Ok(tokens)
}

/// The logarithm of the probability of a row's token, and of its most likely ones, from logits `[rows, vocab]`. Error: libtorch's.
pub(super) fn logprobs(
    logits: &Tensor,
    row: i64,
    token: u32,
    top: usize,
) -> Result<TokenLogprobs, EngineError> {
    let logs = logits.get(row).to_kind(Kind::Double).log_softmax(-1, Kind::Double);
    let chosen = logs.double_value(&[i64::from(token)]);
    let top = (top as i64).min(logs.size()[0]);
    let (values, tokens) = logs.topk(top, -1, true, true);
    let (values, tokens) = (Vec::<f64>::try_from(values)?, Vec::<i64>::try_from(tokens)?);
    let top = tokens.into_iter().map(|token| token as u32).zip(values).collect();
    Ok(TokenLogprobs { chosen, top })
}

/// The first of the largest scores.
fn first_largest(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (token, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = token;
        }
    }
    best as u32
}

/// A token by its probability; `place` is the number of tokens before it. None if no probability is finite.
fn drawn(scores: &[f32], draw: Draw, place: u64) -> Option<u32> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let most = f64::from(scores[order[0]]);
    let weights: Vec<f64> =
        order.iter().map(|token| ((f64::from(scores[*token]) - most) / draw.temperature).exp()).collect();
    let all: f64 = weights.iter().sum();
    if !all.is_finite() || all <= 0.0 {
        return None;
    }
    let kept = nucleus(&weights, all, draw);
    let total: f64 = weights[..kept].iter().sum();
    let stream = Stream::new(draw.seed, Purpose::Sample, draw.answer);
    let mut left = stream.uniform(place) * total;
    let at = weights[..kept].iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    Some(order[at.unwrap_or(kept - 1)] as u32)
}

/// Number of top tokens to draw from, at least one: the k likeliest, then of these the likeliest with the total probability, as
/// transformers does.
fn nucleus(descending: &[f64], all: f64, draw: Draw) -> usize {
    let by_k = if draw.top_k == 0 { descending.len() } else { draw.top_k.min(descending.len()) };
    let all = if by_k == descending.len() { all } else { descending[..by_k].iter().sum() };
    let mut sum = 0.0;
    let by_p = descending[..by_k].iter().position(|weight| {
        sum += weight / all;
        sum >= draw.top_p
    });
    by_p.map_or(by_k, |at| at + 1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAW: Draw = Draw { temperature: 1.0, top_p: 1.0, top_k: 0, seed: 3, answer: 0 };

    #[test]
    fn draws_have_the_probabilities_of_the_logits() {
        let scores = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let mut counts = [0i64; 3];
        for place in 0..4000 {
            counts[drawn(&scores, DRAW, place).unwrap() as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([2000, 1200, 800]) {
            assert!((count - expected).abs() < 120, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_leave_the_likeliest() {
        let scores = [0.1f32, 2.0, 1.5];
        for draw in
            [Draw { top_k: 1, ..DRAW }, Draw { top_p: 0.5, ..DRAW }, Draw { temperature: 1e-3, ..DRAW }]
        {
            assert!((0..50).all(|place| drawn(&scores, draw, place).unwrap() == 1), "{draw:?}");
        }
        let two = Draw { top_k: 2, ..DRAW };
        assert!((0..200).all(|place| drawn(&scores, two, place).unwrap() != 0));
    }

    #[test]
    fn each_answer_has_random_numbers_of_its_own() {
        let scores = [0.0f32; 64];
        let answer = |answer| {
            (0..20).map(|place| drawn(&scores, Draw { answer, ..DRAW }, place).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(answer(1), answer(1));
        assert_ne!(answer(1), answer(2));
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        let logits = Tensor::from_slice(&[1.0, f32::NAN, 0.5]).view([1, 3]);
        let row = SoFar { prompt: &[0], answer: &[], draw: None, ends: &[] };
        assert_eq!(choose(&logits, &[row], &GenerationDefaults::default()).unwrap(), [None]);
    }
}
