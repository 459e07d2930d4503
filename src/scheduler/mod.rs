//! Which job runs on which slot: a pure state machine. (state, event) → (state, effects); no clock, no store, no
//! process, so that every order of events can be tested.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::job::JobId;

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
    /// A job is to be run. One that waits already is not queued twice.
    Queued(JobId),
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
    Busy(JobId),
    /// It is left alone.
    Quarantined,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    state: State,
    /// What it has lost quickly since it last did something: jobs, or the numbers of starts.
    quick_losses: BTreeSet<Result<JobId, usize>>,
}

/// The state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduler {
    queue: VecDeque<JobId>,
    slots: BTreeMap<SlotId, Slot>,
    stopping: bool,
}

impl Scheduler {
    /// Slots without engines, and an empty queue.
    pub fn new(slots: impl IntoIterator<Item = SlotId>) -> Self {
        let slot = |id| (id, Slot { state: State::Off, quick_losses: BTreeSet::new() });
        Self { queue: VecDeque::new(), slots: slots.into_iter().map(slot).collect(), stopping: false }
    }

    /// Takes an event and says what must be done. An event about a slot that does not exist changes nothing.
    pub fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Queued(job) if !self.knows(&job) => self.queue.push_back(job),
            Event::Queued(_) => {}
            Event::SlotReady(slot) => self.set(slot, State::Ready),
            Event::Ended(slot) => {
                self.set(slot, State::Ready);
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

    /// Whether no job waits that could start, and none is being worked at.
    pub fn is_idle(&self) -> bool {
        let busy = self.slots.values().any(|slot| matches!(slot.state, State::Busy(_)));
        !busy && (self.queue.is_empty() || self.stopping || self.is_out_of_slots())
    }

    /// Whether every slot is left alone.
    pub fn is_out_of_slots(&self) -> bool {
        self.slots.values().all(|slot| slot.state == State::Quarantined)
    }

    fn knows(&self, job: &JobId) -> bool {
        let works = |slot: &Slot| matches!(&slot.state, State::Busy(own) if own == job);
        self.queue.contains(job) || self.slots.values().any(works)
    }

    fn set(&mut self, slot: SlotId, state: State) {
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.state = state;
        }
    }

    fn lose(&mut self, id: SlotId, after: JobAfter, quick: bool, effects: &mut Vec<Effect>) {
        let last = self.slots.iter().all(|(other, slot)| *other == id || slot.state == State::Quarantined);
        let most = if last { QUICK_LOSSES_OF_THE_LAST } else { QUICK_LOSSES };
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match &slot.state {
            _ if !quick => slot.quick_losses.clear(),
            State::Busy(job) => drop(slot.quick_losses.insert(Ok(job.clone()))),
            _ => drop(slot.quick_losses.insert(Err(slot.quick_losses.len()))),
        }
        let next = if slot.quick_losses.len() >= most { State::Quarantined } else { State::Off };
        if next == State::Quarantined {
            effects.push(Effect::Quarantine(id));
        }
        if let State::Busy(job) = std::mem::replace(&mut slot.state, next)
            && after == JobAfter::Requeue
        {
            // What was lost at once waits, so that another job shows whether it was the slot.
            if quick { self.queue.push_back(job) } else { self.queue.push_front(job) }
        }
    }

    fn fill(&mut self, effects: &mut Vec<Effect>) {
        if self.stopping {
            return;
        }
        for (id, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.state == State::Ready) {
            let Some(job) = self.queue.pop_front() else { break };
            effects.push(Effect::Start { slot: *id, job: job.clone() });
            slot.state = State::Busy(job);
        }
        // An engine that nothing needs is not started.
        let starting = self.slots.values().filter(|slot| slot.state == State::Starting).count();
        let lacking = self.queue.len().saturating_sub(starting);
        for (id, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.state == State::Off).take(lacking) {
            slot.state = State::Starting;
            effects.push(Effect::StartEngine(*id));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn job(name: &str) -> JobId {
        JobId::from_store(name.to_owned())
    }

    const SLOT: SlotId = SlotId(0);

    fn start(name: &str) -> Effect {
        Effect::Start { slot: SLOT, job: job(name) }
    }

    #[test]
    fn jobs_start_in_order_on_free_slots() {
        let mut scheduler = Scheduler::new([SLOT]);
        assert_eq!(scheduler.on(Event::Queued(job("a"))), [Effect::StartEngine(SLOT)]);
        assert_eq!(scheduler.on(Event::Queued(job("b"))), []);
        assert_eq!(scheduler.on(Event::Queued(job("b"))), []);
        assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start("a")]);
        assert!(!scheduler.is_idle());
        assert_eq!(scheduler.on(Event::Ended(SLOT)), [start("b")]);
        assert_eq!(scheduler.on(Event::Ended(SLOT)), []);
        assert!(scheduler.is_idle());
        assert_eq!(scheduler.on(Event::Queued(job("c"))), [start("c")]);
    }

