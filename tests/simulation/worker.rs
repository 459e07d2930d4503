//! Workers: the real runner with simulated engines. A worker can be killed, stopped for a while, and asked to stop.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use loragrid::artifacts::Artifacts;
use loragrid::device::{DeviceKind, Inventory, launched_slots};
use loragrid::hub::Cache;
use loragrid::queue::{Observer, Owner};
use loragrid::runner::{Inputs, Limits, Runner};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::engine::SimEngines;
use crate::queue::SimQueue;
use crate::world::{World, all_ended};

/// How often a worker beats.
const BEAT: Duration = Duration::from_secs(2);

pub(crate) struct Worker {
    number: usize,
    owner: Owner,
    task: JoinHandle<()>,
    /// Its engines, which die with it.
    engines: Rc<RefCell<Vec<JoinHandle<()>>>>,
    stalled: Rc<Cell<Option<Instant>>>,
    stops: mpsc::Sender<()>,
}

impl Worker {
    pub(crate) fn start(world: &Rc<World>, number: usize) -> Self {
        let owner = world.owner(number);
        let engines: Rc<RefCell<Vec<JoinHandle<()>>>> = Rc::default();
        let stalled: Rc<Cell<Option<Instant>>> = Rc::default();
        let (stops, receiver) = mpsc::channel(4);
        let work = work(Rc::clone(world), owner.clone(), number, Rc::clone(&engines), receiver);
        let task = tokio::task::spawn_local(Stallable {
            inner: Box::pin(work),
            until: Rc::clone(&stalled),
            sleep: None,
        });
        Self { number, owner, task, engines, stalled, stops }
    }

    /// SIGKILL: the engines go with it.
    pub(crate) fn crash(&self, world: &World) {
        self.task.abort();
        self.engines.borrow().iter().for_each(JoinHandle::abort);
        // Who is on another host cannot see it.
        world.dead.borrow_mut().insert(self.owner.as_str().to_owned());
    }

    /// SIGSTOP, and SIGCONT after a while.
    pub(crate) fn stall(&self, time: Duration) {
        self.stalled.set(Some(Instant::now() + time));
    }

    /// SIGTERM.
    pub(crate) fn stop(&self) {
        let _ = self.stops.try_send(());
    }

    /// Whether it still runs, or jobs are left for it.
    pub(crate) fn is_needed(&self, world: &World) -> bool {
        !self.task.is_finished() || !all_ended(world)
    }

    /// Starts a new process where this one ended and jobs are left.
    pub(crate) fn restart_if_ended(&mut self, world: &Rc<World>) {
        if self.task.is_finished() && !all_ended(world) {
            world.dead.borrow_mut().insert(self.owner.as_str().to_owned());
            self.engines.borrow().iter().for_each(JoinHandle::abort);
            *self = Self::start(world, self.number);
        }
    }
}

async fn work(
    world: Rc<World>,
    owner: Owner,
    number: usize,
    tasks: Rc<RefCell<Vec<JoinHandle<()>>>>,
    mut stops: mpsc::Receiver<()>,
) {
    let queue = SimQueue::new(&world);
    let engines = SimEngines { world: Rc::clone(&world), tasks };
    let host = owner.as_str().split('/').next().unwrap_or_default().to_owned();
    let observer = || {
        let (dead, host) = (Rc::clone(&world.dead), host.clone());
        let is_dead = move |other: &Owner| {
            other.as_str().split('/').next() == Some(&host) && dead.borrow().contains(other.as_str())
        };
        Observer::of(owner.clone(), Box::new(is_dead))
    };
    let runner = Runner {
        queue: &queue,
        only: None,
        engines: &engines,
        observer: &observer,
        slots: launched_slots(1 + number % 2, DeviceKind::Cpu { bf16: false }),
        device: DeviceKind::Cpu { bf16: false },
        inventory: Inventory::None,
        results: world.results.clone(),
        artifacts: Artifacts::InResults,
        limits: Limits::default(),
        pack: 3,
        keeper: None,
    };
    let mut digests = world.digests.clone();
    let mut inputs = Inputs::new(world.cache.clone(), Cache::new(world.cache.clone()), &mut digests);
    let beats = async {
        loop {
            tokio::time::sleep(BEAT).await;
            world.queue.beat(&owner);
        }
    };
    let mut watch = |_| ();
    let run = runner.run(&mut inputs, &mut watch, &mut stops);
    tokio::select! {
        // How it ends is in the queue.
        _ = run => {}
        () = beats => {}
    }
}

/// A future that is not polled for a while: what it waits for happens meanwhile.
struct Stallable {
    inner: Pin<Box<dyn Future<Output = ()>>>,
    until: Rc<Cell<Option<Instant>>>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Future for Stallable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(until) = self.until.take() {
            self.sleep = Some(Box::pin(tokio::time::sleep_until(until)));
        }
        if let Some(sleep) = &mut self.sleep {
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        self.inner.as_mut().poll(context)
    }
}
