//! Which jobs run together on one frozen base model, from their estimates.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::job::{BaseForm, Bytes, JobId, ModelIdentity, Seconds};

/// Default number of jobs per pack: with more, one crash affects too many jobs.
pub const PACK_MOST: usize = 8;

/// Bytes per second at which a pass reads weights.
const WEIGHTS_PER_SECOND: f64 = 20e9;

/// Constraints on packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRules {
    /// Most jobs per pack.
    pub most: usize,
    /// Number of slots.
    pub slots: usize,
    /// The memory of the largest slot.
    pub memory: Bytes,
    /// Most tokens per pass.
    pub token_budget: usize,
}

/// Jobs that can share passes: the same base in the same form, with or without gradient checkpointing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PackKind {
    /// The base model.
    pub model: ModelIdentity,
    /// Its form.
    pub form: BaseForm,
    /// Whether adapters are trained.
    pub trains: bool,
    /// Whether blocks are recomputed in backward.
    pub checkpointing: bool,
    /// DoRA uses slower operations; one DoRA member slows its whole pass down.
    pub slow: bool,
    /// A job that must be bit-identical in every run has its own passes.
    pub alone: Option<JobId>,
}

/// A job as input of the pack planner.
#[derive(Debug, Clone, PartialEq)]
pub struct PackCandidate {
    /// Which jobs it can share passes with.
    pub kind: PackKind,
    /// Time of the missing work.
    pub time: Seconds,
    /// Memory that a pack holds once: weights and passes.
    pub shared: Bytes,
    /// Memory of its adapter with its moments.
    pub adapter: Bytes,
    /// Its training; none if it only scores.
    pub training: Option<TrainingLoad>,
}

/// The size of a training.
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
    /// Their indices among the candidates.
    pub jobs: Vec<usize>,
    /// Memory: the shared memory of passes, and each job's adapter with its moments.
    pub memory: Bytes,
    /// Time of the pack.
    pub time: Seconds,
    /// Time of its jobs one after another.
    pub alone: Seconds,
}

/// The packs of candidates, in the order of their first jobs; for several slots the longest first. Jobs of similar length are packed
/// together, so that they end together. Packs are small enough that every slot gets one, fit the memory, and end no later than the same
/// jobs one by one.
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
    // A pack occupies one slot: smaller packs may balance the slots better than a large one saves.
    for most in (1..=rules.most.max(1)).rev() {
        packs = packs_of(candidates, &kinds, PackRules { most, ..rules });
        packs.sort_by(|a, b| b.time.0.total_cmp(&a.time.0));
        if makespan(packs.iter().map(|pack| pack.time), rules.slots).0 <= apart {
            break;
        }
    }
    packs
}

/// Indices of the candidates of each kind, the longest job first.
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

/// Packs of at most `rules.most` jobs of a kind, within the memory.
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

/// When the last slot ends: each pack goes to the slot that is free first.
pub fn makespan(times: impl IntoIterator<Item = Seconds>, slots: usize) -> Seconds {
    let mut busy = vec![0.0f64; slots.max(1)];
    for Seconds(time) in times {
        if let Some(least) = busy.iter_mut().min_by(|a, b| a.total_cmp(b)) {
            *least += time;
        }
    }
    Seconds(busy.into_iter().fold(0.0, f64::max))
}

/// Memory of jobs together: the base and the passes once, and each adapter.
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

/// Seconds saved by fuller passes: each pass reads the weights twice, regardless of its size.
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