    #[test]
    fn a_lost_engine_is_replaced_and_its_job_goes_first() {
        let mut scheduler = Scheduler::new([SLOT]);
        scheduler.on(Event::Queued(job("a")));
        scheduler.on(Event::Queued(job("b")));
        scheduler.on(Event::SlotReady(SLOT));
        let lost = Event::SlotLost { slot: SLOT, job: JobAfter::Requeue, quick: false };
        assert_eq!(scheduler.on(lost), [Effect::StartEngine(SLOT)]);
        assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start("a")]);
    }

    #[test]
    fn a_slot_whose_engines_die_at_once_is_left_alone_and_its_jobs_go_elsewhere() {
        let other = SlotId(1);
        let mut scheduler = Scheduler::new([SLOT, other]);
        for name in ["a", "b", "c"] {
            scheduler.on(Event::Queued(job(name)));
        }
        let lost = || Event::SlotLost { slot: SLOT, job: JobAfter::Requeue, quick: true };
        for name in ["a", "b"] {
            assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start(name)]);
            assert_eq!(scheduler.on(lost()), [Effect::StartEngine(SLOT)]);
        }
        assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start("c")]);
        assert_eq!(scheduler.on(lost()), [Effect::Quarantine(SLOT)]);
        assert!(!scheduler.is_out_of_slots() && !scheduler.is_idle());
        assert_eq!(scheduler.on(Event::SlotReady(other)), [Effect::Start { slot: other, job: job("a") }]);
    }

    #[test]
    fn the_last_slot_is_given_up_later_than_others() {
        let mut scheduler = Scheduler::new([SLOT]);
        for number in 0..QUICK_LOSSES_OF_THE_LAST {
            scheduler.on(Event::Queued(job(&number.to_string())));
        }
        for number in 0..QUICK_LOSSES_OF_THE_LAST {
            assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start(&number.to_string())]);
            let lost = Event::SlotLost { slot: SLOT, job: JobAfter::Requeue, quick: true };
            let last = number + 1 == QUICK_LOSSES_OF_THE_LAST;
            let effect = if last { Effect::Quarantine(SLOT) } else { Effect::StartEngine(SLOT) };
            assert_eq!(scheduler.on(lost), [effect]);
        }
        assert!(scheduler.is_out_of_slots() && scheduler.is_idle());
    }

    #[test]
    fn one_job_that_kills_its_engines_leaves_the_slot_in_use() {
        let mut scheduler = Scheduler::new([SLOT]);
        scheduler.on(Event::Queued(job("a")));
        for _ in 0..5 {
            assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start("a")]);
            let lost = Event::SlotLost { slot: SLOT, job: JobAfter::Requeue, quick: true };
            assert_eq!(scheduler.on(lost), [Effect::StartEngine(SLOT)]);
        }
    }

    #[test]
    fn a_slot_whose_engines_do_not_start_is_left_alone() {
        let mut scheduler = Scheduler::new([SLOT, SlotId(1)]);
        scheduler.on(Event::Queued(job("a")));
        let lost = || Event::SlotLost { slot: SLOT, job: JobAfter::Gone, quick: true };
        for _ in 1..QUICK_LOSSES {
            assert_eq!(scheduler.on(lost()), [Effect::StartEngine(SLOT)]);
        }
        assert_eq!(scheduler.on(lost()), [Effect::Quarantine(SLOT), Effect::StartEngine(SlotId(1))]);
    }

    #[test]
    fn after_a_stop_nothing_starts_and_running_jobs_are_waited_for() {
        let mut scheduler = Scheduler::new([SLOT]);
        scheduler.on(Event::Queued(job("a")));
        scheduler.on(Event::Queued(job("b")));
        scheduler.on(Event::SlotReady(SLOT));
        assert_eq!(scheduler.on(Event::Stop), []);
        assert!(!scheduler.is_idle());
        assert_eq!(scheduler.on(Event::Ended(SLOT)), []);
        assert!(scheduler.is_idle());
    }

    proptest! {
        #[test]
        fn a_job_is_never_on_two_slots_and_none_is_lost(
            steps in prop::collection::vec((0usize..6, 0usize..3), 0..80)
        ) {
            let mut scheduler = Scheduler::new((0..3).map(SlotId));
            let (mut queued, mut running, mut ended) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
            let (mut starting, mut quarantined) = (BTreeSet::new(), BTreeSet::new());
            let (mut next, mut stopped) = (0, false);
            for (kind, number) in steps {
                let slot = SlotId(number);
                let event = match kind {
                    0 => { let id = job(&next.to_string()); next += 1; queued.insert(id.clone()); Event::Queued(id) }
                    1 if running.contains_key(&slot) => { ended.insert(running.remove(&slot).unwrap()); Event::Ended(slot) }
                    2 if starting.remove(&slot) => Event::SlotReady(slot),
                    3 if running.contains_key(&slot) || starting.remove(&slot) => {
                        queued.extend(running.remove(&slot));
                        Event::SlotLost { slot, job: JobAfter::Requeue, quick: next % 2 == 0 }
                    }
                    4 if running.contains_key(&slot) => {
                        ended.insert(running.remove(&slot).unwrap());
                        Event::SlotLost { slot, job: JobAfter::Gone, quick: false }
                    }
                    5 if number == 0 && next > 5 => { stopped = true; Event::Stop }
                    _ => continue,
                };
                for effect in scheduler.on(event) {
                    prop_assert!(!stopped || matches!(effect, Effect::Quarantine(_)), "{effect:?} after a stop");
                    match effect {
                        Effect::Start { slot, job } => {
                            prop_assert!(queued.remove(&job), "{job} was not queued");
                            prop_assert!(running.insert(slot, job).is_none());
                            prop_assert!(!quarantined.contains(&slot));
                        }
                        Effect::StartEngine(slot) => {
                            prop_assert!(!quarantined.contains(&slot) && !running.contains_key(&slot));
                            prop_assert!(starting.insert(slot), "an engine is started twice");
                        }
                        Effect::Quarantine(slot) => prop_assert!(quarantined.insert(slot)),
                    }
                }
                prop_assert_eq!(queued.len() + running.len() + ended.len(), next);
                if scheduler.is_idle() {
                    prop_assert!(running.is_empty());
                    prop_assert!(queued.is_empty() || stopped || quarantined.len() == 3);
                }
            }
        }
    }
}
