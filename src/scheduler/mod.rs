//! Which pack of jobs runs on which slot: a pure state machine. (state, event) → (state, effects); no clock, no store, no
//! process, so that every order of events can be tested. A job alone is a pack of one.

mod crash;
mod packs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

pub use crash::{Crash, CrashCount, CrashVerdict, Relief, relief, verdict};
pub use packs::{PACK_MOST, Pack, PackCandidate, PackKind, PackRules, TrainingLoad, makespan, plan_packs};

use crate::job::{Bytes, JobId, SlotId};

/// Packs that a slot loses quickly, one after another, or starts that fail, after which it is left alone. One job that kills
/// its engine again and again is the job's fault and not the slot's.
const QUICK_LOSSES: usize = 3;
/// The same for the only slot that is left: bad jobs beside each other are likelier then than a bad slot.
const QUICK_LOSSES_OF_THE_LAST: usize = 8;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Jobs are to be run together. One that waits already, or is being worked at, is not queued twice.
    Queued {
        /// The jobs.
        jobs: Vec<JobId>,
        /// Memory that they need on their slot.
        needs: Bytes,
        /// Those of a higher priority start first.
        priority: i64,
    },
    /// Jobs that wait are not to run any more; those that are being worked at go on.
    Withdrawn(HashSet<JobId>),
    /// A slot has this much memory for a job from now on: what it has, less what strangers hold.
    Room {
        /// The slot.
        slot: SlotId,
        /// The memory.
        free: Bytes,
    },
    /// A slot's engine is ready for jobs.
    SlotReady(SlotId),
    /// A job of a slot ended, well or badly, or was another's; the slot goes on with the others of its pack.
    Left {
        /// The slot.
        slot: SlotId,
        /// The job.
        job: JobId,
    },
    /// All jobs of a slot have ended, and the slot's engine lives.
    Ended(SlotId),
    /// A slot's engine is gone.
    SlotLost {
        /// The slot.
        slot: SlotId,
        /// Those of its jobs that go back to the front of the queue, by the packs in which they do; the others have ended, or
        /// are another's.
        back: Vec<Vec<JobId>>,
        /// Whether it died before it could do anything: a few of these, and the slot is left alone.
        quick: bool,
    },
    /// A slot that was left alone has rested, and is tried again.
    Rested(SlotId),
    /// Nothing new starts for a while, or starts again: the surroundings are not as jobs need them.
    Hold(bool),
    /// The user wants to stop: nothing new starts.
    Stop,
}

/// Something that must be done.
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
    /// Leave a slot alone until it has rested: its engines die.
    Quarantine(SlotId),
}

impl Effect {
    /// The slot on which it starts jobs, if it does.
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
    /// Its engine waits.
    Ready,
    /// Its engine works at a pack.
    Busy(Waiting),
    /// It is left alone.
    Quarantined,
}

/// A pack and the memory that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    jobs: Vec<JobId>,
    needs: Bytes,
    priority: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    state: State,
    /// All the memory that it has.
    memory: Bytes,
    /// What of it is not held by strangers.
    free: Bytes,
    /// What it has lost quickly since it last did something: packs, by their first job, or the numbers of starts.
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
    held: bool,
}

impl Scheduler {
    /// Slots without engines, with the memory of each, all of it free; and an empty queue.
    pub fn new(slots: impl IntoIterator<Item = (SlotId, Bytes)>) -> Self {
        let slot = |(id, memory)| {
            (id, Slot { state: State::Off, memory, free: memory, quick_losses: BTreeSet::new() })
        };
        let slots = slots.into_iter().map(slot).collect();
        Self { queue: VecDeque::new(), known: HashSet::new(), slots, stopping: false, held: false }
    }

    /// Takes an event and says what must be done. An event about a slot that does not exist changes nothing.
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
        let waiting = || self.queue.iter().map(|waiting| waiting.jobs.len()).sum();
        if self.stopping || !self.slots.values().any(idle) { 0 } else { waiting() }
    }

    fn queue(&mut self, mut jobs: Vec<JobId>, needs: Bytes, priority: i64) {
        jobs.retain(|job| self.known.insert(job.clone()));
        if !jobs.is_empty() {
            self.insert(Waiting { jobs, needs, priority });
        }
    }

    /// Behind all that have its priority or a higher one.
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
        // What was lost at once waits, so that another pack shows whether it was the slot.
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
        // A job that is thought to need more than any slot has is tried where the most is, once all of it is free.
        let usable = self.slots.values().filter(|slot| slot.state != State::Quarantined);
        let most = usable.map(|slot| slot.memory).max().unwrap_or(Bytes(0));
        let fits = |waiting: &Waiting, slot: &Slot| waiting.needs.min(most) <= slot.free;
        for (id, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.state == State::Ready) {
            let Some(at) = self.queue.iter().position(|waiting| fits(waiting, slot)) else { continue };
            let Some(waiting) = self.queue.remove(at) else { continue };
            effects.push(Effect::Start { slot: *id, jobs: waiting.jobs.clone() });
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
