//! Answers as they are collected: text, reason of the end, counts, log-probabilities.

use serde_json::{Value, json};

use super::Api;
use super::error::ApiError;
use crate::pretrained::ModelTokenizer;
use crate::protocol::{AnswerEnd, TokenLogprobs};
use crate::workspace::{AnswerPart, AnswerStream, Question};

/// Tokens of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    pub(super) prompt: u64,
    pub(super) answer: u64,
}

impl Usage {
    pub(super) fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt, "completion_tokens": self.answer,
            "total_tokens": self.prompt + self.answer,
        })
    }
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) end: AnswerEnd,
    pub(super) tokens: Vec<u32>,
    pub(super) logprobs: Vec<TokenLogprobs>,
}

/// Asks all questions at once. Error: too many are being answered.
pub(super) fn ask(api: &Api, questions: Vec<Question>) -> Result<Vec<AnswerStream>, ApiError> {
    Ok(questions.into_iter().map(|question| api.server.ask(question)).collect::<Result<_, _>>()?)
}

/// Waits for whole answers.
pub(super) async fn collect(streams: Vec<AnswerStream>) -> Result<Vec<Answer>, ApiError> {
    let mut answers = Vec::new();
    for mut stream in streams {
        let mut answer =
            Answer { text: String::new(), end: AnswerEnd::Length, tokens: Vec::new(), logprobs: Vec::new() };
        while let Some(part) = stream.next().await {
            let AnswerPart { text, token, logprobs, end } = part?;
            answer.text.push_str(&text);
            answer.tokens.extend(token);
            answer.logprobs.extend(logprobs.filter(|_| token.is_some()));
            answer.end = end.unwrap_or(answer.end);
        }
        answers.push(answer);
    }
    Ok(answers)
}

/// OpenAI's word for the end of an answer.
pub(super) fn finish_reason(end: AnswerEnd) -> &'static str {
    match end {
        AnswerEnd::Stop => "stop",
        AnswerEnd::Length => "length",
    }
}

/// The text of a token by itself.
pub(super) fn token_text(tokenizer: &ModelTokenizer, token: u32) -> String {
    tokenizer.decode(&[token]).unwrap_or_default()
}

/// Log-probabilities as completions report them; `offset` is that of the first token in the text.
pub(super) fn logprobs_of_completion(
    tokenizer: &ModelTokenizer,
    (tokens, logprobs): (&[u32], &[TokenLogprobs]),
    offset: usize,
) -> Value {
    let texts: Vec<String> = tokens.iter().map(|token| token_text(tokenizer, *token)).collect();
    let offsets: Vec<usize> = texts
        .iter()
        .scan(offset, |at, text| {
            let start = *at;
            *at += text.chars().count();
            Some(start)
        })
        .collect();
    let top = |logprobs: &TokenLogprobs| {
        let pairs = logprobs.top.iter().map(|(token, value)| (token_text(tokenizer, *token), json!(value)));
        Value::Object(pairs.collect())
    };
    json!({
        "tokens": texts,
        "token_logprobs": logprobs.iter().map(|logprobs| logprobs.chosen).collect::<Vec<f64>>(),
        "top_logprobs": logprobs.iter().map(top).collect::<Vec<Value>>(),
        "text_offset": offsets,
    })
}

/// Log-probabilities as chats report them.
pub(super) fn logprobs_of_chat(
    tokenizer: &ModelTokenizer,
    (tokens, logprobs): (&[u32], &[TokenLogprobs]),
) -> Value {
    let entry = |token: u32, logprob: f64| {
        let text = token_text(tokenizer, token);
        let bytes = text.as_bytes().to_vec();
        json!({ "token": text, "logprob": logprob, "bytes": bytes })
    };
    let content = tokens.iter().zip(logprobs).map(|(token, logprobs)| {
        let mut value = entry(*token, logprobs.chosen);
        value["top_logprobs"] = logprobs.top.iter().map(|(token, logprob)| entry(*token, *logprob)).collect();
        value
    });
    json!({ "content": content.collect::<Vec<Value>>(), "refusal": null })
}
