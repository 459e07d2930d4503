//! Simulated engines: they take orders, report steps and documents at times drawn from the seed, and crash, hang and run out of memory.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use loragrid::device::Slot;
use loragrid::engine_process::{EngineExit, WorkerError};
use loragrid::job::{Bytes, Digest, Seconds, SlotId, Tokens};
use loragrid::protocol::{
    Device, DocumentScore, EngineFailure, Event, FailureKind, FrameError, Order, PROTOCOL_VERSION, PackOrder,
    ScoreOrder, StepReport, Trained,
};
use loragrid::runner::{EngineControl, EngineMessage, EngineMessages, Engines};
use loragrid::task::{RequestScore, TaskDocuments, score_document};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::world::World;

const STEPS: u64 = 4;

/// Starts simulated engines.
pub(crate) struct SimEngines {
    pub(crate) world: Rc<World>,
    pub(crate) tasks: Rc<RefCell<Vec<JoinHandle<()>>>>,
}

/// What reaches an engine besides orders.
#[derive(Default)]
struct Signals {
    killed: Notify,
    terminated: Cell<bool>,
    woken: Notify,
}

struct SimControl {
    orders: mpsc::UnboundedSender<Order>,
    signals: Rc<Signals>,
}

impl Engines for SimEngines {
    fn start(
        &self,
        slot: &Slot,
        _log: &Path,
        _logs: watch::Receiver<Option<PathBuf>>,
        messages: EngineMessages,
    ) -> Result<Box<dyn EngineControl>, WorkerError> {
        if self.world.strikes("engine cannot be started", 60) {
            let source = std::io::Error::from(std::io::ErrorKind::ResourceBusy);
            return Err(WorkerError::Start { engine: PathBuf::from("simulated"), source });
        }
        let (orders, receiver) = mpsc::unbounded_channel();
        let signals = Rc::<Signals>::default();
        let engine = SimEngine {
            world: Rc::clone(&self.world),
            slot: slot.id,
            messages: messages.clone(),
            signals: Rc::clone(&signals),
        };
        let (slot, heard) = (slot.id, Rc::clone(&signals));
        let life = async move {
            let exit = tokio::select! {
                exit = engine.live(receiver) => exit,
                () = heard.killed.notified() => EngineExit { signal: Some(9), ..EngineExit::default() },
            };
            let _ = messages.send((slot, EngineMessage::Exited(exit))).await;
        };
        self.tasks.borrow_mut().push(tokio::task::spawn_local(life));
        Ok(Box::new(SimControl { orders, signals }))
    }
}

impl EngineControl for SimControl {
    fn send(&self, order: &Order) -> Result<(), FrameError> {
        let _ = self.orders.send(order.clone());
        Ok(())
    }

    fn terminate(&self) {
        self.signals.terminated.set(true);
        self.signals.woken.notify_one();
    }

    fn kill(&self) {
        self.signals.killed.notify_one();
    }

    fn pid(&self) -> u32 {
        0
    }
}

/// How an order ended for the engine: it goes on, or exits so.
type Carried = Result<(), EngineExit>;

struct SimEngine {
    world: Rc<World>,
    slot: SlotId,
    messages: EngineMessages,
    signals: Rc<Signals>,
}

fn exited(code: i32) -> EngineExit {
    EngineExit { code: Some(code), ..EngineExit::default() }
}

