//! The state machine alone: single scenarios, then random ones.

use proptest::prelude::*;

use super::*;

fn job(name: &str) -> JobId {
    JobId::from_store(name.to_owned())
}

const SLOT: SlotId = SlotId(0);
const ALL: Bytes = Bytes(80);

fn queued(name: &str) -> Event {
    Event::Queued { jobs: vec![job(name)], needs: Bytes(10), priority: 0 }
}

fn start(name: &str) -> Effect {
    Effect::Start { slot: SLOT, jobs: vec![job(name)] }
}

#[test]
fn a_slot_that_was_left_alone_is_tried_again_when_it_has_rested() {
    let mut scheduler = Scheduler::new([(SLOT, Bytes(80))]);
    assert_eq!(scheduler.on(queued("a")), [Effect::StartEngine(SLOT)]);
    let lost = || Event::SlotLost { slot: SLOT, back: Vec::new(), quick: true };
    let effects: Vec<Effect> = (0..QUICK_LOSSES_OF_THE_LAST).flat_map(|_| scheduler.on(lost())).collect();
    assert_eq!(effects.last(), Some(&Effect::Quarantine(SLOT)));
    assert!(scheduler.is_out_of_slots());
    assert_eq!(scheduler.on(Event::Rested(SLOT)), [Effect::StartEngine(SLOT)]);
    assert_eq!(scheduler.on(Event::Rested(SLOT)), [], "one that works needs no rest");
    assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start("a")]);
}

#[test]
fn jobs_start_in_order_on_free_slots() {
    let mut scheduler = Scheduler::new([(SLOT, ALL)]);
    assert_eq!(scheduler.on(queued("a")), [Effect::StartEngine(SLOT)]);
    assert_eq!(scheduler.on(queued("b")), []);
    assert_eq!(scheduler.on(queued("b")), []);
    assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start("a")]);
    assert!(!scheduler.is_idle());
    assert_eq!(scheduler.on(Event::Ended(SLOT)), [start("b")]);
    assert_eq!(scheduler.on(Event::Ended(SLOT)), []);
    assert!(scheduler.is_idle());
    assert_eq!(scheduler.on(queued("c")), [start("c")]);
}

#[test]
fn a_higher_priority_starts_first_and_withdrawn_jobs_do_not() {
    let mut scheduler = Scheduler::new([(SLOT, ALL)]);
    for (name, priority) in [("a", 0), ("b", 5), ("c", 5), ("d", -1), ("e", 0)] {
        scheduler.on(Event::Queued { jobs: vec![job(name)], needs: Bytes(10), priority });
    }
    assert_eq!(scheduler.on(Event::Withdrawn([job("c")].into())), []);
    let mut started = scheduler.on(Event::SlotReady(SLOT));
    for _ in 0..3 {
        started.extend(scheduler.on(Event::Ended(SLOT)));
    }
    assert_eq!(started, [start("b"), start("a"), start("e"), start("d")]);
    // Withdrawn jobs can be queued again; running ones stay.
    assert_eq!(scheduler.on(Event::Withdrawn([job("d")].into())), []);
    assert_eq!(scheduler.on(queued("c")), []);
    assert_eq!(scheduler.on(Event::Ended(SLOT)), [start("c")]);
}

#[test]
fn a_lost_engine_is_replaced_and_its_job_goes_first() {
    let mut scheduler = Scheduler::new([(SLOT, ALL)]);
    scheduler.on(queued("a"));
    scheduler.on(queued("b"));
    scheduler.on(Event::SlotReady(SLOT));
    let lost = Event::SlotLost { slot: SLOT, back: vec![vec![job("a")]], quick: false };
    assert_eq!(scheduler.on(lost), [Effect::StartEngine(SLOT)]);
    assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start("a")]);
}

