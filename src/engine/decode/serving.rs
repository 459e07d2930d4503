//! Answers to inquiries that come and go: each pass computes the next token of every open answer, and prompts as far as there is room.

use std::collections::VecDeque;

use floor::pretrained::GenerationDefaults;
use floor::protocol::{AnswerEnd, AskInquiry, TokenLogprobs};

use super::choose::{SoFar, choose, logprobs};
use super::{DecodeLimits, Draw};
use crate::failure::EngineError;
use crate::lora::{Adapter, active};
use crate::model::{Model, PAGE, PagedBatch, Pages, Sequence};
use crate::score::logits_of;

/// Answers in progress at one time; more would wait for each other's products without gaining.
const MOST_OPEN: usize = 128;
/// Ended answers whose keys and values are kept, for prompts that begin alike.
const MOST_KEPT: usize = 64;

/// An inquiry.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) id: u64,
    pub(crate) member: usize,
    /// At least one token.
    pub(crate) prompt: Vec<u32>,
    pub(crate) ends: Vec<u32>,
    /// At least one.
    pub(crate) max_tokens: usize,
    /// None: the most likely token.
    pub(crate) draw: Option<Draw>,
    /// Whether log-probabilities are reported, with this many of the most likely tokens.
    pub(crate) top_logprobs: Option<usize>,
}

/// An answer in progress: tokens of prompt and answer beyond those of `sequence` are not computed yet.
struct Open {
    asked: Asked,
    sequence: Sequence,
    answer: Vec<u32>,
}

/// Keys and values of an answer that ended, with the tokens that they are of.
struct Kept {
    member: usize,
    tokens: Vec<u32>,
    sequence: Sequence,
}

/// What became of an inquiry in a pass.
pub(crate) enum Outcome {
    /// Its next token.
    Token { token: u32, end: Option<AnswerEnd>, logprobs: Option<TokenLogprobs> },
    /// Its logits are not finite.
    NotFinite,
}

/// Everything that is being answered.
pub(crate) struct ServingDecoder<'a> {
    model: &'a Model,
    members: &'a [Option<&'a Adapter>],
    defaults: &'a GenerationDefaults,
    limits: DecodeLimits,
    pages: Pages,
    waiting: VecDeque<Asked>,
    /// In the order of their beginning.
    open: Vec<Open>,
    /// The last one to end is last.
    kept: Vec<Kept>,
}

