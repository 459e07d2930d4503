//! `/v1/chat/completions`

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Usage, ask, collect, finish_reason, logprobs_of_chat};
use super::error::ApiError;
use super::fields::{Fields, wrong};
use super::settings::Settings;
use super::{Api, object, stream};
use crate::data::RenderError;
use crate::workspace::{AnswerPart, AnswerStream};

/// Roles of messages; a template may refuse some.
const ROLES: [&str; 4] = ["system", "developer", "user", "assistant"];

pub(super) async fn answer(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut fields = Fields::new(object(&headers, body).await?);
    let mut settings = Settings::read(&api, &mut fields)?;
    let newer = fields.whole("max_completion_tokens", (1, u64::from(u32::MAX)))?;
    settings.max_tokens = newer.or(settings.max_tokens);
    let messages = messages(fields.take("messages"))?;
    let wants_logprobs = fields.flag("logprobs")?;
    let top = fields.whole("top_logprobs", (0, 20))?;
    if top.is_some() && !wants_logprobs {
        return Err(ApiError::invalid("'top_logprobs' needs 'logprobs'", Some("top_logprobs")));
    }
    let top_logprobs = wants_logprobs.then_some(top.unwrap_or(0) as usize);
    fields.require_neutral(&[
        "audio",
        "function_call",
        "functions",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "reasoning_effort",
        "response_format",
        "tool_choice",
        "tools",
        "verbosity",
        "web_search_options",
    ])?;
    fields.finish()?;
    let prompt = prompt(&api, settings.member, &messages)?;
    let ends = api.server.tokenizer.chat_stops();
    let questions = settings.questions(&api, &prompt, (&ends, api.max_new_tokens), top_logprobs)?;
    let mut usage = Usage { prompt: prompt.len() as u64, answer: 0 };
    let answers = ask(&api, questions)?;
    if settings.streams {
        return Ok(streamed(&api, answers, (usage, &settings)));
    }
    let answers = collect(answers).await?;
    usage.answer = answers.iter().map(|answer| answer.tokens.len() as u64).sum();
    let choice = |(number, answer): (usize, &Answer)| {
        let Answer { text, end, tokens, logprobs } = answer;
        let logprobs = top_logprobs.map(|_| logprobs_of_chat(&api.server.tokenizer, (tokens, logprobs)));
        json!({
            "index": number, "message": { "role": "assistant", "content": text, "refusal": null },
            "logprobs": logprobs, "finish_reason": finish_reason(*end),
        })
    };
    let mut whole = frame(&api, &settings, "chat.completion");
    whole["choices"] = answers.iter().enumerate().map(choice).collect();
    whole["usage"] = usage.json();
    Ok(Json(whole).into_response())
}

fn streamed(api: &Api, answers: Vec<AnswerStream>, (usage, settings): (Usage, &Settings)) -> Response {
    let frame = frame(api, settings, "chat.completion.chunk");
    let chunk_of = {
        let frame = frame.clone();
        move |number: usize, delta: Value, logprobs: Value, end: Option<&str>| {
            let mut chunk = frame.clone();
            chunk["choices"] =
                json!([{ "index": number, "delta": delta, "logprobs": logprobs, "finish_reason": end }]);
            chunk
        }
    };
    let first = |number| chunk_of(number, json!({ "role": "assistant", "content": "" }), Value::Null, None);
    let before = (0..answers.len()).map(first).collect();
    let usage = settings.include_usage.then_some((usage, frame));
    let tokenizer = api.server.tokenizer.clone();
    let chunk = move |number: usize, part: &AnswerPart| {
        let AnswerPart { text, token, logprobs, end } = part;
        let logprobs = token.zip(logprobs.as_ref()).map_or(Value::Null, |(token, logprobs)| {
            logprobs_of_chat(&tokenizer, (&[token], std::slice::from_ref(logprobs)))
        });
        let mut chunks = Vec::new();
        if !text.is_empty() || !logprobs.is_null() {
            chunks.push(chunk_of(number, json!({ "content": text }), logprobs, None));
        }
        chunks.extend(end.map(|end| chunk_of(number, json!({}), Value::Null, Some(finish_reason(end)))));
        chunks
    };
    stream::events(answers, before, chunk, usage)
}

/// What whole answers and chunks have in common.
fn frame(api: &Api, settings: &Settings, kind: &str) -> Value {
    json!({
        "id": format!("chatcmpl-{:016x}", super::settings::any_seed()), "object": kind,
        "created": super::now(), "model": settings.model, "system_fingerprint": api.fingerprint(),
    })
}

/// The prompt's tokens by the template of the model. Error: the template refuses the messages.
fn prompt(api: &Api, member: usize, messages: &[(String, String)]) -> Result<Vec<u32>, ApiError> {
    let template = &api.models[member].template;
    let text = template.prompt(messages).map_err(|error| {
        let reason = match error {
            RenderError::Column(name) => format!("it needs '{name}'"),
            RenderError::Row(reason) | RenderError::Template(reason) => reason,
        };
        ApiError::invalid(&format!("the chat template fails: {reason}"), Some("messages"))
    })?;
    let special = !template.has_special_tokens();
    let tokens = api.server.tokenizer.encode(&text, special);
    tokens.map_err(|error| ApiError::invalid(&error.to_string(), Some("messages")))
}

/// Roles and contents.
fn messages(value: Option<Value>) -> Result<Vec<(String, String)>, ApiError> {
    let wrong = || wrong("messages", "a list of messages, of which there is at least one");
    let Some(Value::Array(messages)) = value else { return Err(wrong()) };
    if messages.is_empty() {
        return Err(wrong());
    }
    let message = |message: Value| match message {
        Value::Object(message) => read_message(message),
        _ => Err(wrong()),
    };
    messages.into_iter().map(message).collect()
}

fn read_message(message: Map<String, Value>) -> Result<(String, String), ApiError> {
    let refuse = |message: String| ApiError::invalid(&message, Some("messages"));
    let mut fields = Fields::new(message);
    let role = fields.text("role")?.unwrap_or_default();
    if !ROLES.contains(&role.as_str()) {
        return Err(refuse(format!("the role '{role}' is not supported; there are {}", ROLES.join(", "))));
    }
    let content = match fields.take("content") {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            let part = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => Ok(text.to_owned()),
                (kind, _) => {
                    Err(refuse(format!("content of type '{}' is not supported", kind.unwrap_or_default())))
                }
            };
            parts.iter().map(part).collect::<Result<String, _>>()?
        }
        Some(_) => return Err(refuse("the content is neither a string nor a list of parts".to_owned())),
    };
    fields.require_neutral(&["annotations", "audio", "function_call", "refusal", "tool_calls"])?;
    // Who of several users speaks.
    fields.take("name");
    fields.finish()?;
    Ok((role, content))
}