impl SimEngine {
    async fn live(&self, mut orders: mpsc::UnboundedReceiver<Order>) -> EngineExit {
        tokio::time::sleep(self.world.dice.millis(2000)).await;
        let (engine, device) = ("simulated".to_owned(), Device::Cpu);
        self.tell(Event::Hello { protocol: PROTOCOL_VERSION, engine, device }).await;
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                () = self.signals.woken.notified() => return exited(0),
            };
            let carried = match order {
                None | Some(Order::Shutdown | Order::Stop) => return exited(0),
                Some(Order::Load(_)) => self.load().await,
                Some(Order::Train(pack)) => self.train(&pack).await,
                Some(Order::Score(order)) => self.score(&order).await,
                Some(other) => panic!("a worker never orders {other:?}"),
            };
            if let Err(exit) = carried {
                return exit;
            }
        }
    }

    async fn tell(&self, event: Event) {
        let _ = self.messages.send((self.slot, EngineMessage::Event(event, Instant::now()))).await;
    }

    async fn fail(&self, kind: FailureKind) {
        let message = format!("simulated: {kind:?}");
        self.tell(Event::Failed(EngineFailure { kind, message })).await;
    }

    async fn load(&self) -> Carried {
        tokio::time::sleep(self.world.dice.millis(3000)).await;
        if self.world.strikes("model unreadable", 60) {
            self.fail(FailureKind::Environment).await;
            return Ok(());
        }
        self.die("engine killed", 60)?;
        self.tell(Event::Loaded { parameters: 1, seconds: Seconds(1.0) }).await;
        Ok(())
    }

    /// SIGKILL from outside, which is nobody's fault.
    fn die(&self, fault: &'static str, times: u64) -> Carried {
        if self.world.strikes(fault, times) {
            return Err(EngineExit { signal: Some(9), ..EngineExit::default() });
        }
        Ok(())
    }

    /// What may happen between two steps or documents of these jobs.
    async fn pause(&self, jobs: &[Digest]) -> Carried {
        tokio::time::sleep(self.world.dice.millis(2500)).await;
        if self.signals.terminated.get() {
            self.tell(Event::Stopped).await;
            return Err(exited(0));
        }
        self.die("engine killed", 150)?;
        if self.world.strikes_at("engine aborted", jobs, 150) {
            return Err(EngineExit { signal: Some(6), ..EngineExit::default() });
        }
        if self.world.strikes_at("engine hung", jobs, 300) {
            return std::future::pending().await;
        }
        if self.world.strikes_at("out of memory", jobs, 300) {
            self.fail(FailureKind::OutOfMemory).await;
            return Err(exited(0));
        }
        if self.world.strikes("disk full", 800) {
            self.fail(FailureKind::DiskFull).await;
        }
        Ok(())
    }

    async fn train(&self, pack: &PackOrder) -> Carried {
        let world = &self.world;
        let jobs: Vec<Digest> = pack.members.iter().map(|member| member.key).collect();
        let mut from = Vec::new();
        for (member, order) in pack.members.iter().enumerate() {
            let again = world.trained_before.borrow().contains(&(order.key, order.attempt.0));
            assert!(!again, "a training that was recorded is ordered again: {}", order.key);
            let known = world.checkpoints.borrow().get(&order.key).cloned().unwrap_or_default();
            let is_finished = known.finished && world.adapters.borrow().contains(&order.adapter);
            if known.step > 0 && !is_finished {
                self.tell(Event::Resumed { member, step: known.step }).await;
            }
            if is_finished {
                for step in 1..=STEPS {
                    self.tell(step_event(member, step)).await;
                }
                self.tell(trained_event(member)).await;
            }
            from.push(if is_finished { STEPS } else { known.step.min(STEPS - 1) });
        }
        for step in 1..=STEPS {
            for (member, order) in pack.members.iter().enumerate().filter(|(at, _)| from[*at] < step) {
                self.pause(&jobs).await?;
                if world.poison == Some(order.key) && step == 2 {
                    return Err(EngineExit { signal: Some(6), ..EngineExit::default() });
                }
                // The checkpoint is written before the step is told, or after.
                let early = world.dice.once_in(2);
                if early {
                    world.checkpoints.borrow_mut().entry(order.key).or_default().step = step;
                    self.die("engine killed after a checkpoint", 200)?;
                }
                self.tell(step_event(member, step)).await;
                self.die("engine killed after a step", 200)?;
                world.checkpoints.borrow_mut().entry(order.key).or_default().step = step;
                if step == STEPS {
                    world.adapters.borrow_mut().insert(order.adapter.clone());
                    let _ = std::fs::create_dir_all(&order.adapter);
                    self.die("engine killed before the end is written", 60)?;
                    world.checkpoints.borrow_mut().entry(order.key).or_default().finished = true;
                    self.die("engine killed before the end is told", 60)?;
                    self.tell(trained_event(member)).await;
                }
            }
        }
        Ok(())
    }

    async fn score(&self, order: &ScoreOrder) -> Carried {
        for (member, adapter) in order.adapters.iter().enumerate() {
            if let Some(folder) = adapter {
                let known = self.world.adapters.borrow().contains(folder);
                assert!(known, "an adapter is scored that was never written: {}", folder.display());
            }
            let name = adapter.as_deref().and_then(Path::file_name);
            for (place, wanted) in order.tasks.iter().enumerate() {
                let TaskDocuments { task, documents, .. } = TaskDocuments::read(&wanted.documents).unwrap();
                for document in documents.iter().filter(|document| !wanted.done.contains(&document.id)) {
                    self.pause(&[]).await?;
                    let of_request = |index: usize| {
                        let text = format!("{name:?} {} {} {index}", task.name, document.id);
                        let digit = Digest::of(text.as_bytes()).prefix(1).as_bytes()[0];
                        RequestScore { log_likelihood: -f64::from(digit), is_greedy: digit.is_multiple_of(2) }
                    };
                    let requests: Vec<RequestScore> = (0..document.requests.len()).map(of_request).collect();
                    let of = |metric: &loragrid::task::TaskMetric| {
                        score_document(metric.metric, document, &requests)
                    };
                    let metrics = task.metrics.iter().map(of).collect();
                    let id = document.id;
                    let score =
                        DocumentScore { task: place, document: id, requests, metrics, answers: Vec::new() };
                    self.tell(Event::Document { member, score }).await;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.tell(Event::Scored { seconds: Seconds(1.0), tokens: Tokens(1) }).await;
        Ok(())
    }
}

fn step_event(member: usize, step: u64) -> Event {
    let report = StepReport {
        step,
        steps: STEPS,
        loss: 1.0 / step as f64,
        validation_loss: None,
        learning_rate: 1e-4,
        tokens: Tokens(step * 10),
        seconds: Seconds(step as f64),
    };
    Event::Step { member, report }
}

fn trained_event(member: usize) -> Event {
    let trained = Trained {
        steps: STEPS,
        tokens: Tokens(STEPS * 10),
        seconds: Seconds(STEPS as f64),
        last_losses: 0.5,
        validation_loss: None,
        trainable: 1,
        peak_memory: Bytes(1),
        adapter: None,
    };
    Event::Trained { member, trained }
}