impl<'a> ServingDecoder<'a> {
    pub(crate) fn new(
        model: &'a Model,
        members: &'a [Option<&'a Adapter>],
        defaults: &'a GenerationDefaults,
        limits: DecodeLimits,
    ) -> Self {
        let token_budget = model.row_rule().within(limits.token_budget);
        let limits = DecodeLimits { token_budget, ..limits };
        let (waiting, open, kept) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { model, members, defaults, limits, pages: model.pages(), waiting, open, kept }
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.open.is_empty()
    }

    /// Maximum tokens per pass.
    pub(crate) fn token_budget(&self) -> usize {
        self.limits.token_budget
    }

    /// Tokens that an inquiry may get. Error: why it cannot be answered.
    pub(crate) fn check(&self, inquiry: &AskInquiry) -> Result<usize, String> {
        let (positions, vocabulary) = (self.model.config.max_positions, self.model.config.vocab_size);
        if inquiry.member >= self.members.len() {
            return Err(format!("unknown model {}", inquiry.member));
        }
        if let Some(token) = inquiry.prompt.iter().find(|token| u64::from(**token) >= vocabulary) {
            return Err(format!("the model has {vocabulary} tokens, and none with the id {token}"));
        }
        let room = positions.saturating_sub(inquiry.prompt.len() as u64).min(inquiry.max_new_tokens);
        match (inquiry.prompt.len(), room) {
            (0, _) => Err("the prompt is empty".to_owned()),
            (tokens, 0) => {
                Err(format!("the prompt has {tokens} tokens, and the model {positions} positions"))
            }
            (_, room) => Ok(room as usize),
        }
    }

    /// Adds an inquiry; it begins when there is room.
    pub(crate) fn ask(&mut self, asked: Asked) {
        self.waiting.push_back(asked);
    }

    /// Drops an inquiry.
    pub(crate) fn withdraw(&mut self, id: u64) {
        self.waiting.retain(|asked| asked.id != id);
        self.open.retain(|open| open.asked.id != id);
    }

    /// Computes one pass and gives what follows from it to `take`.
    pub(crate) fn step(
        &mut self,
        take: &mut dyn FnMut(u64, Outcome) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.begin();
        // A member's rows are contiguous; the sort keeps the order of their beginning.
        self.open.sort_by_key(|open| open.asked.member);
        let counts = self.tokens_of_pass();
        let (mut batch, mut rows, mut places, mut start) =
            (PagedBatch::new(&self.pages), Vec::new(), Vec::new(), 0);
        for (open, count) in self.open.iter_mut().zip(counts).filter(|(_, count)| *count > 0) {
            let tokens = open.next_tokens(count);
            batch.add(&mut open.sequence, &tokens);
            rows.push((open.asked.member, count));
            start += count;
            if open.pending() == 0 {
                places.push(start as i64 - 1);
            }
        }
        let tensors = batch.finish(self.model.row_rule(), self.model.device());
        let adapters = active(self.members, rows.iter().copied());
        let states = self.model.walk(&tensors, Some(&adapters), &mut batch);
        self.choose(&states, &places, take)
    }

    /// Begins inquiries as far as rows and memory go.
    fn begin(&mut self) {
        while let Some(next) = self.waiting.front() {
            if self.open.len() >= MOST_OPEN.min(self.limits.token_budget) {
                return;
            }
            // What is being computed for another one is waited for.
            let soon = self.open.iter().filter(|open| open.asked.member == next.member);
            let soon = soon.map(|open| shared(&open.asked.prompt, &next.prompt)).max().unwrap_or_default();
            let known = self.known(next);
            if soon >= known.tokens() + PAGE {
                return;
            }
            let needed = pages_of(next.prompt.len() + next.max_tokens) + 1;
            let promised: u64 = self.open.iter().map(Open::pages_to_come).sum();
            let page_bytes = self.model.page_bytes();
            let fits = |used: u64| (used + promised + needed) * page_bytes <= self.limits.kept_bytes;
            while !fits(self.pages.used()) && !self.kept.is_empty() {
                self.kept.remove(0);
            }
            // Something goes on in every pass.
            if !fits(self.pages.used()) && !self.open.is_empty() {
                return;
            }
            let Some(asked) = self.waiting.pop_front() else { return };
            self.open.push(Open { asked, sequence: known, answer: Vec::new() });
        }
    }

    /// Keys and values of the longest beginning of a prompt that are there. The prompt's last token is computed in any case: its
    /// logits are wanted.
    fn known(&self, asked: &Asked) -> Sequence {
        let kept = self.kept.iter().map(|kept| (kept.member, &kept.tokens, &kept.sequence));
        let open = self.open.iter().map(|open| (open.asked.member, &open.asked.prompt, &open.sequence));
        let same = kept.chain(open).filter(|(member, ..)| *member == asked.member);
        let candidates = same.map(|(_, tokens, sequence)| {
            let tokens = shared(tokens, &asked.prompt).min(sequence.tokens()).min(asked.prompt.len() - 1);
            (tokens, sequence)
        });
        let best = candidates.max_by_key(|(tokens, _)| *tokens);
        best.map_or_else(Sequence::default, |(tokens, sequence)| sequence.clone().truncated(tokens))
    }

    /// Tokens that the pass computes of each open answer: one of those that are being answered, and prompts in the order of their
    /// beginning.
    fn tokens_of_pass(&self) -> Vec<usize> {
        let answering = self.open.iter().filter(|open| !open.answer.is_empty()).count();
        let mut left = self.limits.token_budget.saturating_sub(answering);
        let mut counts = vec![0; self.open.len()];
        let mut order: Vec<usize> = (0..self.open.len()).collect();
        order.sort_by_key(|at| self.open[*at].asked.id);
        for at in order {
            let open = &self.open[at];
            counts[at] = if open.answer.is_empty() { open.pending().min(left) } else { 1 };
            left -= if open.answer.is_empty() { counts[at] } else { 0 };
        }
        counts
    }

    /// Chooses the next token of each answer whose tokens are all computed; those that go on stay open.
    fn choose(
        &mut self,
        states: &tch::Tensor,
        places: &[i64],
        take: &mut dyn FnMut(u64, Outcome) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        if places.is_empty() {
            return Ok(());
        }
        let (ready, others): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.open).into_iter().partition(|open| open.pending() == 0);
        self.open = others;
        let adapters = active(self.members, ready.iter().map(|open| (open.asked.member, 1)));
        let logits = logits_of(self.model, Some(&adapters), states, places);
        let rows: Vec<SoFar<'_>> = ready.iter().map(Open::so_far).collect();
        let tokens = choose(&logits, &rows, self.defaults)?;
        for (row, (mut open, token)) in ready.into_iter().zip(tokens).enumerate() {
            let Some(token) = token else {
                take(open.asked.id, Outcome::NotFinite)?;
                continue;
            };
            open.answer.push(token);
            let end = if open.asked.ends.contains(&token) {
                Some(AnswerEnd::Stop)
            } else {
                (open.answer.len() >= open.asked.max_tokens).then_some(AnswerEnd::Length)
            };
            let logprobs =
                open.asked.top_logprobs.map(|top| logprobs(&logits, row as i64, token, top)).transpose()?;
            take(open.asked.id, Outcome::Token { token, end, logprobs })?;
            match end {
                None => self.open.push(open),
                Some(_) => self.keep(open),
            }
        }
        Ok(())
    }

    /// Keeps the keys and values of an answer that ended.
    fn keep(&mut self, open: Open) {
        let mut tokens = [open.asked.prompt, open.answer].concat();
        tokens.truncate(open.sequence.tokens());
        // One that this one continues is of no more use.
        let member = open.asked.member;
        self.kept.retain(|kept| kept.member != member || !tokens.starts_with(&kept.tokens));
        if self.kept.len() == MOST_KEPT {
            self.kept.remove(0);
        }
        self.kept.push(Kept { member, tokens, sequence: open.sequence });
    }
}

impl Open {
    /// Tokens that are not computed yet.
    fn pending(&self) -> usize {
        self.asked.prompt.len() + self.answer.len() - self.sequence.tokens()
    }

    fn next_tokens(&self, count: usize) -> Vec<u32> {
        let all = self.asked.prompt.iter().chain(&self.answer);
        all.skip(self.sequence.tokens()).take(count).copied().collect()
    }

    /// Pages that it may still take.
    fn pages_to_come(&self) -> u64 {
        pages_of(self.asked.prompt.len() + self.asked.max_tokens)
            .saturating_sub(pages_of(self.sequence.tokens()))
    }

    fn so_far(&self) -> SoFar<'_> {
        let Asked { prompt, ends, draw, .. } = &self.asked;
        SoFar { prompt, answer: &self.answer, draw: *draw, ends }
    }
}

/// Length of the common beginning.
fn shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn pages_of(tokens: usize) -> u64 {
    tokens.div_ceil(PAGE) as u64
}
