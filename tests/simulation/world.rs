//! The scene that all nights share, and the world of one night.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use loragrid::job::{Digest, JobId, JobState, Transition};
use loragrid::orders::JobOrder;
use loragrid::queue::{Attempt, Owner, Queue, Submission};
use loragrid::store::RememberedDigests;
use loragrid::workspace::{Config, ConfigFlags, SweepRequest, Workspace};
use tokio::time::Instant;

use crate::queue::SimQueue;
use crate::support::{Scratch, sweep, tiny_model};
use crate::twin::TwinQueue;
use crate::worker::Worker;

/// How long faults are drawn.
const NIGHT: Duration = Duration::from_secs(1200);
/// Until then every job must have ended once the faults have.
const MORNING: Duration = Duration::from_secs(24 * 3600);
const WORKERS: usize = 3;

/// A planned sweep with the files that its jobs read.
pub(crate) struct Scene {
    pub(crate) orders: Vec<JobOrder>,
    pub(crate) cache: PathBuf,
    pub(crate) digests: RememberedDigests,
    scratch: Scratch,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        tiny_model(&scratch);
        let grid = "eval = [\"two_digit_subtraction\"]\nlimit = 3\n[axes]\n\"lora.rank\" = [2, 4]\nseed = [1, 2, 3]\n";
        scratch.write("sweep.toml", sweep(grid));
        let folder = scratch.path().to_owned();
        let flags = ConfigFlags {
            db: Some(folder.join("results/loragrid.db")),
            devices: Some("cpu".to_owned()),
            engine: Some(folder.join("no-engine")),
            ..ConfigFlags::default()
        };
        let workspace = Workspace::new(&Config::read(&flags, &folder, &|_| None).unwrap());
        let request = SweepRequest::of(folder.join("sweep.toml"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let prepared = runtime.block_on(workspace.prepare(&request, &mut |_| ())).unwrap();
        let cache = folder.join("cache");
        prepared.plan.write_inputs(&cache).unwrap();
        Self { orders: prepared.plan.orders(0, 0), cache, digests: prepared.digests, scratch }
    }
}

/// A small generator of numbers, whose seed is all that a night depends on.
#[derive(Debug)]
pub(crate) struct Dice(Cell<u64>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// SplitMix64.
    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True once in `times`.
    pub(crate) fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A time of up to this many milliseconds.
    pub(crate) fn millis(&self, most: u64) -> Duration {
        Duration::from_millis(self.below(most + 1))
    }
}

/// What an engine has written to the disk of a night.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checkpoint {
    pub(crate) step: u64,
    pub(crate) finished: bool,
}

/// The world of one night.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) queue: TwinQueue,
    pub(crate) orders: Vec<JobOrder>,
    pub(crate) cache: PathBuf,
    pub(crate) digests: RememberedDigests,
    pub(crate) results: PathBuf,
    /// Whether faults happen now.
    pub(crate) faults: Cell<bool>,
    /// A job that takes its engine with it whenever it trains.
    pub(crate) poison: Option<Digest>,
    /// Checkpoints by training key.
    pub(crate) checkpoints: RefCell<HashMap<Digest, Checkpoint>>,
    /// Adapters on the disk, by folder.
    pub(crate) adapters: RefCell<HashSet<PathBuf>>,
    /// Trainings that were recorded when an attempt was claimed: by key and attempt.
    pub(crate) trained_before: RefCell<HashSet<(Digest, u32)>>,
    /// The newest attempt at each job that was claimed.
    pub(crate) newest: RefCell<HashMap<JobId, u32>>,
    /// Faults that count against a job, by training key: more than two of them would fail it.
    pub(crate) blows: RefCell<HashMap<Digest, u32>>,
    /// Owners whose process is gone, where that can be seen: on the same host.
    pub(crate) dead: Rc<RefCell<HashSet<String>>>,
    /// Jobs that a user cancelled.
    pub(crate) cancelled: RefCell<HashSet<JobId>>,
    /// How often each fault happened.
    pub(crate) happened: RefCell<BTreeMap<&'static str, u64>>,
    pub(crate) started: RefCell<u64>,
}

impl World {
    pub(crate) fn new(scene: &Scene, seed: u64, faults: bool) -> Rc<Self> {
        let dice = Dice::new(seed);
        let trained: Vec<Digest> =
            scene.orders.iter().filter(|order| order.config().is_some()).map(JobOrder::key).collect();
        let poison = (faults && dice.once_in(3)).then(|| trained[dice.below(trained.len() as u64) as usize]);
        let results = scene.scratch.path().join(format!("night-{seed}"));
        let _ = std::fs::create_dir_all(&results);
        Rc::new(Self {
            dice,
            queue: TwinQueue::new(&results),
            orders: scene.orders.clone(),
            cache: scene.cache.clone(),
            digests: scene.digests.clone(),
            results,
            faults: Cell::new(faults),
            poison,
            checkpoints: RefCell::default(),
            adapters: RefCell::default(),
            trained_before: RefCell::default(),
            newest: RefCell::default(),
            blows: RefCell::default(),
            dead: Rc::default(),
            cancelled: RefCell::default(),
            happened: RefCell::default(),
            started: RefCell::default(),
        })
    }

