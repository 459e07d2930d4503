//! Generates answers: prompts of all members as one trie, so that what they share is computed once, and answers token by token in
//! one batch that they join and leave.

mod choose;
mod serving;
mod step;

use floor::pretrained::{GenerationDefaults, ModelTokenizer};
use floor::task::StopWatch;

use crate::failure::EngineError;
use crate::fault;
use crate::interrupt::Pulse;
use crate::lora::Adapter;
use crate::memory::{available_memory, within_memory};
use crate::model::{Model, Pages, Sequence};

pub(crate) use choose::Draw;
pub(crate) use serving::{Asked, Outcome, ServingDecoder};
use step::Decoder;

/// A prompt to answer.
pub(crate) struct AnswerRequest<'a> {
    /// Its tokens, at least one.
    pub(crate) prompt: &'a [u32],
    /// Maximum tokens of the answer.
    pub(crate) max_tokens: usize,
    /// How tokens are drawn; none: the most likely one.
    pub(crate) draw: Option<Draw>,
    /// The texts that end the answer.
    pub(crate) stops: &'a StopWatch,
}

/// What all answers of a model have in common.
pub(crate) struct Speaker<'a> {
    pub(crate) model: &'a Model,
    /// Decodes answers to find stop texts; none where no request has any.
    pub(crate) tokenizer: Option<&'a ModelTokenizer>,
    /// The tokens that end an answer.
    pub(crate) ends: &'a [u32],
    /// The checkpoint's own rules for what it generates.
    pub(crate) defaults: &'a GenerationDefaults,
}

/// Bounds of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodeLimits {
    /// Maximum tokens per pass.
    pub(crate) token_budget: usize,
    /// Bytes of keys and values above which no further answer is begun.
    pub(crate) kept_bytes: u64,
}

impl DecodeLimits {
    /// Bytes of keys and values on a device whose free memory is not known.
    const KEPT: u64 = 2 << 30;
    /// Least and most bytes on a CPU, whose memory others use too.
    const LEAST: u64 = 64 << 20;
    const MOST: u64 = 8 << 30;

    /// Within a token budget, and a quarter of the memory that is free now.
    pub(crate) fn of_budget(token_budget: usize, model: &Model) -> Self {
        let free = available_memory().filter(|_| model.device() == tch::Device::Cpu);
        let kept_bytes = free.map_or(Self::KEPT, |free| (free / 4).clamp(Self::LEAST, Self::MOST));
        Self { token_budget, kept_bytes }
    }
}

/// Receives each token of a member's answer by the numbers of member and request, and whether the answer ends with it. No token: the
/// member's logits are not finite, and none of its answers goes on.
pub(crate) type TakeToken<'a> = dyn FnMut(usize, usize, Option<u32>, bool) -> Result<(), EngineError> + 'a;

/// Answers every request by every member (adapter or base). The token that ends an answer is part of it. Returns the number of
/// tokens processed. Errors: what `take` returns, the order is stopped.
pub(crate) fn decode(
    speaker: &Speaker<'_>,
    members: &[Option<&Adapter>],
    requests: &[AnswerRequest<'_>],
    limits: DecodeLimits,
    take: &mut TakeToken<'_>,
    pulse: &mut Pulse<'_>,
) -> Result<u64, EngineError> {
    let mut decoder = Decoder::new(speaker, members, requests, limits, &speaker.model.pages());
    while decoder.has_work() {
        within_memory(limits.token_budget, || {
            fault::at("answer");
            tch::no_grad(|| decoder.step(take))
        })??;
        pulse.beat()?;
    }
    Ok(decoder.tokens())
}

/// The keys and values of a conversation, kept from one answer to the next.
pub(crate) struct Conversation {
    pages: Pages,
    tokens: Vec<u32>,
    sequence: Sequence,
}

impl Conversation {
    /// An empty one.
    pub(crate) fn new(model: &Model) -> Self {
        Self { pages: model.pages(), tokens: Vec::new(), sequence: Sequence::default() }
    }

    /// Answers a prompt; what it shares with the last one and its answer is not computed again. Errors: as [`decode`].
    pub(crate) fn answer(
        &mut self,
        speaker: &Speaker<'_>,
        adapter: Option<&Adapter>,
        request: &AnswerRequest<'_>,
        limits: DecodeLimits,
        take: &mut dyn FnMut(u32) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let shared = self.tokens.iter().zip(request.prompt).take_while(|(a, b)| a == b).count();
        // The last token of the prompt is computed in any case: its logits are wanted.
        let shared = shared.min(self.sequence.tokens()).min(request.prompt.len().saturating_sub(1));
        let known = std::mem::take(&mut self.sequence).truncated(shared);
        let members = [adapter];
        let requests = std::slice::from_ref(request);
        let mut decoder = Decoder::after(speaker, &members, requests, limits, (&self.pages, known));
        let mut answer = Vec::new();
        while decoder.has_work() {
            within_memory(limits.token_budget, || {
                tch::no_grad(|| {
                    decoder.step(&mut |_, _, token, _| {
                        let token = token.ok_or(EngineError::LogitsNotFinite)?;
                        answer.push(token);
                        take(token)
                    })
                })
            })??;
        }
        self.sequence = decoder.last_sequence().unwrap_or_default();
        self.tokens = [request.prompt, &answer].concat();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
