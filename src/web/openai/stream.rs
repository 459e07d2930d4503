//! Answers as server-sent events.

use std::convert::Infallible;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};

use super::answer::Usage;
use super::error::ApiError;
use crate::workspace::{AnswerError, AnswerPart, AnswerStream};

/// A part of the answer with this number.
type Numbered = (usize, Result<AnswerPart, AnswerError>);

/// Sends `before`, a chunk for each part of any answer, the usage if it is asked for, and `[DONE]`. When the client goes, the stream is
/// dropped and with it what is being answered.
pub(super) fn events(
    answers: Vec<AnswerStream>,
    before: Vec<Value>,
    chunk: impl Fn(usize, &AnswerPart) -> Vec<Value> + Send + 'static,
    usage: Option<(Usage, Value)>,
) -> Response {
    let parts = stream::select_all(answers.into_iter().enumerate().map(|(number, answer)| {
        Box::pin(stream::unfold(answer, move |mut answer| async move {
            let part = answer.next().await?;
            Some(((number, part), answer))
        }))
    }));
    let before = stream::iter(before.into_iter().map(data));
    Sse::new(before.chain(chunks(parts, chunk, usage))).into_response()
}

/// What a stream still has to send.
enum State<S> {
    Parts(S, Option<(Usage, Value)>),
    Done,
}

fn chunks<S: Stream<Item = Numbered> + Send + Unpin + 'static>(
    parts: S,
    chunk: impl Fn(usize, &AnswerPart) -> Vec<Value> + Send + 'static,
    usage: Option<(Usage, Value)>,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let state = (State::Parts(parts, usage), chunk);
    let groups = stream::unfold(state, async |(state, chunk)| {
        let State::Parts(mut parts, mut usage) = state else { return None };
        match parts.next().await {
            Some((number, Ok(part))) => {
                if let Some((usage, _)) = &mut usage {
                    usage.answer += u64::from(part.token.is_some());
                }
                let events = chunk(number, &part).into_iter().map(data).collect();
                Some((events, (State::Parts(parts, usage), chunk)))
            }
            // What comes after an error would not be the answer.
            Some((_, Err(error))) => Some((vec![data(ApiError::from(error).json())], (State::Done, chunk))),
            None => {
                let last = usage.map(|(usage, mut last)| {
                    last["choices"] = json!([]);
                    last["usage"] = usage.json();
                    data(last)
                });
                let events = last.into_iter().chain([Ok(Event::default().data("[DONE]"))]).collect();
                Some((events, (State::Done, chunk)))
            }
        }
    });
    groups.flat_map(|events: Vec<Result<Event, Infallible>>| stream::iter(events))
}

fn data(value: Value) -> Result<Event, Infallible> {
    Ok(Event::default().data(value.to_string()))
}
