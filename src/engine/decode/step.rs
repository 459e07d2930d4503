//! One pass: the next tokens of every open answer, and prompts as far as there is room.

use floor::trie::{Query, Trie};

use super::choose::{SoFar, choose};
use super::{AnswerRequest, DecodeLimits, Speaker, TakeToken};
use crate::failure::EngineError;
use crate::lora::{Adapter, active};
use crate::model::{PAGE, PagedBatch, Pages, Sequence};
use crate::score::logits_of;

/// Answers in progress at one time; more would wait for each other's products without gaining.
const MOST_OPEN: usize = 128;

/// A node of the prompts whose ancestors are computed, for one member.
struct Waiting {
    member: usize,
    node: usize,
    after: Sequence,
}

/// An answer in progress. Its last token is not computed yet.
struct Open {
    member: usize,
    request: usize,
    sequence: Sequence,
    answer: Vec<u32>,
}

/// What a pass computes for one member, in order.
enum Part {
    Prompt { node: usize, sequence: Sequence },
    Answer(Open),
}

/// The answers of all members to all requests.
pub(super) struct Decoder<'a> {
    speaker: &'a Speaker<'a>,
    members: &'a [Option<&'a Adapter>],
    requests: &'a [AnswerRequest<'a>],
    limits: DecodeLimits,
    pages: Pages,
    trie: Trie,
    /// Deepest last.
    waiting: Vec<Waiting>,
    open: Vec<Open>,
    tokens: u64,
    last: Option<Sequence>,
    /// Members whose logits were not finite.
    gone: Vec<bool>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(
        speaker: &'a Speaker<'a>,
        members: &'a [Option<&'a Adapter>],
        requests: &'a [AnswerRequest<'a>],
        limits: DecodeLimits,
        pages: &Pages,
    ) -> Self {
        Self::after(speaker, members, requests, limits, (pages, Sequence::default()))
    }

    /// With the first tokens of every prompt computed already.
    pub(super) fn after(
        speaker: &'a Speaker<'a>,
        members: &'a [Option<&'a Adapter>],
        requests: &'a [AnswerRequest<'a>],
        limits: DecodeLimits,
        (pages, known): (&Pages, Sequence),
    ) -> Self {
        let first = known.tokens();
        let token_budget = speaker.model.row_rule().within(limits.token_budget);
        let limits = DecodeLimits { token_budget, ..limits };
        // The place of the one target is where a prompt ends.
        let queries: Vec<Query<'_>> =
            requests.iter().map(|request| Query { input: &request.prompt[first..], targets: &[0] }).collect();
        let trie = Trie::new(&queries, limits.token_budget);
        let root = |member| Waiting { member, node: 0, after: known.clone() };
        let waiting =
            if requests.is_empty() { Vec::new() } else { (0..members.len()).rev().map(root).collect() };
        let pages = pages.clone();
        Self {
            speaker,
            members,
            requests,
            limits,
            pages,
            trie,
            waiting,
            open: Vec::new(),
            tokens: 0,
            last: None,
            gone: vec![false; members.len()],
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.open.is_empty()
    }

    /// Tokens processed so far.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The keys and values of the answer that ended last.
    pub(super) fn last_sequence(self) -> Option<Sequence> {
        self.last
    }

    /// Computes one pass and gives every token that follows from it to `take`.
    pub(super) fn step(&mut self, take: &mut TakeToken<'_>) -> Result<(), EngineError> {
        let mut parts: Vec<(usize, Part)> = self.begin().into_iter().collect();
        parts
            .extend(std::mem::take(&mut self.open).into_iter().map(|open| (open.member, Part::Answer(open))));
        // A member's rows are contiguous.
        parts.sort_by_key(|(member, _)| *member);
        let (mut batch, mut rows) = (PagedBatch::new(&self.pages), Vec::new());
        for (member, part) in &mut parts {
            let count = match part {
                Part::Prompt { node, sequence } => {
                    let tokens = &self.trie.nodes[*node].tokens;
                    batch.add(sequence, tokens);
                    tokens.len()
                }
                Part::Answer(open) => {
                    // An answer is open only after its first token.
                    batch.add(&mut open.sequence, &open.answer[open.answer.len() - 1..]);
                    1
                }
            };
            rows.push((*member, count));
            self.tokens += count as u64;
        }
        let tensors = batch.finish(self.speaker.model.row_rule(), self.speaker.model.device());
        let adapters = active(self.members, rows.iter().copied());
        let states = self.speaker.model.walk(&tensors, Some(&adapters), &mut batch);
        let (wanted, places) = self.after_pass(parts);
        self.choose(&states, wanted, &places, take)
    }

    /// The next nodes of prompts, as many as fit into the budget beside the open answers, and into the memory with the answers that
    /// they begin.
    fn begin(&mut self) -> Vec<(usize, Part)> {
        let (mut begun, mut tokens, mut answers) = (Vec::new(), self.open.len(), self.open.len());
        let mut pages = self.pages.used()
            + self.open.iter().map(|open| self.pages_to_come(open.request, open.answer.len())).sum::<u64>();
        while let Some(next) = self.waiting.last() {
            let node = &self.trie.nodes[next.node];
            let needed: u64 = node.tokens.len().div_ceil(PAGE) as u64
                + 1
                + node.wants.iter().map(|want| self.pages_to_come(want.query, 0) + 1).sum::<u64>();
            let bytes = (pages + needed) * self.speaker.model.page_bytes();
            let fits = tokens + node.tokens.len() <= self.limits.token_budget
                && answers + node.wants.len() <= MOST_OPEN.min(self.limits.token_budget)
                && bytes <= self.limits.kept_bytes;
            // Something goes on in every pass.
            let is_idle = begun.is_empty() && self.open.is_empty();
            if !fits && !is_idle {
                break;
            }
            let Some(Waiting { member, node: number, after }) = self.waiting.pop() else { break };
            if node.tokens.is_empty() {
                let children = node.children.iter().rev();
                self.waiting.extend(children.map(|&node| Waiting { member, node, after: after.clone() }));
                continue;
            }
            tokens += node.tokens.len();
            answers += node.wants.len();
            pages += needed;
            begun.push((member, Part::Prompt { node: number, sequence: after }));
        }
        begun
    }

    /// Pages that an answer may still take.
    fn pages_to_come(&self, request: usize, made: usize) -> u64 {
        self.requests[request].max_tokens.saturating_sub(made).div_ceil(PAGE) as u64
    }

    /// The answers whose next token follows from a pass, each with its row, member by member; nodes after the computed ones wait.
    fn after_pass(&mut self, parts: Vec<(usize, Part)>) -> (Vec<Open>, Vec<i64>) {
        let (mut wanted, mut places, mut start) = (Vec::new(), Vec::new(), 0);
        let mut children = Vec::new();
        for (member, part) in parts {
            match part {
                Part::Answer(open) => {
                    wanted.push(open);
                    places.push(start as i64);
                    start += 1;
                }
                Part::Prompt { node, sequence } => {
                    let node = &self.trie.nodes[node];
                    for want in &node.wants {
                        let after = sequence.clone();
                        // A prompt may end inside a node's run only at its end: runs split where prompts do.
                        wanted.push(Open {
                            member,
                            request: want.query,
                            sequence: after,
                            answer: Vec::new(),
                        });
                        places.push((start + want.offset) as i64);
                    }
                    start += node.tokens.len();
                    let after = |&node: &usize| Waiting { member, node, after: sequence.clone() };
                    children.extend(node.children.iter().map(after));
                }
            }
        }
        // The same node of all members is popped together, the first node first.
        children.sort_by_key(|waiting| std::cmp::Reverse((waiting.node, waiting.member)));
        self.waiting.extend(children);
        (wanted, places)
    }

    /// Nothing of a member goes on.
    fn drop_member(&mut self, member: usize) {
        self.gone[member] = true;
        self.waiting.retain(|waiting| waiting.member != member);
        self.open.retain(|open| open.member != member);
    }

    /// Chooses the next token of each answer; those that go on stay open.
    fn choose(
        &mut self,
        states: &tch::Tensor,
        wanted: Vec<Open>,
        places: &[i64],
        take: &mut TakeToken<'_>,
    ) -> Result<(), EngineError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let Speaker { model, tokenizer, ends, defaults } = self.speaker;
        let adapters = active(self.members, wanted.iter().map(|open| (open.member, 1)));
        let logits = logits_of(model, Some(&adapters), states, places);
        let rows: Vec<SoFar<'_>> = wanted
            .iter()
            .map(|open| {
                let request = &self.requests[open.request];
                SoFar { prompt: request.prompt, answer: &open.answer, draw: request.draw, ends }
            })
            .collect();
        let tokens = choose(&logits, &rows, defaults)?;
        for (mut open, token) in wanted.into_iter().zip(tokens) {
            let request = &self.requests[open.request];
            if self.gone[open.member] {
                continue;
            }
            let Some(token) = token else {
                self.drop_member(open.member);
                take(open.member, open.request, None, true)?;
                continue;
            };
            open.answer.push(token);
            let has_stopped = match tokenizer {
                Some(tokenizer) => request.stops.has_ended(&open.answer, tokenizer)?,
                None => false,
            };
            let ends = ends.contains(&token) || has_stopped || open.answer.len() >= request.max_tokens;
            take(open.member, open.request, Some(token), ends)?;
            if ends {
                self.last = Some(open.sequence);
            } else {
                self.open.push(open);
            }
        }
        Ok(())
    }
}