    /// Draws a fault that happens once in so many times, and counts it.
    pub(crate) fn strikes(&self, fault: &'static str, times: u64) -> bool {
        let strikes = self.faults.get() && self.dice.once_in(times);
        if strikes {
            *self.happened.borrow_mut().entry(fault).or_default() += 1;
        }
        strikes
    }

    /// Draws a fault that counts against jobs of a pack; none that could fail one of them.
    pub(crate) fn strikes_at(&self, fault: &'static str, jobs: &[Digest], times: u64) -> bool {
        let mut blows = self.blows.borrow_mut();
        let hurt = jobs.iter().any(|job| blows.get(job).is_some_and(|count| *count >= 2));
        if hurt || !self.strikes(fault, times) {
            return false;
        }
        jobs.iter().for_each(|job| *blows.entry(*job).or_default() += 1);
        true
    }

    /// Panics if another attempt at the job was claimed since: this one should have been fenced.
    pub(crate) fn require_newest(&self, attempt: &Attempt) {
        let newest = self.newest.borrow().get(&attempt.job).copied();
        assert_eq!(newest, Some(attempt.number.0), "an attempt at job {} wrote after its fence", attempt.job);
    }

    /// An owner of its own for each process, on one of two hosts.
    pub(crate) fn owner(&self, worker: usize) -> Owner {
        let mut started = self.started.borrow_mut();
        *started += 1;
        Owner::from_store(format!("host{}/boot/1/{}/{}", worker % 2, 100 + worker, *started))
    }
}

/// Runs a night: workers that are restarted when they end, a user, and faults until midnight.
pub(crate) async fn night(world: &Rc<World>) {
    let submissions: Vec<Submission> =
        world.orders.iter().map(|order| Submission { order: order.clone(), is_done: false }).collect();
    world.queue.submit("tiny", &submissions, &[]).await.unwrap();
    let mut workers: Vec<Worker> = (0..WORKERS).map(|number| Worker::start(world, number)).collect();
    let start = Instant::now();
    loop {
        tokio::time::sleep(world.dice.millis(20_000)).await;
        if start.elapsed() > NIGHT && world.faults.replace(false) {
            // The user goes on with what was paused.
            let all: Vec<JobId> = world.orders.iter().map(|order| order.id.clone()).collect();
            world.queue.move_jobs(&all, Transition::Resume, None).await.unwrap();
        }
        if world.faults.get() {
            disturb(world, &mut workers).await;
        }
        let mut is_idle = true;
        for worker in &mut workers {
            worker.restart_if_ended(world);
            is_idle &= !worker.is_needed(world);
        }
        if is_idle && (!world.faults.get() || all_ended(world)) {
            break;
        }
        let waited = start.elapsed();
        assert!(waited < MORNING, "jobs are left in the morning: {:?}", states(world));
    }
    drop(workers);
    let all: Vec<JobId> = world.orders.iter().map(|order| order.id.clone()).collect();
    world.queue.require_same_states(&all).await;
    let _ = std::fs::remove_dir_all(&world.results);
}

/// The state of each job.
pub(crate) fn states(world: &World) -> Vec<(JobId, JobState, Option<String>)> {
    let state = |order: &JobOrder| {
        let (state, reason) = world.queue.job(&order.id).unwrap();
        (order.id.clone(), state, reason)
    };
    world.orders.iter().map(state).collect()
}

/// Whether nothing is left to do.
pub(crate) fn all_ended(world: &World) -> bool {
    states(world)
        .iter()
        .all(|(_, state, _)| !matches!(state, JobState::Queued | JobState::Running | JobState::Paused))
}

/// Something that happens from outside: to a worker, or by a user.
async fn disturb(world: &Rc<World>, workers: &mut [Worker]) {
    let at = world.dice.below(workers.len() as u64) as usize;
    if world.strikes("worker killed", 12) {
        workers[at].crash(world);
    }
    if world.strikes("worker stopped for a while", 12) {
        workers[at].stall(Duration::from_secs(5) + world.dice.millis(120_000));
    }
    if world.strikes("worker asked to stop", 20) {
        workers[at].stop();
    }
    let job = world.orders[world.dice.below(world.orders.len() as u64) as usize].id.clone();
    let queue = SimQueue::new(world);
    if world.strikes("job paused", 15) {
        let _ = queue.move_jobs(std::slice::from_ref(&job), Transition::Pause, None).await;
    }
    if world.strikes("job resumed", 8) {
        let _ = queue.move_jobs(std::slice::from_ref(&job), Transition::Resume, None).await;
    }
    if world.strikes("job cancelled", 60) {
        let moved = queue.move_jobs(std::slice::from_ref(&job), Transition::Cancel, None).await;
        world.cancelled.borrow_mut().extend(moved.unwrap_or_default());
    }
    if world.strikes("sweep submitted again", 30) {
        let submissions: Vec<Submission> =
            world.orders.iter().map(|order| Submission { order: order.clone(), is_done: false }).collect();
        world.queue.submit("tiny", &submissions, &[]).await.unwrap();
    }
}
