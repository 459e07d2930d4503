//! The queue of a night, and beside it a database that is asked the same: every answer must be alike. `SIMULATE_AGAINST` is `sqlite` or
//! `postgres` (a server that `LORAGRID_TEST_POSTGRES` names); without it there is no database.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use loragrid::device::SlotUse;
use loragrid::job::{Digest, JobId, JobState, ScoreKey, Transition};
use loragrid::orders::JobOrder;
use loragrid::queue::{
    ActiveJob, Advanced, Attempt, Claim, Closing, Fence, JobProgress, MemoryQueue, MemoryResults, Observer,
    Owner, Queue, QueueError, Record, StoredDocument, Submission, Taken, suspicion::end_of_silent,
};
use loragrid::store::{Database, ServerAddress, Store};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// A lease that nobody outlasts: silence is judged by the simulated clock, which a database does not know.
const NEVER: Duration = Duration::from_secs(1 << 30);

pub(crate) struct TwinQueue {
    memory: MemoryQueue,
    database: Option<Mirror>,
    /// The newest attempt at each job, with its owner.
    newest: RefCell<HashMap<JobId, (Attempt, Owner)>>,
}

/// A database that is called from the single thread of a night, whose clock stands still meanwhile.
struct Mirror {
    store: Store,
    runtime: tokio::runtime::Runtime,
}

impl Mirror {
    /// The database that the environment asks for, in a folder of a night.
    fn of_environment(folder: &Path) -> Option<Self> {
        let against = std::env::var("SIMULATE_AGAINST").ok().filter(|value| !value.is_empty())?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = folder.to_owned();
        let open = async {
            let database = match against.as_str() {
                "sqlite" => Database::from(folder.join("mirror.db")),
                "postgres" => server(&folder).await,
                other => panic!("SIMULATE_AGAINST={other}: sqlite or postgres"),
            };
            Store::open(database).await.unwrap()
        };
        let store = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(open)).join().unwrap());
        Some(Self { store, runtime })
    }

    fn ask<T: Send>(&self, call: impl AsyncFnOnce(&Store) -> Result<T, QueueError> + Send) -> T {
        let asked = || self.runtime.block_on(call(&self.store));
        let answer = std::thread::scope(|scope| scope.spawn(asked).join().unwrap());
        answer.unwrap_or_else(|error| panic!("the database answers with an error: {error}"))
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let store = self.store.clone();
        std::thread::scope(|scope| drop(scope.spawn(|| self.runtime.block_on(store.close())).join()));
    }
}

/// A database of its own on the test server.
async fn server(folder: &Path) -> Database {
    let base = std::env::var("LORAGRID_TEST_POSTGRES").unwrap();
    let name = format!("night_{}_{}", std::process::id(), folder.file_name().unwrap().to_string_lossy());
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let mut connection = PgConnection::connect(&base).await.unwrap();
    connection.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"))).await.unwrap();
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let (front, query) = base.split_once('?').unwrap_or((&base, ""));
    let address = format!("{}/{name}?{query}", front.rsplit_once('/').unwrap().0);
    Database::of_server(
        ServerAddress::parse(&address).unwrap(),
        folder.join("results"),
        &folder.join("copies"),
    )
}

/// Panics where the database answers otherwise.
fn require_alike<T: PartialEq + Debug>(call: &str, memory: &T, database: &T) {
    assert_eq!(memory, database, "{call}: the queue in memory (left) and the database (right) differ");
}

/// What must be alike of progress: where adapters are is known to the results folder.
fn comparable(progress: JobProgress) -> impl PartialEq + Debug {
    let documents: BTreeMap<ScoreKey, _> = progress.documents.into_iter().collect();
    (progress.trained || progress.removed, progress.scored, documents, progress.sampled)
}

fn ids_of(attempts: &[Attempt]) -> Vec<(JobId, u32, i64)> {
    let id = |attempt: &Attempt| (attempt.job.clone(), attempt.number.0, attempt.revision);
    attempts.iter().map(id).collect()
}

