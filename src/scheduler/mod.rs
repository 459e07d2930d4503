//! Which pack of jobs runs on which slot: a pure state machine, (state, event) → (state, effects). It uses no clock, store or process, so
//! every order of events can be tested. A single job is a pack of one.

mod crash;
mod packs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

pub use crash::{Crash, CrashCount, CrashVerdict, Relief, relief, verdict};
pub use packs::{PACK_MOST, Pack, PackCandidate, PackKind, PackRules, TrainingLoad, makespan, plan_packs};

use crate::job::{Bytes, JobId, SlotId};

/// Different packs that crash quickly in a row on a slot, or failed starts, after which it is quarantined. A single job that crashes its
/// engine repeatedly is to blame itself, not the slot.
const QUICK_LOSSES: usize = 3;
/// The same for the last remaining slot: several bad jobs are then likelier than a bad slot.
const QUICK_LOSSES_OF_THE_LAST: usize = 8;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Jobs to run together. One that is already queued or running is not queued twice.
    Queued {
        /// The jobs.
        jobs: Vec<JobId>,
        /// Memory that they need on a slot.
        needs: Bytes,
        /// Packs of higher priority start first.
        priority: i64,
    },
    /// Queued jobs that are no longer to run; running ones continue.
    Withdrawn(HashSet<JobId>),
    /// The memory of a slot that is free for jobs: its total less what other processes hold.
    Room {
        /// The slot.
        slot: SlotId,
        /// The memory.
        free: Bytes,
    },
    /// A slot's engine is ready for jobs.
    SlotReady(SlotId),
    /// A job of a slot ended or was taken over; the slot continues with the rest of its pack.
    Left {
        /// The slot.
        slot: SlotId,
        /// The job.
        job: JobId,
    },
    /// All jobs of a slot have ended, and its engine is alive.
    Ended(SlotId),
    /// A slot's engine is gone.
    SlotLost {
        /// The slot.
        slot: SlotId,
        /// Jobs requeued at the front, grouped into their next packs; the others have ended or were taken over.
        back: Vec<Vec<JobId>>,
        /// Whether the engine crashed before any progress: after a few of these the slot is quarantined.
        quick: bool,
    },
    /// The quarantine of a slot is over; it is tried again.
    Rested(SlotId),
    /// Whether starts are on hold because the environment is not as jobs need it.
    Hold(bool),
    /// The user requests a stop: nothing new starts.
    Stop,
}

/// An action to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start jobs on a slot.
    Start {
        /// The slot.
        slot: SlotId,
        /// The jobs.
        jobs: Vec<JobId>,
    },
    /// Start a slot's engine.
    StartEngine(SlotId),
    /// Quarantine a slot: its engines crash.
    Quarantine(SlotId),
}

impl Effect {
    /// The slot on which it starts jobs, if any.
    pub fn started(&self) -> Option<SlotId> {
        match self {
            Self::Start { slot, .. } => Some(*slot),
            Self::StartEngine(_) | Self::Quarantine(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It has no engine.
    Off,
    /// Its engine is starting.
    Starting,
    /// Its engine is idle.
    Ready,
    /// Its engine runs a pack.
    Busy(Waiting),
    /// It is quarantined.
    Quarantined,
}

/// A pack and its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    jobs: Vec<JobId>,
    needs: Bytes,
    priority: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    state: State,
    /// Its total memory.
    memory: Bytes,
    /// Memory not held by other processes.
    free: Bytes,
    /// Quick losses since it last made progress: packs, by their first job, or numbers of failed starts.
    quick_losses: BTreeSet<Result<JobId, usize>>,
}

/// The scheduler's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduler {
    queue: VecDeque<Waiting>,
    /// Queued and running jobs.
    known: HashSet<JobId>,
    slots: BTreeMap<SlotId, Slot>,
    stopping: bool,
    held: bool,
}

impl Scheduler {
    /// Slots without engines, with all of their memory free, and an empty queue.
    pub fn new(slots: impl IntoIterator<Item = (SlotId, Bytes)>) -> Self {
        let slot = |(id, memory)| {
            (id, Slot { state: State::Off, memory, free: memory, quick_losses: BTreeSet::new() })
        };
        let slots = slots.into_iter().map(slot).collect();
        Self { queue: VecDeque::new(), known: HashSet::new(), slots, stopping: false, held: false }
    }

