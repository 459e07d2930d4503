//! Which job runs on which slot: a pure state machine. (state, event) → (state, effects); no clock, no store, no
//! process, so that every order of events can be tested.

use std::collections::{BTreeMap, VecDeque};

use crate::job::JobId;

/// A place where one engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A job is to be run.
    Queued(JobId),
    /// A slot's engine is ready for a job.
    SlotReady(SlotId),
    /// The job of a slot ended, well or badly, and its engine lives.
    Ended(SlotId),
    /// A slot's engine died; its job, if it had one, goes back if `retry` is set.
    SlotLost {
        /// The slot.
        slot: SlotId,
        /// Whether the job deserves another try.
        retry: bool,
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
    /// Start a slot's engine anew.
    Restart(SlotId),
    /// Put the job of a slot back into the queue.
    Requeue {
        /// The slot.
        slot: SlotId,
        /// The job.
        job: JobId,
    },
    /// Nothing is left to do or to wait for.
    Finished,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    /// Its engine is starting.
    Starting,
    /// Its engine waits.
    Ready,
    /// Its engine works at a job.
    Busy(JobId),
}

/// The state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduler {
    queue: VecDeque<JobId>,
    slots: BTreeMap<SlotId, Slot>,
    stopping: bool,
    finished: bool,
}

impl Scheduler {
    /// Slots whose engines are starting, and an empty queue.
    pub fn new(slots: impl IntoIterator<Item = SlotId>) -> Self {
        let slots = slots.into_iter().map(|slot| (slot, Slot::Starting)).collect();
        Self { queue: VecDeque::new(), slots, stopping: false, finished: false }
    }

    /// Takes an event and says what must be done. An event about a slot that does not exist changes nothing.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Queued(job) => self.queue.push_back(job),
            Event::SlotReady(slot) | Event::Ended(slot) => self.set(slot, Slot::Ready),
            Event::SlotLost { slot, retry } => self.lose(slot, retry, &mut effects),
            Event::Stop => self.stopping = true,
        }
        self.fill(&mut effects);
        effects
    }

    fn set(&mut self, slot: SlotId, state: Slot) {
        if let Some(entry) = self.slots.get_mut(&slot) {
            *entry = state;
        }
    }

    fn lose(&mut self, slot: SlotId, retry: bool, effects: &mut Vec<Effect>) {
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        if let Slot::Busy(job) = std::mem::replace(entry, Slot::Starting)
            && retry
        {
            effects.push(Effect::Requeue { slot, job: job.clone() });
            self.queue.push_front(job);
        }
        if !self.stopping && !self.queue.is_empty() {
            effects.push(Effect::Restart(slot));
        } else {
            // An engine that nothing needs is not started again.
            self.slots.remove(&slot);
        }
    }

    fn fill(&mut self, effects: &mut Vec<Effect>) {
        if !self.stopping {
            for (slot, state) in self.slots.iter_mut().filter(|(_, state)| **state == Slot::Ready) {
                let Some(job) = self.queue.pop_front() else { break };
                effects.push(Effect::Start { slot: *slot, job: job.clone() });
                *state = Slot::Busy(job);
            }
        }
        let waiting = !self.stopping && !self.queue.is_empty() && !self.slots.is_empty();
        let busy = self.slots.values().any(|state| matches!(state, Slot::Busy(_)));
        if !waiting && !busy && !self.finished {
            self.finished = true;
            effects.push(Effect::Finished);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn job(name: &str) -> JobId {
        JobId::from_store(name.to_owned())
    }

    #[test]
    fn jobs_start_in_order_on_free_slots_and_the_end_is_told_once() {
        let mut scheduler = Scheduler::new([SlotId(0)]);
        assert_eq!(scheduler.on(Event::Queued(job("a"))), []);
        assert_eq!(scheduler.on(Event::Queued(job("b"))), []);
        assert_eq!(
            scheduler.on(Event::SlotReady(SlotId(0))),
            [Effect::Start { slot: SlotId(0), job: job("a") }]
        );
        assert_eq!(scheduler.on(Event::Ended(SlotId(0))), [Effect::Start { slot: SlotId(0), job: job("b") }]);
        assert_eq!(scheduler.on(Event::Ended(SlotId(0))), [Effect::Finished]);
        assert_eq!(scheduler.on(Event::Ended(SlotId(0))), []);
    }

    #[test]
    fn a_lost_engine_is_replaced_and_its_job_goes_first() {
        let mut scheduler = Scheduler::new([SlotId(0)]);
        scheduler.on(Event::Queued(job("a")));
        scheduler.on(Event::Queued(job("b")));
        scheduler.on(Event::SlotReady(SlotId(0)));
        let lost = scheduler.on(Event::SlotLost { slot: SlotId(0), retry: true });
        assert_eq!(lost, [Effect::Requeue { slot: SlotId(0), job: job("a") }, Effect::Restart(SlotId(0))]);
        assert_eq!(
            scheduler.on(Event::SlotReady(SlotId(0))),
            [Effect::Start { slot: SlotId(0), job: job("a") }]
        );
    }

    #[test]
    fn after_a_stop_nothing_starts_and_running_jobs_are_waited_for() {
        let mut scheduler = Scheduler::new([SlotId(0)]);
        scheduler.on(Event::Queued(job("a")));
        scheduler.on(Event::Queued(job("b")));
        scheduler.on(Event::SlotReady(SlotId(0)));
        assert_eq!(scheduler.on(Event::Stop), []);
        assert_eq!(scheduler.on(Event::Ended(SlotId(0))), [Effect::Finished]);
    }

    proptest! {
        #[test]
        fn a_job_is_never_on_two_slots_and_none_is_lost(steps in prop::collection::vec((0usize..5, 0usize..3), 0..60)) {
            let mut scheduler = Scheduler::new((0..3).map(SlotId));
            let (mut queued, mut running, mut ended) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
            let mut next = 0;
            for (kind, number) in steps {
                let slot = SlotId(number);
                let event = match kind {
                    0 => { let id = job(&next.to_string()); next += 1; queued.insert(id.clone()); Event::Queued(id) }
                    1 if running.contains_key(&slot) => { ended.insert(running.remove(&slot).unwrap()); Event::Ended(slot) }
                    2 if !running.contains_key(&slot) => Event::SlotReady(slot),
                    3 => Event::SlotLost { slot, retry: true },
                    4 if number == 0 => Event::Stop,
                    _ => continue,
                };
                for effect in scheduler.on(event) {
                    match effect {
                        Effect::Start { slot, job } => {
                            prop_assert!(queued.remove(&job), "{job} was not queued");
                            prop_assert!(running.insert(slot, job).is_none());
                        }
                        Effect::Requeue { slot, job } => {
                            prop_assert_eq!(running.remove(&slot), Some(job.clone()));
                            queued.insert(job);
                        }
                        Effect::Finished => prop_assert!(running.is_empty()),
                        Effect::Restart(_) => {}
                    }
                }
                prop_assert_eq!(queued.len() + running.len() + ended.len(), next);
            }
        }
    }
}