#[test]
fn a_slot_whose_engines_die_at_once_is_left_alone_and_its_jobs_go_elsewhere() {
    let other = SlotId(1);
    let mut scheduler = Scheduler::new([(SLOT, ALL), (other, ALL)]);
    for name in ["a", "b", "c"] {
        scheduler.on(queued(name));
    }
    let lost = |name| Event::SlotLost { slot: SLOT, back: vec![vec![job(name)]], quick: true };
    for name in ["a", "b"] {
        assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start(name)]);
        assert_eq!(scheduler.on(lost(name)), [Effect::StartEngine(SLOT)]);
    }
    assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start("c")]);
    assert_eq!(scheduler.on(lost("c")), [Effect::Quarantine(SLOT)]);
    assert!(!scheduler.is_out_of_slots() && !scheduler.is_idle());
    assert_eq!(scheduler.on(Event::SlotReady(other)), [Effect::Start { slot: other, jobs: vec![job("a")] }]);
}

#[test]
fn the_last_slot_is_given_up_later_than_others() {
    let mut scheduler = Scheduler::new([(SLOT, ALL)]);
    for number in 0..QUICK_LOSSES_OF_THE_LAST {
        scheduler.on(queued(&number.to_string()));
    }
    for number in 0..QUICK_LOSSES_OF_THE_LAST {
        assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start(&number.to_string())]);
        let lost = Event::SlotLost { slot: SLOT, back: vec![vec![job(&number.to_string())]], quick: true };
        let last = number + 1 == QUICK_LOSSES_OF_THE_LAST;
        let effect = if last { Effect::Quarantine(SLOT) } else { Effect::StartEngine(SLOT) };
        assert_eq!(scheduler.on(lost), [effect]);
    }
    assert!(scheduler.is_out_of_slots() && scheduler.is_idle());
}

#[test]
fn one_job_that_kills_its_engines_leaves_the_slot_in_use() {
    let mut scheduler = Scheduler::new([(SLOT, ALL)]);
    scheduler.on(queued("a"));
    for _ in 0..5 {
        assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start("a")]);
        let lost = Event::SlotLost { slot: SLOT, back: vec![vec![job("a")]], quick: true };
        assert_eq!(scheduler.on(lost), [Effect::StartEngine(SLOT)]);
    }
}

#[test]
fn a_slot_whose_engines_do_not_start_is_left_alone() {
    let mut scheduler = Scheduler::new([(SLOT, ALL), (SlotId(1), ALL)]);
    scheduler.on(queued("a"));
    let lost = || Event::SlotLost { slot: SLOT, back: Vec::new(), quick: true };
    for _ in 1..QUICK_LOSSES {
        assert_eq!(scheduler.on(lost()), [Effect::StartEngine(SLOT)]);
    }
    assert_eq!(scheduler.on(lost()), [Effect::Quarantine(SLOT), Effect::StartEngine(SlotId(1))]);
}

#[test]
fn after_a_stop_nothing_starts_and_running_jobs_are_waited_for() {
    let mut scheduler = Scheduler::new([(SLOT, ALL)]);
    scheduler.on(queued("a"));
    scheduler.on(queued("b"));
    scheduler.on(Event::SlotReady(SLOT));
    assert_eq!(scheduler.on(Event::Stop), []);
    assert!(!scheduler.is_idle());
    assert_eq!(scheduler.on(Event::Ended(SLOT)), []);
    assert!(scheduler.is_idle());
}

#[test]
fn a_job_waits_for_the_memory_that_a_stranger_holds_and_a_smaller_one_goes_before_it() {
    let mut scheduler = Scheduler::new([(SLOT, ALL)]);
    scheduler.on(Event::Room { slot: SLOT, free: Bytes(20) });
    assert_eq!(scheduler.on(Event::Queued { jobs: vec![job("large")], needs: Bytes(60), priority: 0 }), []);
    assert!(!scheduler.is_idle(), "it waits");
    assert_eq!(scheduler.waiting_for_memory(), 1);
    assert_eq!(scheduler.on(queued("small")), [Effect::StartEngine(SLOT)]);
    assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start("small")]);
    assert_eq!(scheduler.on(Event::Ended(SLOT)), []);
    assert_eq!(scheduler.on(Event::Room { slot: SLOT, free: Bytes(60) }), [start("large")]);
}

