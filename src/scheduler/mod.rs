//! Which job runs on which slot: a pure state machine. (state, event) → (state, effects); no clock, no store, no
//! process, so that every order of events can be tested.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use crate::job::{Bytes, JobId};

/// Jobs that a slot loses quickly, one after another, or starts that fail, after which it is left alone. One job that kills
/// its engine again and again is the job's fault and not the slot's.
const QUICK_LOSSES: usize = 3;
/// The same for the only slot that is left: bad jobs beside each other are likelier then than a bad slot.
const QUICK_LOSSES_OF_THE_LAST: usize = 8;

/// A place where one engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

/// What becomes of the job of a slot that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAfter {
    /// It goes back to the front of the queue.
    Requeue,
    /// It has ended, or is another's.
    Gone,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A job is to be run. One that waits already, or is being worked at, is not queued twice.
    Queued {
        /// The job.
        job: JobId,
        /// Memory that it needs on its slot.
        needs: Bytes,
    },
    /// A slot has this much memory for a job from now on: what it has, less what strangers hold.
    Room {
        /// The slot.
        slot: SlotId,
        /// The memory.
        free: Bytes,
    },
    /// A slot's engine is ready for a job.
    SlotReady(SlotId),
    /// The job of a slot ended, well or badly, or was another's, and the slot's engine lives.
    Ended(SlotId),
    /// A slot's engine is gone.
    SlotLost {
        /// The slot.
        slot: SlotId,
        /// What becomes of its job.
        job: JobAfter,
        /// Whether it died before it could do anything: a few of these, and the slot is left alone.
        quick: bool,
    },
    /// The user wants to stop: nothing new starts.
    Stop,
}

/// Something that must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start a job on a slot.
    Start {
        /// The slot.
        slot: SlotId,
        /// The job.
        job: JobId,
    },
    /// Start a slot's engine.
    StartEngine(SlotId),
    /// Leave a slot alone from now on: its engines die.
    Quarantine(SlotId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It has no engine.
    Off,
    /// Its engine is starting.
    Starting,
    /// Its engine waits.
    Ready,
    /// Its engine works at a job.
    Busy(Waiting),
    /// It is left alone.
    Quarantined,
}

/// A job and the memory that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    job: JobId,
    needs: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    state: State,
    /// All the memory that it has.
    memory: Bytes,
    /// What of it is not held by strangers.
    free: Bytes,
    /// What it has lost quickly since it last did something: jobs, or the numbers of starts.
    quick_losses: BTreeSet<Result<JobId, usize>>,
}

/// The state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduler {
    queue: VecDeque<Waiting>,
    /// The jobs of the queue, and those that are being worked at.
    known: HashSet<JobId>,
    slots: BTreeMap<SlotId, Slot>,
    stopping: bool,
}

impl Scheduler {
    /// Slots without engines, with the memory of each, all of it free; and an empty queue.
    pub fn new(slots: impl IntoIterator<Item = (SlotId, Bytes)>) -> Self {
        let slot = |(id, memory)| {
            (id, Slot { state: State::Off, memory, free: memory, quick_losses: BTreeSet::new() })
        };
        let slots = slots.into_iter().map(slot).collect();
        Self { queue: VecDeque::new(), known: HashSet::new(), slots, stopping: false }
    }

    /// Takes an event and says what must be done. An event about a slot that does not exist changes nothing.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Queued { job, needs } => self.queue(job, needs),
            Event::Room { slot, free } => {
                if let Some(slot) = self.slots.get_mut(&slot) {
                    slot.free = free;
                }
            }
            Event::SlotReady(slot) => drop(self.replace(slot, State::Ready)),
            Event::Ended(slot) => {
                if let Some(State::Busy(ended)) = self.replace(slot, State::Ready) {
                    self.known.remove(&ended.job);
                }
                if let Some(slot) = self.slots.get_mut(&slot) {
                    slot.quick_losses.clear();
                }
            }
            Event::SlotLost { slot, job, quick } => self.lose(slot, job, quick, &mut effects),
            Event::Stop => self.stopping = true,
        }
        self.fill(&mut effects);
        effects
    }

    /// Whether no job waits that will start, and none is being worked at. One that waits for memory will.
    pub fn is_idle(&self) -> bool {
        let busy = self.slots.values().any(|slot| matches!(slot.state, State::Busy(_)));
        !busy && (self.queue.is_empty() || self.stopping || self.is_out_of_slots())
    }

    /// Whether every slot is left alone.
    pub fn is_out_of_slots(&self) -> bool {
        self.slots.values().all(|slot| slot.state == State::Quarantined)
    }

    /// Jobs that wait although a slot could start: strangers hold the memory that they need.
    pub fn waiting_for_memory(&self) -> usize {
        let idle = |slot: &Slot| matches!(slot.state, State::Off | State::Ready);
        if self.stopping || !self.slots.values().any(idle) { 0 } else { self.queue.len() }
    }

    fn queue(&mut self, job: JobId, needs: Bytes) {
        if self.known.insert(job.clone()) {
            self.queue.push_back(Waiting { job, needs });
        }
    }

    fn replace(&mut self, slot: SlotId, state: State) -> Option<State> {
        self.slots.get_mut(&slot).map(|slot| std::mem::replace(&mut slot.state, state))
    }

    fn lose(&mut self, id: SlotId, after: JobAfter, quick: bool, effects: &mut Vec<Effect>) {
        let last = self.slots.iter().all(|(other, slot)| *other == id || slot.state == State::Quarantined);
        let most = if last { QUICK_LOSSES_OF_THE_LAST } else { QUICK_LOSSES };
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match &slot.state {
            _ if !quick => slot.quick_losses.clear(),
            State::Busy(Waiting { job, .. }) => drop(slot.quick_losses.insert(Ok(job.clone()))),
            _ => drop(slot.quick_losses.insert(Err(slot.quick_losses.len()))),
        }
        let next = if slot.quick_losses.len() >= most { State::Quarantined } else { State::Off };
        if next == State::Quarantined {
            effects.push(Effect::Quarantine(id));
        }
        let State::Busy(lost) = std::mem::replace(&mut slot.state, next) else { return };
        match after {
            JobAfter::Gone => drop(self.known.remove(&lost.job)),
            // What was lost at once waits, so that another job shows whether it was the slot.
            JobAfter::Requeue if quick => self.queue.push_back(lost),
            JobAfter::Requeue => self.queue.push_front(lost),
        }
    }

    fn fill(&mut self, effects: &mut Vec<Effect>) {
        if self.stopping {
            return;
        }
        // A job that is thought to need more than any slot has is tried where the most is, once all of it is free.
        let usable = self.slots.values().filter(|slot| slot.state != State::Quarantined);
        let most = usable.map(|slot| slot.memory).max().unwrap_or(Bytes(0));
        let fits = |waiting: &Waiting, slot: &Slot| waiting.needs.min(most) <= slot.free;
        for (id, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.state == State::Ready) {
            let Some(at) = self.queue.iter().position(|waiting| fits(waiting, slot)) else { continue };
            let Some(waiting) = self.queue.remove(at) else { continue };
            effects.push(Effect::Start { slot: *id, job: waiting.job.clone() });
            slot.state = State::Busy(waiting);
        }
        // An engine that nothing needs is not started.
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
