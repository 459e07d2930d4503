//! What completions and chats have in common: the model, how tokens are chosen, how many, and when an answer ends.

use std::hash::{BuildHasher, RandomState};

use serde_json::Value;

use super::Api;
use super::error::ApiError;
use super::fields::{Fields, wrong};
use crate::protocol::Sampling;
use crate::workspace::Question;

/// Most answers to a prompt.
const MOST_ANSWERS: u64 = 128;
/// Most stop texts.
const MOST_STOPS: usize = 16;

/// The settings of a request.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The number of the model.
    pub(super) member: usize,
    pub(super) model: String,
    pub(super) sampling: Sampling,
    /// Answers to each prompt.
    pub(super) answers: u64,
    pub(super) max_tokens: Option<u64>,
    pub(super) stop_texts: Vec<String>,
    pub(super) streams: bool,
    pub(super) include_usage: bool,
}

impl Settings {
    /// Reads the fields that both kinds of requests have.
    pub(super) fn read(api: &Api, fields: &mut Fields) -> Result<Self, ApiError> {
        let model = fields.text("model")?.ok_or_else(|| wrong("model", "there"))?;
        let member = api.number_of(&model)?;
        let temperature = fields.number("temperature", (0.0, 2.0))?.unwrap_or(1.0);
        let top_p = fields.number("top_p", (0.0, 1.0))?.unwrap_or(1.0);
        // Not OpenAI's, and common.
        let top_k = fields.whole("top_k", (0, u64::from(u32::MAX)))?.unwrap_or(0) as usize;
        let seed = fields.whole("seed", (0, u64::MAX))?.unwrap_or_else(any_seed);
        let answers = fields.whole("n", (1, MOST_ANSWERS))?.unwrap_or(1);
        let stop_texts = fields.texts("stop", MOST_STOPS)?;
        let streams = fields.flag("stream")?;
        let include_usage = match fields.take("stream_options") {
            None => false,
            Some(Value::Object(options)) => {
                let mut options = Fields::new(options);
                let include = options.flag("include_usage")?;
                options.require_neutral(&["include_obfuscation"])?;
                options.finish()?;
                include
            }
            Some(_) => return Err(wrong("stream_options", "an object")),
        };
        let max_tokens = fields.whole("max_tokens", (1, u64::from(u32::MAX)))?;
        fields.require_neutral(&["frequency_penalty", "logit_bias", "presence_penalty"])?;
        let sampling = Sampling { temperature, top_k, top_p, seed };
        Ok(Self { member, model, sampling, answers, max_tokens, stop_texts, streams, include_usage })
    }

    /// The questions of a prompt, one for each answer. Error: it does not fit into the model.
    pub(super) fn questions(
        &self,
        api: &Api,
        prompt: &[u32],
        (stop_tokens, default): (&[u32], u64),
        top_logprobs: Option<usize>,
    ) -> Result<Vec<Question>, ApiError> {
        let positions = api.server.positions;
        let room = positions.saturating_sub(prompt.len() as u64);
        let asked = self.max_tokens.unwrap_or(1);
        if prompt.is_empty() {
            return Err(ApiError::invalid("the prompt is empty", Some("prompt")));
        }
        if asked > room {
            return Err(ApiError::too_long(prompt.len(), asked, positions));
        }
        if asked > api.max_new_tokens {
            let message = format!("this server gives at most {} tokens", api.max_new_tokens);
            return Err(ApiError::invalid(&message, Some("max_tokens")));
        }
        let max_new_tokens = self.max_tokens.unwrap_or(default.min(room).min(api.max_new_tokens));
        let question = |answer| Question {
            member: self.member,
            prompt: prompt.to_vec(),
            stop_tokens: stop_tokens.to_vec(),
            stop_texts: self.stop_texts.clone(),
            max_new_tokens,
            sampling: self.sampling,
            answer,
            top_logprobs,
        };
        Ok((0..self.answers).map(question).collect())
    }
}

/// A seed that nobody asked for.
pub(super) fn any_seed() -> u64 {
    RandomState::new().hash_one(0) >> 1
}