#[test]
fn slots_of_uneven_memory_take_the_jobs_that_fit_them() {
    let (small, large) = (SLOT, SlotId(1));
    let mut scheduler = Scheduler::new([(small, Bytes(24)), (large, ALL)]);
    let queue = |name, needs| Event::Queued { jobs: vec![job(name)], needs: Bytes(needs), priority: 0 };
    assert_eq!(scheduler.on(queue("60", 60)), [Effect::StartEngine(large)]);
    assert_eq!(scheduler.on(queue("20", 20)), [Effect::StartEngine(small)]);
    assert_eq!(scheduler.on(Event::SlotReady(small)), [start("20")]);
    assert_eq!(scheduler.on(Event::SlotReady(large)), [Effect::Start { slot: large, jobs: vec![job("60")] }]);
    // A job estimated to fit nowhere is tried on the largest slot.
    assert_eq!(scheduler.on(queue("200", 200)), []);
    assert_eq!(scheduler.on(Event::Ended(small)), []);
    assert_eq!(scheduler.on(Event::Ended(large)), [Effect::Start { slot: large, jobs: vec![job("200")] }]);
}

#[test]
fn a_pack_starts_together_and_what_is_left_of_it_goes_back_as_it_is_told() {
    let mut scheduler = Scheduler::new([(SLOT, ALL)]);
    let jobs = |names: &[&str]| names.iter().map(|name| job(name)).collect::<Vec<_>>();
    scheduler.on(Event::Queued { jobs: jobs(&["a", "b", "c", "d"]), needs: Bytes(10), priority: 0 });
    scheduler.on(queued("e"));
    let all = Effect::Start { slot: SLOT, jobs: jobs(&["a", "b", "c", "d"]) };
    assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [all]);
    assert_eq!(scheduler.on(Event::Left { slot: SLOT, job: job("a") }), []);
    // The engine or one of the jobs is to blame: each is tried alone.
    let back = vec![jobs(&["b"]), jobs(&["c"])];
    assert_eq!(scheduler.on(Event::SlotLost { slot: SLOT, back, quick: false }), [Effect::StartEngine(SLOT)]);
    assert_eq!(scheduler.on(Event::SlotReady(SLOT)), [start("b")]);
    assert_eq!(scheduler.on(Event::Ended(SLOT)), [start("c")]);
    assert_eq!(scheduler.on(Event::Ended(SLOT)), [start("e")]);
    // `d` had ended and may be queued again; known jobs are dropped from a queued pack.
    let again = Event::Queued { jobs: jobs(&["d", "e", "a"]), needs: Bytes(10), priority: 0 };
    assert_eq!(scheduler.on(again), []);
    let rest = Effect::Start { slot: SLOT, jobs: jobs(&["d", "a"]) };
    assert_eq!(scheduler.on(Event::Ended(SLOT)), [rest]);
}

/// An outside observer's record of a scheduler.
#[derive(Default)]
struct World {
    queued: BTreeMap<JobId, Bytes>,
    running: BTreeMap<SlotId, Vec<JobId>>,
    needs: BTreeMap<JobId, Bytes>,
    ended: usize,
    starting: BTreeSet<SlotId>,
    quarantined: BTreeSet<SlotId>,
    free: BTreeMap<SlotId, Bytes>,
    stopped: bool,
}

