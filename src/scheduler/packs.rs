//! Which jobs run together over one frozen base, from what each is estimated to take.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::job::{BaseForm, Bytes, JobId, ModelIdentity, Seconds};

/// Jobs of a pack where nothing says otherwise: with more, one that crashes takes too many with it.
pub const PACK_MOST: usize = 8;

/// Bytes per second at which a pass reads weights.
const WEIGHTS_PER_SECOND: f64 = 20e9;

/// What packs are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRules {
    /// Most jobs of one.
    pub most: usize,
    /// Slots.
    pub slots: usize,
    /// The memory of the largest slot.
    pub memory: Bytes,
    /// Most tokens of one pass.
    pub token_budget: usize,
}

/// Jobs that can share passes: of one base in one form, with blocks kept or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PackKind {
    /// The base model.
    pub model: ModelIdentity,
    /// How it is held.
    pub form: BaseForm,
    /// Whether adapters are trained.
    pub trains: bool,
    /// Whether blocks are computed again in backward.
    pub checkpointing: bool,
    /// DoRA takes slower operations, and one member that does takes all of its pass there.
    pub slow: bool,
    /// A job that must be the same at every run, to the bit, has passes of its own.
    pub alone: Option<JobId>,
}

/// A job that is to run, as the pack planner sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PackCandidate {
    /// Which jobs it can share passes with.
    pub kind: PackKind,
    /// Time of what is missing.
    pub time: Seconds,
    /// Memory that a pack holds once: weights and passes.
    pub shared: Bytes,
    /// Memory of its adapter with its moments.
    pub adapter: Bytes,
    /// What it trains; none where it only scores.
    pub training: Option<TrainingLoad>,
}

/// What a job trains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingLoad {
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens.
    pub tokens: u64,
    /// Memory of the base's weights, which each pass reads.
    pub weights: Bytes,
}

/// Jobs that run together.
#[derive(Debug, Clone, PartialEq)]
pub struct Pack {
    /// Their places among the candidates.
    pub jobs: Vec<usize>,
    /// Memory: what passes hold once, and each job's adapter with its moments.
    pub memory: Bytes,
    /// Time of the pack.
    pub time: Seconds,
    /// Time of its jobs one after another.
    pub alone: Seconds,
}

/// The packs of candidates, in the order of their first jobs; on several slots those that take longest first.
///
/// Jobs of about the same length are put together, so that they end together; packs are small enough that every slot has
/// one, fit the memory, and end no later than the same jobs would one by one.
pub fn plan_packs(candidates: &[PackCandidate], rules: PackRules) -> Vec<Pack> {
    let kinds = by_kind(candidates);
    if rules.slots <= 1 {
        let mut packs = packs_of(candidates, &kinds, rules);
        packs.sort_by_key(|pack| pack.jobs.iter().min().copied());
        return packs;
    }
    let mut times: Vec<Seconds> = candidates.iter().map(|candidate| candidate.time).collect();
    times.sort_by(|a, b| b.0.total_cmp(&a.0));
    let apart = makespan(times, rules.slots).0;
    let mut packs = Vec::new();
    // A pack is one piece for the slots: what its passes save may be less than what a smaller piece would even out.
    for most in (1..=rules.most.max(1)).rev() {
        packs = packs_of(candidates, &kinds, PackRules { most, ..rules });
        packs.sort_by(|a, b| b.time.0.total_cmp(&a.time.0));
        if makespan(packs.iter().map(|pack| pack.time), rules.slots).0 <= apart {
            break;
        }
    }
    packs
}

/// Places of the candidates of each kind, the longest job first.
fn by_kind(candidates: &[PackCandidate]) -> Vec<Vec<usize>> {
    let mut places: HashMap<&PackKind, usize> = HashMap::new();
    let mut kinds: Vec<Vec<usize>> = Vec::new();
    for (at, candidate) in candidates.iter().enumerate() {
        let place = *places.entry(&candidate.kind).or_insert(kinds.len());
        if place == kinds.len() {
            kinds.push(Vec::new());
        }
        kinds[place].push(at);
    }
    for jobs in &mut kinds {
        jobs.sort_by(|a, b| candidates[*b].time.0.total_cmp(&candidates[*a].time.0));
    }
    kinds
}

/// Packs of at most `rules.most` jobs of a kind, each within the memory.
fn packs_of(candidates: &[PackCandidate], kinds: &[Vec<usize>], rules: PackRules) -> Vec<Pack> {
    let mut packs = Vec::new();
    for jobs in kinds {
        let size = rules.most.min(jobs.len().div_ceil(rules.slots.max(1))).max(1);
        let mut open: Vec<usize> = Vec::new();
        for &at in jobs {
            open.push(at);
            let too_much = open.len() > 1 && memory(candidates, &open) > rules.memory;
            if too_much || open.len() > size {
                open.pop();
                packs.push(pack(candidates, std::mem::replace(&mut open, vec![at]), rules));
            }
        }
        packs.push(pack(candidates, open, rules));
    }
    packs
}

/// When the last slot is done: each pack goes to the slot that is free first.
pub fn makespan(times: impl IntoIterator<Item = Seconds>, slots: usize) -> Seconds {
    let mut busy = vec![0.0f64; slots.max(1)];
    for Seconds(time) in times {
        if let Some(least) = busy.iter_mut().min_by(|a, b| a.total_cmp(b)) {
            *least += time;
        }
    }
    Seconds(busy.into_iter().fold(0.0, f64::max))
}

/// What jobs hold together: the base and the passes once, and each one's adapter.
fn memory(candidates: &[PackCandidate], jobs: &[usize]) -> Bytes {
    let shared = jobs.iter().map(|&at| candidates[at].shared.0).max().unwrap_or_default();
    let adapters = jobs.iter().map(|&at| candidates[at].adapter.0);
    Bytes(adapters.fold(shared, u64::saturating_add))
}

fn pack(candidates: &[PackCandidate], mut jobs: Vec<usize>, rules: PackRules) -> Pack {
    jobs.sort_unstable();
    let alone: f64 = jobs.iter().map(|&at| candidates[at].time.0).sum();
    let saved = if jobs.len() > 1 { saved(candidates, &jobs, rules.token_budget) } else { 0.0 };
    Pack {
        memory: memory(candidates, &jobs),
        time: Seconds((alone - saved).max(alone / 2.0)),
        alone: Seconds(alone),
        jobs,
    }
}

/// Seconds that passes save by being fuller: each pass reads the weights twice, whatever it computes.
fn saved(candidates: &[PackCandidate], jobs: &[usize], token_budget: usize) -> f64 {
    let (mut apart, mut tokens, mut weights) = (0.0, 0.0, 0);
    for training in jobs.iter().filter_map(|&at| candidates[at].training) {
        let (steps, all) = (training.steps.max(1) as f64, training.tokens as f64);
        apart += steps * (all / steps / token_budget.max(1) as f64).ceil();
        tokens += all;
        weights = training.weights.0;
    }
    let together = (tokens / token_budget.max(1) as f64).ceil();
    (apart - together).max(0.0) * 2.0 * weights as f64 / WEIGHTS_PER_SECOND
}
