//! `/v1/completions`

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answer::{Answer, Usage, ask, collect, finish_reason, logprobs_of_completion};
use super::error::ApiError;
use super::fields::{Fields, wrong};
use super::settings::Settings;
use super::{Api, object, stream};
use crate::workspace::AnswerPart;

/// OpenAI's own default.
const DEFAULT_TOKENS: u64 = 16;
/// Most prompts of a request.
const MOST_PROMPTS: usize = 256;

pub(super) async fn answer(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut fields = Fields::new(object(&headers, body).await?);
    let settings = Settings::read(&api, &mut fields)?;
    let prompts = prompts(&api, fields.take("prompt"))?;
    let echoes = fields.flag("echo")?;
    let top_logprobs = fields.whole("logprobs", (0, 20))?.map(|top| top as usize);
    if let Some(best) = fields.whole("best_of", (1, 128))?.filter(|best| *best != settings.answers) {
        let message = format!(
            "'best_of' is {best} and 'n' {}: choosing among answers is not supported",
            settings.answers
        );
        return Err(ApiError::invalid(&message, Some("best_of")));
    }
    if echoes && top_logprobs.is_some() {
        return Err(ApiError::invalid("'logprobs' of an echoed prompt are not supported", Some("echo")));
    }
    fields.require_neutral(&["suffix"])?;
    fields.finish()?;
    let ends = api.server.tokenizer.stops();
    let mut questions = Vec::new();
    for prompt in &prompts {
        questions.extend(settings.questions(&api, &prompt.tokens, (&ends, DEFAULT_TOKENS), top_logprobs)?);
    }
    let mut usage =
        Usage { prompt: prompts.iter().map(|prompt| prompt.tokens.len() as u64).sum(), answer: 0 };
    let per_prompt = settings.answers as usize;
    let answers = ask(&api, questions)?;
    let frame = frame(&api, &settings);
    let echoed = move |number: usize| match echoes {
        true => prompts[number / per_prompt].text.clone(),
        false => String::new(),
    };
    if settings.streams {
        return Ok(streamed(&api, (answers, echoes.then_some(echoed)), frame, (usage, &settings)));
    }
    let answers = collect(answers).await?;
    usage.answer = answers.iter().map(|answer| answer.tokens.len() as u64).sum();
    let choice = |(number, answer): (usize, &Answer)| {
        let Answer { text, end, tokens, logprobs } = answer;
        let logprobs =
            top_logprobs.map(|_| logprobs_of_completion(&api.server.tokenizer, (tokens, logprobs), 0));
        json!({
            "index": number, "text": format!("{}{text}", echoed(number)), "logprobs": logprobs,
            "finish_reason": finish_reason(*end),
        })
    };
    let mut whole = frame;
    whole["choices"] = answers.iter().enumerate().map(choice).collect();
    whole["usage"] = usage.json();
    Ok(Json(whole).into_response())
}

fn streamed(
    api: &Api,
    (answers, echoed): (Vec<crate::workspace::AnswerStream>, Option<impl Fn(usize) -> String>),
    frame: Value,
    (usage, settings): (Usage, &Settings),
) -> Response {
    let chunk_of = {
        let frame = frame.clone();
        move |number: usize, text: &str, logprobs: Value, end: Option<&str>| {
            let mut chunk = frame.clone();
            chunk["choices"] =
                json!([{ "index": number, "text": text, "logprobs": logprobs, "finish_reason": end }]);
            chunk
        }
    };
    let before = echoed.map(|echoed| {
        (0..answers.len()).map(|number| chunk_of(number, &echoed(number), Value::Null, None)).collect()
    });
    let usage = settings.include_usage.then_some((usage, frame));
    let tokenizer = api.server.tokenizer.clone();
    let offsets = std::sync::Mutex::new(vec![0; answers.len()]);
    let chunk = move |number: usize, part: &AnswerPart| {
        let AnswerPart { text, token, logprobs, end } = part;
        let logprobs = token.zip(logprobs.as_ref()).map_or(Value::Null, |(token, logprobs)| {
            // A poisoned lock is of a thread that panicked within these lines.
            let mut offsets = offsets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let offset = offsets[number];
            offsets[number] += super::answer::token_text(&tokenizer, token).chars().count();
            logprobs_of_completion(&tokenizer, (&[token], std::slice::from_ref(logprobs)), offset)
        });
        if text.is_empty() && end.is_none() && logprobs.is_null() {
            return Vec::new();
        }
        vec![chunk_of(number, text, logprobs, end.map(finish_reason))]
    };
    stream::events(answers, before.unwrap_or_default(), chunk, usage)
}

/// What whole answers and chunks have in common.
fn frame(api: &Api, settings: &Settings) -> Value {
    json!({
        "id": format!("cmpl-{:016x}", super::settings::any_seed()), "object": "text_completion",
        "created": super::now(), "model": settings.model, "system_fingerprint": api.fingerprint(),
    })
}

/// A prompt.
struct Prompt {
    text: String,
    tokens: Vec<u32>,
}

/// The prompts of a request: a string, tokens, or a list of either.
fn prompts(api: &Api, value: Option<Value>) -> Result<Vec<Prompt>, ApiError> {
    let wrong = || wrong("prompt", "a string, a list of tokens, or a list of these");
    let list = match value.ok_or_else(wrong)? {
        Value::Array(list) if list.first().is_some_and(|first| !first.is_number()) => list,
        one => vec![one],
    };
    if list.len() > MOST_PROMPTS {
        return Err(ApiError::invalid(&format!("more than {MOST_PROMPTS} prompts"), Some("prompt")));
    }
    list.into_iter().map(|value| prompt(api, value)?.ok_or_else(wrong)).collect()
}

/// None: neither a string nor tokens.
fn prompt(api: &Api, value: Value) -> Result<Option<Prompt>, ApiError> {
    let tokenizer = &api.server.tokenizer;
    let failed =
        |error: crate::pretrained::TokenizerError| ApiError::invalid(&error.to_string(), Some("prompt"));
    Ok(match value {
        Value::String(text) => {
            let mut tokens = tokenizer.encode(&text, true).map_err(failed)?;
            if tokens.is_empty() {
                tokens.extend(tokenizer.prefix());
            }
            Some(Prompt { text, tokens })
        }
        Value::Array(tokens) => {
            let id = |token: &Value| token.as_u64().and_then(|id| u32::try_from(id).ok());
            let tokens: Option<Vec<u32>> = tokens.iter().map(id).collect();
            match tokens {
                Some(tokens) => {
                    let text = tokenizer.decode(&tokens).map_err(failed)?;
                    Some(Prompt { text, tokens })
                }
                None => None,
            }
        }
        _ => None,
    })
}
