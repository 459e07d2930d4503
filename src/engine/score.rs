//! Scoring: log-likelihoods of continuations, each distinct input once, logits at scored positions only.

use std::collections::BTreeMap;

use loragrid::checkpoint::ModelTokenizer;
use loragrid::passes::plan_passes;
use loragrid::protocol::DocumentScore;
use loragrid::task::{EncodedRequest, RequestScore, Task, build_documents, encode_request, score_document};
use tch::{Device, Kind, Tensor};

use crate::failure::EngineError;
use crate::lora::{Active, Adapter};
use crate::model::{Batch, Model};

/// Rows of logits that are in memory at one time.
const HEAD_CHUNK: i64 = 256;

/// Scores the first `limit` documents of a task and hands each to `report`. Returns the tokens that went through the
/// model. Errors: a document that cannot be built, a log-likelihood that is not finite, what `report` returns.
pub(crate) fn score_task(
    model: &Model,
    tokenizer: &ModelTokenizer,
    adapter: Option<&Adapter>,
    task: &Task,
    limit: Option<u64>,
    token_budget: usize,
    mut report: impl FnMut(DocumentScore) -> Result<(), EngineError>,
) -> Result<u64, EngineError> {
    let documents = build_documents(task, limit)?;
    let max = model.config.max_positions as usize;
    let mut requests = Vec::new();
    for document in &documents {
        for request in &document.requests {
            requests.push(encode_request(tokenizer, request, max)?);
        }
    }
    let (scores, tokens) = score_requests(model, adapter, &requests, token_budget)?;
    let mut rest = scores.as_slice();
    for document in &documents {
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

/// The scores of requests, in their order, and the tokens that went through the model.
pub(crate) fn score_requests(
    model: &Model,
    adapter: Option<&Adapter>,
    requests: &[EncodedRequest],
    token_budget: usize,
) -> Result<(Vec<RequestScore>, u64), EngineError> {
    // Requests by input, so that equal inputs (the letters of a multiple choice) are one sequence.
    let mut by_input: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
    for (index, request) in requests.iter().enumerate() {
        by_input.entry(&request.input).or_default().push(index);
    }
    let inputs: Vec<(&[u32], Vec<usize>)> = by_input.into_iter().collect();
    let lengths: Vec<usize> = inputs.iter().map(|(input, _)| input.len()).collect();
    let mut scores = vec![RequestScore { log_likelihood: f64::NAN, is_greedy: false }; requests.len()];
    for pass in plan_passes(&lengths, token_budget) {
        let rows: Vec<&(&[u32], Vec<usize>)> = pass.rows.iter().map(|row| &inputs[row.index]).collect();
        tch::no_grad(|| score_pass(model, adapter, requests, &rows, &mut scores))?;
    }
    Ok((scores, lengths.iter().sum::<usize>() as u64))
}

fn score_pass(
    model: &Model,
    adapter: Option<&Adapter>,
    requests: &[EncodedRequest],
    rows: &[&(&[u32], Vec<usize>)],
    scores: &mut [RequestScore],
) -> Result<(), EngineError> {
    let sequences: Vec<&[u32]> = rows.iter().map(|(input, _)| *input).collect();
    let batch = Batch::new(&sequences, Device::Cpu);
    let active = adapter.map(Active::of);
    let states = model.hidden_states(&batch, active.as_ref());
    let (mut positions, mut targets, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    let mut end = 0;
    for (input, indices) in rows {
        end += input.len();
        for &index in indices {
            let wanted = &requests[index].targets;
            positions.extend((end - wanted.len()..end).map(|position| position as i64));
            targets.extend(wanted.iter().map(|&token| i64::from(token)));
            owners.extend(std::iter::repeat_n(index, wanted.len()));
            scores[index] = RequestScore { log_likelihood: 0.0, is_greedy: true };
        }
    }
    let chunk = HEAD_CHUNK as usize;
    for ((positions, targets), owners) in
        positions.chunks(chunk).zip(targets.chunks(chunk)).zip(owners.chunks(chunk))
    {
        let states = states.index_select(0, &Tensor::from_slice(positions));
        let logits = model.logits(&states, active.as_ref());
        let targets = Tensor::from_slice(targets);
        let greedy = logits.argmax(-1, false).eq_tensor(&targets);
        let picked =
            logits.log_softmax(-1, logits.kind()).gather(1, &targets.unsqueeze(1), false).squeeze_dim(1);
        let values = Vec::<f64>::try_from(picked.to_kind(Kind::Double))?;
        let greedy = Vec::<bool>::try_from(greedy)?;
        for ((owner, value), greedy) in owners.iter().zip(values).zip(greedy) {
            scores[*owner].log_likelihood += value;
            scores[*owner].is_greedy &= greedy;
        }
    }
    Ok(())
}