impl TwinQueue {
    /// An empty queue; `folder`: of the night.
    pub(crate) fn new(folder: &Path) -> Self {
        let database = Mirror::of_environment(folder);
        Self { memory: MemoryQueue::default(), database, newest: RefCell::default() }
    }

    pub(crate) fn results(&self) -> MemoryResults {
        self.memory.results()
    }

    pub(crate) fn job(&self, id: &JobId) -> Option<(JobState, Option<String>)> {
        self.memory.job(id)
    }

    pub(crate) fn beat(&self, owner: &Owner) {
        self.memory.beat(owner);
    }

    /// Panics where the state of a job is another in the database.
    pub(crate) async fn require_same_states(&self, jobs: &[JobId]) {
        let Some(database) = &self.database else { return };
        let known = database.ask(async |store: &Store| {
            let read = async {
                store.refresh().await?;
                store.states(jobs).await
            };
            read.await.map_err(|error| QueueError(error.into()))
        });
        let here: Vec<JobState> = jobs.iter().filter_map(|job| Some(self.job(job)?.0)).collect();
        require_alike("states", &here, &known);
    }

    /// Attempts that ended because their process was gone, or said nothing for too long.
    async fn recover_in_database(&self, observer: &Observer, running: &[JobId]) {
        let Some(database) = &self.database else { return };
        let (mut dead, mut silent) = (HashSet::new(), Vec::new());
        for job in running {
            let newest = self.newest.borrow();
            let (attempt, owner) = &newest[job];
            if observer.is_dead(owner) {
                dead.insert(owner.as_str().to_owned());
            } else if self.job(job).is_some_and(|(state, _)| state != JobState::Running) {
                let closing = Closing::of_end(end_of_silent());
                silent.push((attempt.clone(), Digest::of(b""), closing));
            }
        }
        let me = observer.me().clone();
        database.ask(async |store: &Store| {
            let is_dead = move |owner: &Owner| dead.contains(owner.as_str());
            let mut observer = Observer::of(me, Box::new(is_dead));
            store.recover(&mut observer, NEVER).await?;
            store.advance(&silent, None).await
        });
    }
}

impl Queue for TwinQueue {
    type Heartbeat = ();

    async fn submit(&self, sweep: &str, jobs: &[Submission], dropped: &[JobId]) -> Result<(), QueueError> {
        self.memory.submit(sweep, jobs, dropped).await?;
        if let Some(database) = &self.database {
            database.ask(async |store: &Store| Queue::submit(store, sweep, jobs, dropped).await);
        }
        Ok(())
    }

    async fn active(&self) -> Result<Vec<ActiveJob>, QueueError> {
        let active = self.memory.active().await?;
        if let Some(database) = &self.database {
            let sorted = |mut jobs: Vec<ActiveJob>| {
                jobs.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
                jobs
            };
            let there = database.ask(async |store: &Store| store.active().await);
            require_alike("active", &sorted(active.clone()), &sorted(there));
        }
        Ok(active)
    }

    async fn orders(&self, jobs: &[JobId]) -> Result<Vec<(JobOrder, JobProgress)>, QueueError> {
        let orders = self.memory.orders(jobs).await?;
        if let Some(database) = &self.database {
            let there = database.ask(async |store: &Store| store.orders(jobs).await);
            let by_id = |orders: Vec<(JobOrder, JobProgress)>| {
                let one = |(order, progress): (JobOrder, JobProgress)| {
                    (order.id.as_str().to_owned(), (order, comparable(progress)))
                };
                orders.into_iter().map(one).collect::<BTreeMap<_, _>>()
            };
            require_alike("orders", &by_id(orders.clone()), &by_id(there));
        }
        Ok(orders)
    }

