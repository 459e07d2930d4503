//! All requests as one trie: each prefix is computed once, depth first, with branches batched up to the token budget.
//! Logits are computed only at scored tokens.

use floor::task::{EncodedRequest, RequestScore};
use floor::trie::{Query, Trie, Want};
use tch::{Kind, Tensor};

use crate::failure::EngineError;
use crate::fault;
use crate::interrupt::Pulse;
use crate::lora::{Adapter, active};
use crate::memory::within_memory;
use crate::model::{Model, PagedBatch, Pages, Sequence};
use crate::score::{ScoringOptions, Take, logits_of};

/// Maximum rows of logits in memory.
const HEAD_CHUNK: usize = 256;
/// Bytes of cached keys and values above which passes take one run at a time, to go deep rather than wide.
const KEPT_BOUND: u64 = 1 << 30;

/// Scores requests for each member (adapter or base); `take` gets each score once the last token is answered, and
/// returns whether the member continues. Returns the number of tokens processed.
pub(crate) fn score_requests(
    model: &Model,
    members: &[Option<&Adapter>],
    requests: &[EncodedRequest],
    way: ScoringOptions,
    take: &mut Take<'_>,
    pulse: &mut Pulse<'_>,
) -> Result<u64, EngineError> {
    let queries: Vec<Query<'_>> =
        requests.iter().map(|r| Query { input: &r.input, targets: &r.targets }).collect();
    let token_budget = model.row_rule().within(way.token_budget);
    let way = ScoringOptions { token_budget, ..way };
    let trie = Trie::new(&queries, way.token_budget);
    let fresh = || Answers {
        scores: vec![RequestScore { log_likelihood: 0.0, is_greedy: true }; requests.len()],
        left: requests.iter().map(|request| request.targets.len()).collect(),
    };
    let none = Sequence::default;
    let roots = (0..members.len()).rev().map(|member| Waiting { member, node: 0, after: none() });
    let mut walk = Walk {
        model,
        members,
        trie: &trie,
        waiting: roots.collect(),
        pages: model.pages(),
        way,
        answers: members.iter().map(|_| fresh()).collect(),
        answered: Vec::new(),
        gone: vec![false; members.len()],
        tokens: 0,
    };
    while !requests.is_empty() && !walk.waiting.is_empty() {
        within_memory(way.token_budget, || {
            fault::at("score");
            tch::no_grad(|| walk.pass(way.token_budget))
        })??;
        pulse.beat()?;
        for (member, query) in std::mem::take(&mut walk.answered) {
            if walk.gone[member] {
                continue;
            }
            let RequestScore { log_likelihood, is_greedy } = walk.answers[member].scores[query];
            let log_likelihood = way.rounded(model, log_likelihood);
            if !take(member, query, RequestScore { log_likelihood, is_greedy })? {
                walk.gone[member] = true;
                walk.waiting.retain(|waiting| waiting.member != member);
            }
        }
    }
    Ok(walk.tokens)
}

/// A node whose ancestors are computed, for one member.
struct Waiting {
    member: usize,
    node: usize,
    after: Sequence,
}

/// A member's results so far.
struct Answers {
    scores: Vec<RequestScore>,
    /// Number of unanswered tokens per request.
    left: Vec<usize>,
}

struct Walk<'a> {
    model: &'a Model,
    members: &'a [Option<&'a Adapter>],
    trie: &'a Trie,
    /// Deepest last.
    waiting: Vec<Waiting>,
    /// Keys and values of nodes with pending children.
    pages: Pages,
    way: ScoringOptions,
    answers: Vec<Answers>,
    /// Members and requests completed in this pass.
    answered: Vec<(usize, usize)>,
    /// Members that have stopped.
    gone: Vec<bool>,
    tokens: u64,
}