impl World {
    /// The event for a number, if it is possible now.
    fn event(&mut self, kind: usize, number: usize, size: u64) -> Option<Event> {
        let slot = SlotId(number);
        Some(match kind {
            0 => {
                let needs = Bytes(size);
                let new = (0..=number).map(|n| job(&(self.needs.len() + n).to_string()));
                let jobs: Vec<JobId> = new.collect();
                for job in &jobs {
                    self.queued.insert(job.clone(), needs);
                    self.needs.insert(job.clone(), needs);
                }
                Event::Queued { jobs, needs, priority: 0 }
            }
            1 if self.running.contains_key(&slot) => {
                self.ended += self.running.remove(&slot).map_or(0, |jobs| jobs.len());
                Event::Ended(slot)
            }
            2 if self.starting.remove(&slot) => Event::SlotReady(slot),
            3 if self.running.contains_key(&slot) || self.starting.remove(&slot) => {
                let jobs = self.running.remove(&slot).unwrap_or_default();
                for job in &jobs {
                    self.queued.insert(job.clone(), self.needs[job]);
                }
                let apart = size.is_multiple_of(3);
                let back = if apart { jobs.chunks(1).map(<[_]>::to_vec).collect() } else { vec![jobs] };
                Event::SlotLost { slot, back, quick: size.is_multiple_of(2) }
            }
            4 if self.running.get(&slot).is_some_and(|jobs| !jobs.is_empty()) => {
                let jobs = self.running.get_mut(&slot)?;
                self.ended += 1;
                if jobs.len() > 1 {
                    Event::Left { slot, job: jobs.remove(0) }
                } else {
                    self.running.remove(&slot);
                    Event::SlotLost { slot, back: Vec::new(), quick: false }
                }
            }
            5 if number == 0 && self.needs.len() > 5 => {
                self.stopped = true;
                Event::Stop
            }
            6 => {
                self.free.insert(slot, Bytes(size));
                Event::Room { slot, free: Bytes(size) }
            }
            8 if self.quarantined.remove(&slot) => Event::Rested(slot),
            // A job that is already queued.
            7 => {
                let (job, needs) = self.needs.iter().find(|(job, _)| self.knows(job))?;
                Event::Queued { jobs: vec![job.clone()], needs: *needs, priority: 0 }
            }
            _ => return None,
        })
    }

    fn knows(&self, job: &JobId) -> bool {
        self.queued.contains_key(job) || self.running.values().flatten().any(|running| running == job)
    }

    fn take(&mut self, effect: Effect) -> Result<(), TestCaseError> {
        prop_assert!(!self.stopped || matches!(effect, Effect::Quarantine(_)), "{effect:?} after a stop");
        match effect {
            Effect::Start { slot, jobs } => {
                prop_assert!(!jobs.is_empty());
                for job in &jobs {
                    let Some(needs) = self.queued.remove(job) else {
                        return Err(TestCaseError::fail(format!("{job} was not queued")));
                    };
                    let free = self.free.get(&slot).copied().unwrap_or(ALL);
                    prop_assert!(needs.min(ALL) <= free, "{job} needs {needs}, free is {free}");
                }
                prop_assert!(self.running.insert(slot, jobs).is_none());
                prop_assert!(!self.quarantined.contains(&slot));
            }
            Effect::StartEngine(slot) => {
                prop_assert!(!self.quarantined.contains(&slot) && !self.running.contains_key(&slot));
                prop_assert!(self.starting.insert(slot), "an engine is started twice");
            }
            Effect::Quarantine(slot) => prop_assert!(self.quarantined.insert(slot)),
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn a_job_is_never_on_two_slots_and_none_is_lost(
        steps in prop::collection::vec((0usize..9, 0usize..3, 0u64..100), 0..80)
    ) {
        let mut scheduler = Scheduler::new((0..3).map(|slot| (SlotId(slot), ALL)));
        let mut world = World::default();
        for (kind, number, size) in steps {
            let Some(event) = world.event(kind, number, size) else { continue };
            for effect in scheduler.on(event) {
                world.take(effect)?;
            }
            prop_assert_eq!(world.queued.len() + world.running.values().flatten().count() + world.ended, world.needs.len());
            if scheduler.is_idle() {
                prop_assert!(world.running.is_empty());
                prop_assert!(world.queued.is_empty() || world.stopped || world.quarantined.len() == 3);
            }
        }
        // Drained: as long as slots are left, every job ends.
        for slot in (0..3).map(SlotId) {
            world.free.insert(slot, ALL);
            for effect in scheduler.on(Event::Room { slot, free: ALL }) {
                world.take(effect)?;
            }
        }
        while let Some(event) = (0..3).find_map(|slot| world.event(2, slot, 0).or_else(|| world.event(1, slot, 0))) {
            for effect in scheduler.on(event) {
                world.take(effect)?;
            }
        }
        prop_assert!(scheduler.is_idle() && world.running.is_empty());
        prop_assert!(world.queued.is_empty() || world.stopped || world.quarantined.len() == 3);
    }
}
