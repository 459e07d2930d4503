//! The NeurIPS LLM Efficiency Challenge's API: `/process`, `/tokenize`, `/decode`, as HELM asks a submission.

use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::answer::{ask, collect, token_text};
use super::error::ApiError;
use super::fields::{Fields, wrong};
use super::settings::any_seed;
use super::{Api, object};
use crate::pretrained::TokenizerError;
use crate::protocol::Sampling;
use crate::workspace::Question;

pub(super) async fn process(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let started = Instant::now();
    let mut fields = Fields::new(object(&headers, body).await?);
    let prompt = fields.text("prompt")?.ok_or_else(|| wrong("prompt", "there"))?;
    // The defaults are the challenge's.
    fields.whole("num_samples", (1, 1))?;
    let asked = fields.whole("max_new_tokens", (1, u64::from(u32::MAX)))?.unwrap_or(50);
    let top_k = fields.whole("top_k", (0, u64::from(u32::MAX)))?.unwrap_or(200) as usize;
    let temperature = fields.number("temperature", (0.0, f64::MAX))?.unwrap_or(0.8);
    let seed = fields.whole("seed", (0, u64::MAX))?.unwrap_or_else(any_seed);
    let echoes = fields.flag("echo_prompt")?;
    fields.finish()?;
    let tokenizer = &api.server.tokenizer;
    let tokens = tokenizer.encode(&prompt, true).map_err(failed)?;
    let room = api.server.positions.saturating_sub(tokens.len() as u64);
    if asked > room {
        return Err(ApiError::too_long(tokens.len(), asked, api.server.positions));
    }
    let question = Question {
        member: api.default,
        prompt: tokens,
        stop_tokens: tokenizer.stops(),
        stop_texts: Vec::new(),
        max_new_tokens: asked.min(api.max_new_tokens),
        sampling: Sampling { temperature, top_k, top_p: 1.0, seed },
        answer: 0,
        top_logprobs: Some(1),
    };
    let answers = collect(ask(&api, vec![question])?).await?;
    let text: String = answers.iter().map(|answer| answer.text.as_str()).collect();
    let text = if echoes { format!("{prompt}{text}") } else { text };
    let pairs = answers.iter().flat_map(|answer| answer.tokens.iter().zip(&answer.logprobs));
    let token = |(token, logprobs): (&u32, &crate::protocol::TokenLogprobs)| {
        let top = logprobs.top.iter().map(|(token, value)| (token_text(tokenizer, *token), json!(value)));
        let top = Value::Object(top.collect());
        json!({ "text": token_text(tokenizer, *token), "logprob": logprobs.chosen, "top_logprob": top })
    };
    let sum: f64 = pairs.clone().map(|(_, logprobs)| logprobs.chosen).sum();
    let tokens: Vec<Value> = pairs.map(token).collect();
    let time = started.elapsed().as_secs_f64();
    Ok(Json(json!({ "text": text, "tokens": tokens, "logprob": sum, "request_time": time })))
}

pub(super) async fn tokenize(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let started = Instant::now();
    let mut fields = Fields::new(object(&headers, body).await?);
    let text = fields.text("text")?.ok_or_else(|| wrong("text", "there"))?;
    let truncates = match fields.take("truncation") {
        None => true,
        Some(value) => value.as_bool().ok_or_else(|| wrong("truncation", "true or false"))?,
    };
    let most = fields.whole("max_length", (1, u64::from(u32::MAX)))?.unwrap_or(2048) as usize;
    fields.finish()?;
    let mut tokens = api.server.tokenizer.encode(&text, true).map_err(failed)?;
    if truncates {
        tokens.truncate(most);
    }
    Ok(Json(json!({ "tokens": tokens, "request_time": started.elapsed().as_secs_f64() })))
}

pub(super) async fn decode(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let started = Instant::now();
    let mut fields = Fields::new(object(&headers, body).await?);
    let ids = |value: Value| serde_json::from_value::<Vec<u32>>(value).ok();
    let tokens = fields.take("tokens").and_then(ids).ok_or_else(|| wrong("tokens", "a list of tokens"))?;
    fields.finish()?;
    let text = api.server.tokenizer.decode_generated(&tokens).map_err(failed)?;
    Ok(Json(json!({ "text": text, "request_time": started.elapsed().as_secs_f64() })))
}

fn failed(error: TokenizerError) -> ApiError {
    ApiError::invalid(&error.to_string(), None)
}