impl Walk<'_> {
    /// Computes the deepest pending nodes, and pushes their children.
    fn pass(&mut self, token_budget: usize) -> Result<(), EngineError> {
        let mut chosen = self.choose(token_budget);
        // A member's rows are contiguous.
        chosen.sort_by_key(|waiting| waiting.member);
        let mut batch = PagedBatch::new(&self.pages);
        for Waiting { node, after, .. } in &mut chosen {
            batch.add(after, &self.trie.nodes[*node].tokens);
        }
        let nodes: Vec<(usize, usize)> =
            chosen.iter().map(|waiting| (waiting.member, waiting.node)).collect();
        let rows = nodes.iter().map(|&(member, node)| (member, self.trie.nodes[node].tokens.len()));
        self.tokens += rows.clone().map(|(_, tokens)| tokens as u64).sum::<u64>();
        let tensors = batch.finish(self.model.row_rule(), self.model.device());
        let active = active(self.members, rows);
        let states = self.model.walk(&tensors, Some(&active), &mut batch);
        self.ask(&nodes, &states)?;
        let mut children = Vec::new();
        for Waiting { member, node, after } in chosen {
            let nodes = self.trie.nodes[node].children.iter();
            children.extend(nodes.map(|&node| Waiting { member, node, after: after.clone() }));
        }
        // The same node of all members is popped together.
        children.sort_by_key(|waiting| (waiting.node, waiting.member));
        self.waiting.extend(children);
        Ok(())
    }

    /// Pops nodes up to the budget; an empty root is replaced by its children.
    fn choose(&mut self, token_budget: usize) -> Vec<Waiting> {
        let mut chosen: Vec<Waiting> = Vec::new();
        let mut tokens = 0;
        while let Some(next) = self.waiting.last() {
            let node = &self.trie.nodes[next.node];
            let narrow = self.pages.used() * self.model.page_bytes() > KEPT_BOUND;
            if !chosen.is_empty() && (narrow || tokens + node.tokens.len() > token_budget) {
                break;
            }
            let Some(waiting) = self.waiting.pop() else { break };
            if node.tokens.is_empty() {
                let member = waiting.member;
                let children = node.children.iter();
                let none = Sequence::default;
                self.waiting.extend(children.map(|&node| Waiting { member, node, after: none() }));
                continue;
            }
            tokens += node.tokens.len();
            chosen.push(waiting);
        }
        chosen
    }

    /// Adds the log-probabilities of the scored tokens at the nodes' positions.
    fn ask(&mut self, nodes: &[(usize, usize)], states: &Tensor) -> Result<(), EngineError> {
        let mut requests: Vec<PendingRequest> = Vec::new();
        let mut start = 0;
        for &(member, node) in nodes {
            let node = &self.trie.nodes[node];
            let row = |want: &Want| (start + want.offset) as i64;
            requests.extend(node.wants.iter().map(|want| PendingRequest {
                member,
                row: row(want),
                want: *want,
            }));
            start += node.tokens.len();
        }
        let mut rows: Vec<(usize, i64)> =
            requests.iter().map(|request| (request.member, request.row)).collect();
        rows.dedup();
        let mut rest = requests.as_slice();
        for rows in rows.chunks(self.model.row_rule().within(HEAD_CHUNK)) {
            let last = rows[rows.len() - 1].1;
            let count = rest.iter().take_while(|request| request.row <= last).count();
            let (chunk, others) = rest.split_at(count);
            rest = others;
            self.ask_rows(rows, chunk, states)?;
        }
        Ok(())
    }

    /// Like [`Walk::ask`], for few enough rows of hidden states to hold their logits.
    fn ask_rows(
        &mut self,
        rows: &[(usize, i64)],
        requests: &[PendingRequest],
        states: &Tensor,
    ) -> Result<(), EngineError> {
        let device = states.device();
        let active = active(self.members, rows.iter().map(|(member, _)| (*member, 1)));
        let rows: Vec<i64> = rows.iter().map(|(_, row)| *row).collect();
        let logits = logits_of(self.model, Some(&active), states, &rows);
        let place = |row: i64| rows.binary_search(&row).map_or(0, |at| at as i64);
        let places: Vec<i64> = requests.iter().map(|request| place(request.row)).collect();
        let tokens: Vec<i64> = requests.iter().map(|request| request.want.token.into()).collect();
        let places = Tensor::from_slice(&places).to_device(device);
        let tokens = Tensor::from_slice(&tokens).to_device(device);
        let vocabulary = logits.size()[1];
        let asked_places = &places * vocabulary + &tokens;
        let kind = self.way.kind(self.model);
        let logs = logits.to_kind(kind).log_softmax(-1, kind);
        let picked = logs.view([-1]).index_select(0, &asked_places);
        let greedy = logits.argmax(-1, false).index_select(0, &places).eq_tensor(&tokens);
        let values = Vec::<f64>::try_from(picked.to_kind(Kind::Double))?;
        let greedy = Vec::<bool>::try_from(greedy)?;
        for (PendingRequest { member, want, .. }, (value, greedy)) in
            requests.iter().zip(values.into_iter().zip(greedy))
        {
            let answers = &mut self.answers[*member];
            let score = &mut answers.scores[want.query];
            score.log_likelihood += value;
            score.is_greedy &= greedy;
            answers.left[want.query] -= 1;
            if answers.left[want.query] == 0 {
                self.answered.push((*member, want.query));
            }
        }
        Ok(())
    }
}

/// A scored token at a row of the pass.
struct PendingRequest {
    member: usize,
    row: i64,
    want: Want,
}
