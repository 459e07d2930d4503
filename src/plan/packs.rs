//! Which jobs run together over one frozen base, from what each is thought to take.

use std::collections::HashMap;

use super::build::Plan;
use super::job::{PlannedJob, Work};
use crate::device::{Slot, available_memory};
use crate::job::{BaseForm, Bytes, Seconds, Variant};

/// Jobs of a pack where nothing says otherwise: with more, one that dies takes too many with it.
pub const PACK_MOST: usize = 8;

/// What packs are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRules {
    /// Most jobs of one.
    pub most: usize,
    /// Places where engines run.
    pub slots: usize,
    /// The memory that the largest place has.
    pub memory: Bytes,
    /// Most tokens of one pass.
    pub token_budget: usize,
}

impl PackRules {
    /// The rules for slots. CPU slots share what is available now.
    pub fn of(slots: &[Slot], most: usize) -> Self {
        let share = available_memory().0 / slots.len().max(1) as u64;
        let memory = |slot: &Slot| if slot.card.is_some() { slot.memory } else { Bytes(share) };
        Self {
            most,
            slots: slots.len(),
            memory: slots.iter().map(memory).max().unwrap_or(Bytes(u64::MAX)),
            token_budget: slots.iter().map(|slot| slot.token_budget).max().unwrap_or(1),
        }
    }
}

/// Jobs that run together.
#[derive(Debug, Clone, PartialEq)]
pub struct Pack {
    /// Their places in the plan.
    pub jobs: Vec<usize>,
    /// Memory: what passes hold once, and each job's adapter with its moments.
    pub memory: Bytes,
    /// Time of the pack.
    pub time: Seconds,
    /// Time of its jobs one after another.
    pub alone: Seconds,
}

/// Jobs that can share passes: of one base in one form, with blocks kept or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    model: usize,
    form: BaseForm,
    trains: bool,
    checkpointing: bool,
    /// DoRA and whole heads take slower operations, and one member that does takes all of its pass there.
    slow: bool,
    /// A job that must be the same at every run, to the bit, has passes of its own.
    alone: Option<usize>,
}

/// The packs of what a plan is missing, in the order of their first jobs; on several slots those that take longest first.
///
/// Jobs of about the same length are put together, so that they end together; packs are small enough that every slot has
/// one, and fit the memory.
pub fn packs(plan: &Plan, rules: PackRules) -> Vec<Pack> {
    let mut places: HashMap<Kind, usize> = HashMap::new();
    let mut kinds: Vec<Vec<usize>> = Vec::new();
    for (at, job) in plan.jobs.iter().enumerate().filter(|(_, job)| !job.is_done()) {
        let place = *places.entry(kind(at, job)).or_insert(kinds.len());
        if place == kinds.len() {
            kinds.push(Vec::new());
        }
        kinds[place].push(at);
    }
    let mut packs = Vec::new();
    for mut jobs in kinds {
        let time = |&at: &usize| plan.jobs[at].estimate.time.0;
        jobs.sort_by(|a, b| time(b).total_cmp(&time(a)));
        let size = rules.most.min(jobs.len().div_ceil(rules.slots.max(1))).max(1);
        let mut open: Vec<usize> = Vec::new();
        for at in jobs {
            open.push(at);
            let too_much = open.len() > 1 && memory(plan, &open) > rules.memory;
            if too_much || open.len() > size {
                open.pop();
                packs.push(pack(plan, std::mem::replace(&mut open, vec![at]), rules));
            }
        }
        packs.push(pack(plan, open, rules));
    }
    if rules.slots > 1 {
        packs.sort_by(|a, b| b.time.0.total_cmp(&a.time.0));
    } else {
        packs.sort_by_key(|pack| pack.jobs.iter().min().copied());
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

fn kind(at: usize, job: &PlannedJob) -> Kind {
    let config = match &job.work {
        Work::Train { config, .. } if job.train_missing => Some(config),
        _ => None,
    };
    let train = config.map(|config| &config.train);
    Kind {
        model: job.model,
        form: job.base_form(),
        trains: train.is_some(),
        checkpointing: train.is_some_and(|train| train.gradient_checkpointing),
        slow: config.is_some_and(|config| config.lora.variant == Variant::Dora),
        alone: train.filter(|train| train.strict).map(|_| at),
    }
}

/// What jobs hold together: the base and the passes once, and each one's adapter.
fn memory(plan: &Plan, jobs: &[usize]) -> Bytes {
    let own = jobs.iter().filter_map(|&at| plan.jobs[at].estimate.memory);
    let (mut shared, mut adapters) = (0, 0);
    for memory in own {
        shared = shared.max(memory.total().0 - memory.adapter.0 - memory.optimizer.0);
        adapters += memory.adapter.0 + memory.optimizer.0;
    }
    Bytes(shared + adapters)
}

fn pack(plan: &Plan, mut jobs: Vec<usize>, rules: PackRules) -> Pack {
    jobs.sort_unstable();
    let alone: f64 = jobs.iter().map(|&at| plan.jobs[at].estimate.time.0).sum();
    let saved = if jobs.len() > 1 { saved(plan, &jobs, rules.token_budget) } else { 0.0 };
    Pack {
        memory: memory(plan, &jobs),
        time: Seconds((alone - saved).max(alone / 2.0)),
        alone: Seconds(alone),
        jobs,
    }
}

/// Seconds that passes save by being fuller: each pass reads the weights twice, at 20 GB/s, whatever it computes.
fn saved(plan: &Plan, jobs: &[usize], token_budget: usize) -> f64 {
    let (mut apart, mut tokens, mut weights) = (0.0, 0.0, 0);
    for &at in jobs {
        let job = &plan.jobs[at];
        let (Work::Train { config, .. }, Some(memory), true) =
            (&job.work, job.estimate.memory, job.train_missing)
        else {
            continue;
        };
        let (steps, all) = (config.train.steps() as f64, job.estimate.train_tokens as f64);
        apart += steps * (all / steps / token_budget as f64).ceil();
        tokens += all;
        weights = memory.weights.0;
    }
    let together = (tokens / token_budget as f64).ceil();
    (apart - together).max(0.0) * 2.0 * weights as f64 / 20e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slot_ends_when_the_longest_first_are_spread() {
        let times = [8.0, 5.0, 4.0, 3.0].map(Seconds);
        assert_eq!(makespan(times, 2), Seconds(11.0));
        assert_eq!(makespan(times, 1), Seconds(20.0));
        assert_eq!(makespan([], 3), Seconds(0.0));
    }
}