    async fn progress(&self, order: &JobOrder) -> Result<JobProgress, QueueError> {
        let progress = self.memory.progress(order).await?;
        if let Some(database) = &self.database {
            let there = database.ask(async |store: &Store| store.progress(order).await);
            require_alike("progress", &comparable(progress.clone()), &comparable(there));
        }
        Ok(progress)
    }

    async fn advance(
        &self,
        closings: &[(Attempt, Digest, Closing)],
        claim: Option<Claim<'_>>,
    ) -> Result<Advanced, QueueError> {
        let advanced = self.memory.advance(closings, claim.clone()).await?;
        if let Some(claim) = &claim {
            let claimed = advanced.claimed.iter();
            let claimed =
                claimed.map(|attempt| (attempt.job.clone(), (attempt.clone(), claim.owner.clone())));
            self.newest.borrow_mut().extend(claimed);
        }
        if let Some(database) = &self.database {
            let there = database.ask(async |store: &Store| store.advance(closings, claim).await);
            require_alike("closed", &advanced.closed, &there.closed);
            require_alike("claimed", &ids_of(&advanced.claimed), &ids_of(&there.claimed));
        }
        Ok(advanced)
    }

    async fn record(&self, attempt: &Attempt, record: &Record) -> Result<Fence, QueueError> {
        let fence = self.memory.record(attempt, record).await?;
        if let Some(database) = &self.database {
            let there = database.ask(async |store: &Store| store.record(attempt, record).await);
            require_alike("record", &fence, &there);
        }
        Ok(fence)
    }

    async fn documents(&self, key: ScoreKey) -> Result<Vec<StoredDocument>, QueueError> {
        let documents = self.memory.documents(key).await?;
        if let Some(database) = &self.database {
            let there = database.ask(async |store: &Store| Queue::documents(store, key).await);
            require_alike("documents", &documents, &there);
        }
        Ok(documents)
    }

    async fn fate(&self, attempt: &Attempt) -> Result<Option<Taken>, QueueError> {
        let fate = self.memory.fate(attempt).await?;
        if let Some(database) = &self.database {
            let there = database.ask(async |store: &Store| store.fate(attempt).await);
            require_alike("fate", &fate, &there);
        }
        Ok(fate)
    }

    async fn recover(&self, observer: &mut Observer, lease: Duration) -> Result<usize, QueueError> {
        let known: Vec<JobId> = self.newest.borrow().keys().cloned().collect();
        let is_running = |job: &JobId| self.job(job).is_some_and(|(state, _)| state == JobState::Running);
        let running: Vec<JobId> = known.into_iter().filter(is_running).collect();
        let recovered = self.memory.recover(observer, lease).await?;
        self.recover_in_database(observer, &running).await;
        self.require_same_states(&running).await;
        Ok(recovered)
    }

    async fn move_jobs(
        &self,
        jobs: &[JobId],
        transition: Transition,
        reason: Option<&str>,
    ) -> Result<Vec<JobId>, QueueError> {
        let moved = self.memory.move_jobs(jobs, transition, reason).await?;
        if let Some(database) = &self.database {
            let there =
                database.ask(async |store: &Store| Queue::move_jobs(store, jobs, transition, reason).await);
            require_alike("moved", &moved, &there);
        }
        Ok(moved)
    }

    async fn note_waiting(&self, jobs: &[JobId], reason: &str) -> Result<(), QueueError> {
        self.memory.note_waiting(jobs, reason).await?;
        if let Some(database) = &self.database {
            database.ask(async |store: &Store| Queue::note_waiting(store, jobs, reason).await);
        }
        Ok(())
    }

    async fn changes(&self) -> Result<i64, QueueError> {
        self.memory.changes().await
    }

    async fn note_use(&self, owner: &Owner, slots: &[SlotUse]) -> Result<(), QueueError> {
        self.memory.note_use(owner, slots).await
    }

    async fn reach(&self) -> Result<(), QueueError> {
        self.memory.reach().await
    }

    fn heartbeat(&self, owner: &Owner) -> Self::Heartbeat {
        self.memory.heartbeat(owner)
    }
}