    /// Handles an event and returns the actions to take. An event of an unknown slot changes nothing.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Queued { jobs, needs, priority } => self.queue(jobs, needs, priority),
            Event::Withdrawn(jobs) => self.withdraw(&jobs),
            Event::Room { slot, free } => {
                if let Some(slot) = self.slots.get_mut(&slot) {
                    slot.free = free;
                }
            }
            Event::SlotReady(slot) => drop(self.replace(slot, State::Ready)),
            Event::Ended(slot) => {
                if let Some(State::Busy(ended)) = self.replace(slot, State::Ready) {
                    for job in &ended.jobs {
                        self.known.remove(job);
                    }
                }
                if let Some(slot) = self.slots.get_mut(&slot) {
                    slot.quick_losses.clear();
                }
            }
            Event::Left { slot, job } => {
                if let Some(Slot { state: State::Busy(pack), .. }) = self.slots.get_mut(&slot) {
                    pack.jobs.retain(|other| *other != job);
                    self.known.remove(&job);
                }
            }
            Event::SlotLost { slot, back, quick } => self.lose(slot, back, quick, &mut effects),
            Event::Rested(slot) => {
                if let Some(slot) = self.slots.get_mut(&slot).filter(|slot| slot.state == State::Quarantined)
                {
                    slot.state = State::Off;
                    slot.quick_losses.clear();
                }
            }
            Event::Hold(held) => self.held = held,
            Event::Stop => self.stopping = true,
        }
        self.fill(&mut effects);
        effects
    }

    /// Whether no queued job can start and none is running. A job that waits for memory counts as able to start.
    pub fn is_idle(&self) -> bool {
        let busy = self.slots.values().any(|slot| matches!(slot.state, State::Busy(_)));
        !busy && (self.queue.is_empty() || self.stopping || self.is_out_of_slots())
    }

    /// Whether a slot is free and nothing is left for it.
    pub fn lacks_work(&self) -> bool {
        let is_free = |slot: &Slot| matches!(slot.state, State::Off | State::Ready);
        self.queue.is_empty() && !self.stopping && self.slots.values().any(is_free)
    }

    /// Whether all slots are quarantined.
    pub fn is_out_of_slots(&self) -> bool {
        self.slots.values().all(|slot| slot.state == State::Quarantined)
    }

    /// Queued jobs that wait although a slot is free: other processes hold the memory that they need.
    pub fn waiting_for_memory(&self) -> usize {
        let idle = |slot: &Slot| matches!(slot.state, State::Off | State::Ready);
        let waiting = || self.queue.iter().map(|waiting| waiting.jobs.len()).sum();
        if self.stopping || !self.slots.values().any(idle) { 0 } else { waiting() }
    }

    fn queue(&mut self, mut jobs: Vec<JobId>, needs: Bytes, priority: i64) {
        jobs.retain(|job| self.known.insert(job.clone()));
        if !jobs.is_empty() {
            self.insert(Waiting { jobs, needs, priority });
        }
    }

    /// After all packs of the same or a higher priority.
    fn insert(&mut self, pack: Waiting) {
        let lower = self.queue.iter().rposition(|waiting| waiting.priority >= pack.priority);
        self.queue.insert(lower.map_or(0, |at| at + 1), pack);
    }

    fn withdraw(&mut self, jobs: &HashSet<JobId>) {
        for waiting in &mut self.queue {
            for job in waiting.jobs.extract_if(.., |job| jobs.contains(job)) {
                self.known.remove(&job);
            }
        }
        self.queue.retain(|waiting| !waiting.jobs.is_empty());
    }

    fn replace(&mut self, slot: SlotId, state: State) -> Option<State> {
        self.slots.get_mut(&slot).map(|slot| std::mem::replace(&mut slot.state, state))
    }

    fn lose(&mut self, id: SlotId, back: Vec<Vec<JobId>>, quick: bool, effects: &mut Vec<Effect>) {
        let last = self.slots.iter().all(|(other, slot)| *other == id || slot.state == State::Quarantined);
        let most = if last { QUICK_LOSSES_OF_THE_LAST } else { QUICK_LOSSES };
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match &slot.state {
            _ if !quick => slot.quick_losses.clear(),
            State::Busy(Waiting { jobs, .. }) if !jobs.is_empty() => {
                slot.quick_losses.insert(Ok(jobs[0].clone()));
            }
            _ => drop(slot.quick_losses.insert(Err(slot.quick_losses.len()))),
        }
        let next = if slot.quick_losses.len() >= most { State::Quarantined } else { State::Off };
        if next == State::Quarantined {
            effects.push(Effect::Quarantine(id));
        }
        let State::Busy(Waiting { jobs: lost, needs, priority }) = std::mem::replace(&mut slot.state, next)
        else {
            return;
        };
        for job in lost.iter().filter(|job| !back.iter().flatten().any(|other| other == *job)) {
            self.known.remove(job);
        }
        let lost_jobs =
            |pack: Vec<JobId>| pack.into_iter().filter(|job| lost.contains(job)).collect::<Vec<_>>();
        let packs = back.into_iter().map(lost_jobs).filter(|jobs| !jobs.is_empty());
        let packs: Vec<Waiting> = packs.map(|jobs| Waiting { jobs, needs, priority }).collect();
        // A quickly lost pack moves behind its priority, so that another pack shows whether the slot is to blame.
        if quick {
            packs.into_iter().for_each(|pack| self.insert(pack));
        } else {
            packs.into_iter().rev().for_each(|pack| self.queue.push_front(pack));
        }
    }

    fn fill(&mut self, effects: &mut Vec<Effect>) {
        if self.stopping || self.held {
            return;
        }
        // A job estimated to need more than any slot has is tried on the largest slot, once all of its memory is free.
        let usable = self.slots.values().filter(|slot| slot.state != State::Quarantined);
        let most = usable.map(|slot| slot.memory).max().unwrap_or(Bytes(0));
        let fits = |waiting: &Waiting, slot: &Slot| waiting.needs.min(most) <= slot.free;
        for (id, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.state == State::Ready) {
            let Some(at) = self.queue.iter().position(|waiting| fits(waiting, slot)) else { continue };
            let Some(waiting) = self.queue.remove(at) else { continue };
            effects.push(Effect::Start { slot: *id, jobs: waiting.jobs.clone() });
            slot.state = State::Busy(waiting);
        }
        // Engines start only when needed.
        let starting = self.slots.values().filter(|slot| slot.state == State::Starting).count();
        let mut lacking = self.queue.len().saturating_sub(starting);
        for (id, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.state == State::Off) {
            if lacking > 0 && self.queue.iter().any(|waiting| fits(waiting, slot)) {
                slot.state = State::Starting;
                effects.push(Effect::StartEngine(*id));
                lacking -= 1;
            }
        }
    }
}
