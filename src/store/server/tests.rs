//! The server passes the test suite of every queue, and a file that is brought home is like one that was written. `LORAGRID_TEST_POSTGRES`
//! names a server on which databases may be made; without it these tests are skipped.

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use sqlx::ConnectOptions;

use super::address::ServerAddress;
use super::attempts::answer;
use super::connection::Server;
use crate::artifacts::Artifacts;
use crate::device::cpu_slots;
use crate::job::{JobId, JobState, Transition};
use crate::protocol::DocumentScore;
use crate::queue::suite::{self, order};
use crate::queue::{AttemptEnd, Claim, Closing, Observer, Owner, Queue, Record, ScoreRecord, Submission};
use crate::store::{Actor, Database, OperationKind, Origin, Store};
use crate::task::{Aggregate, DocumentValue, Metric, RequestScore};

/// A database on the test server, dropped with its folder of results.
struct Place {
    address: ServerAddress,
    folder: tempfile::TempDir,
}

async fn place() -> Option<Place> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Ok(base) = std::env::var("LORAGRID_TEST_POSTGRES") else {
        eprintln!("skipped: LORAGRID_TEST_POSTGRES names no server");
        return None;
    };
    let name = format!("t{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut connection = ServerAddress::parse(&base).unwrap().options().unwrap().connect().await.unwrap();
    let create = format!("CREATE DATABASE {name}");
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
    let (front, query) = base.split_once('?').unwrap_or((&base, ""));
    let front = front.rsplit_once('/').unwrap().0;
    let address = ServerAddress::parse(&format!("{front}/{name}?{query}")).unwrap();
    Some(Place { address, folder: tempfile::tempdir().unwrap() })
}

impl Place {
    async fn server(&self) -> Server {
        Server::connect(&self.address, (self.folder.path().join("results"), Artifacts::InResults))
            .await
            .unwrap()
    }

    fn database(&self) -> Database {
        let folder = self.folder.path();
        Database::of_server(self.address.clone(), folder.join("results"), &folder.join("copies"))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Empties the tables.
async fn cleared(server: &Server) -> Server {
    let truncate =
        "TRUNCATE jobs, job_attempts, sweeps, sweep_versions, trainings, curve_points, scored_documents,
        scores, samples, operations, slot_use";
    sqlx::query(truncate).execute(&server.pool).await.unwrap();
    Server::connect(&server.address, (server.results.clone(), Artifacts::InResults)).await.unwrap()
}

#[test]
fn the_suite_holds_on_postgres() {
    block_on(async {
        let Some(place) = place().await else { return };
        let server = place.server().await;
        suite::transitions(async || (cleared(&server).await, ())).await;
        suite::records(&cleared(&server).await).await;
        suite::wants(&cleared(&server).await).await;
        suite::growing(&cleared(&server).await).await;
        suite::claims(&cleared(&server).await).await;
        suite::recovery(&cleared(&server).await).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn along_any_way_postgres_stays_with_the_function(steps in suite::steps()) {
        block_on(async {
            let Some(place) = place().await else { return };
            suite::any_way(&place.server().await, &steps).await;
        });
    }
}

/// A job of sweep `s` that is queued on a server.
async fn queued(server: &Server, name: &str) -> crate::orders::JobOrder {
    let order = order(name);
    server.submit("s", &[Submission { order: order.clone(), is_done: false }], &[]).await.unwrap();
    order
}

async fn claimed(server: &Server, job: &JobId) -> Option<crate::queue::Attempt> {
    let (owner, slot) = (Owner::this_process(), &cpu_slots()[0]);
    let claim = Claim { jobs: std::slice::from_ref(job), owner: &owner, slot, token_budget: 1 };
    server.advance(&[], Some(claim)).await.unwrap().claimed.pop()
}

#[test]
fn two_clients_never_claim_the_same_job() {
    block_on(async {
        let Some(place) = place().await else { return };
        let (first, second) = (place.server().await, place.server().await);
        for number in 0..20 {
            let order = queued(&first, &format!("job {number}")).await;
            let both =
                futures_util::future::join(claimed(&first, &order.id), claimed(&second, &order.id)).await;
            assert_eq!(u32::from(both.0.is_some()) + u32::from(both.1.is_some()), 1);
        }
    });
}

#[test]
fn a_step_whose_answer_was_lost_is_not_taken_twice() {
    block_on(async {
        let Some(place) = place().await else { return };
        let server = place.server().await;
        let order = queued(&server, "a").await;
        let attempt = claimed(&server, &order.id).await.unwrap();
        // The same step again, as after a connection that broke while it committed.
        let mut tx = server.pool.begin().await.unwrap();
        let (name, owner) = (format!("{}#0", server.shared.client), Owner::this_process());
        let slot = &cpu_slots()[0];
        let claim = Claim { jobs: std::slice::from_ref(&order.id), owner: &owner, slot, token_budget: 1 };
        let again = answer(&mut tx, &name, &[], Some(&claim)).await.unwrap().unwrap();
        assert_eq!(answer(&mut tx, "another step", &[], Some(&claim)).await.unwrap(), None);
        drop(tx);
        assert_eq!(again.claimed[0].number, attempt.number);
        assert!(claimed(&server, &order.id).await.is_none());
    });
}

#[test]
fn a_lease_is_judged_by_the_server_and_not_while_it_was_down() {
    block_on(async {
        let Some(place) = place().await else { return };
        let server = place.server().await;
        let order = queued(&server, "a").await;
        let elsewhere = Owner::from_store("elsewhere/boot/namespace/1/1".to_owned());
        let (slot, lease) = (&cpu_slots()[0], std::time::Duration::from_secs(30));
        let claim = Claim { jobs: std::slice::from_ref(&order.id), owner: &elsewhere, slot, token_budget: 1 };
        server.advance(&[], Some(claim)).await.unwrap();
        let mut observer = Observer::default();
        assert_eq!(server.recover(&mut observer, lease).await.unwrap(), 0);
        let silent = |seconds: u32| {
            format!("UPDATE job_attempts SET beat_at = clock_timestamp() - INTERVAL '{seconds} s'")
        };
        sqlx::query(sqlx::AssertSqlSafe(silent(3600))).execute(&server.pool).await.unwrap();
        let up: f64 = sqlx::query_scalar(
            "SELECT EXTRACT(EPOCH FROM clock_timestamp() - pg_postmaster_start_time())::double precision",
        )
        .fetch_one(&server.pool)
        .await
        .unwrap();
        let short = std::time::Duration::from_secs_f64(up / 2.0);
        let long = std::time::Duration::from_secs_f64(up + 600.0);
        assert_eq!(server.recover(&mut observer, long).await.unwrap(), 0, "the server is not up for so long");
        assert_eq!(server.recover(&mut observer, short).await.unwrap(), 1);
    });
}

#[test]
fn what_is_brought_home_is_what_was_recorded() {
    block_on(async {
        let Some(place) = place().await else { return };
        let (server, order) = (place.server().await, order("a"));
        let store = Store::open(&place.database()).await.unwrap();
        queued(&server, "a").await;
        let attempt = claimed(&server, &order.id).await.unwrap();
        let key = order.tasks().next().unwrap().key;
        let score = |document| DocumentScore {
            task: 0,
            document,
            requests: vec![RequestScore { log_likelihood: -1.5, is_greedy: true }],
            metrics: vec![DocumentValue::Number(document as f64)],
            answers: Vec::new(),
        };
        let record = Record::Documents(vec![(key, score(0)), (key, score(1))]);
        server.record(&attempt, &record).await.unwrap();
        let aggregate = |metric, value| Aggregate { metric, value, stderr: Some(0.25), documents: 2 };
        let scores = ScoreRecord {
            key,
            task: "t".to_owned(),
            aggregates: vec![aggregate(Metric::Acc, 0.5), aggregate(Metric::Perplexity, f64::INFINITY)],
            documents: vec![
                (0, vec![DocumentValue::Number(0.0), DocumentValue::Number(1.0)]),
                (1, vec![DocumentValue::Number(1.0), DocumentValue::Number(1.0)]),
            ],
        };
        server.record(&attempt, &Record::Scores(order.key(), vec![scores.clone()])).await.unwrap();
        let closing = Closing::of_end(AttemptEnd::Finished);
        server.advance(&[(attempt, order.key(), closing)], None).await.unwrap();
        let brought = store.refresh().await.unwrap();
        assert_eq!((brought.jobs, brought.documents, brought.scores), (1, 2, 1));
        assert_eq!(store.documents(key).await.unwrap(), Queue::documents(&server, key).await.unwrap());
        // The same record in a file of its own.
        let other = Store::open(&place.folder.path().join("other/a.db")).await.unwrap();
        Queue::submit(&other, "s", &[Submission { order: order.clone(), is_done: false }], &[])
            .await
            .unwrap();
        other.write_record(None, &Record::Scores(order.key(), vec![scores])).await.unwrap();
        let rows =
            "SELECT task, metric, value, stderr, documents, score_key FROM task_scores ORDER BY metric";
        let (a, b) = (
            crate::store::query(store.path(), rows, LIMIT).await.unwrap(),
            crate::store::query(other.path(), rows, LIMIT).await.unwrap(),
        );
        assert_eq!(a, b);
        assert_eq!(store.states(std::slice::from_ref(&order.id)).await.unwrap(), [JobState::Done]);
        // Nothing is brought twice once no transaction is open; those of other tests are on the same server.
        let begin = std::time::Instant::now();
        while store.refresh().await.unwrap().documents > 0 {
            assert!(
                begin.elapsed() < std::time::Duration::from_secs(60),
                "the same is brought again and again"
            );
        }
    });
}

/// How long a query may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

#[test]
fn a_copy_of_another_server_is_not_mixed_with_this_one() {
    block_on(async {
        let (Some(one), Some(other)) = (place().await, place().await) else { return };
        Store::open(&one.database()).await.unwrap().close().await;
        let folder = one.folder.path();
        let mixed =
            Database::of_server(other.address.clone(), folder.join("elsewhere"), &folder.join("copies"));
        std::fs::create_dir_all(mixed.file().parent().unwrap()).unwrap();
        std::fs::copy(one.database().file(), mixed.file()).unwrap();
        let error = Store::open(&mixed).await.unwrap_err();
        assert!(error.to_string().contains("another server"), "{error}");
    });
}

#[test]
fn what_a_user_did_on_a_server_is_undone_there() {
    block_on(async {
        let Some(place) = place().await else { return };
        let server = place.server().await;
        let (order, actor) = (queued(&server, "a").await, Actor::here(Origin::Command));
        let store = Store::open(&place.database()).await.unwrap();
        let jobs = std::slice::from_ref(&order.id);
        assert_eq!(store.operate(&actor, "s", jobs, Transition::Pause, None).await.unwrap(), jobs);
        assert_eq!(store.states(jobs).await.unwrap(), [JobState::Paused], "the copy follows");
        assert!(claimed(&server, &order.id).await.is_none());
        let undone = store.undo(&actor, None).await.unwrap();
        assert_eq!((undone.moved, undone.operation.kind), (1, OperationKind::Pause));
        assert!(claimed(&server, &order.id).await.is_some());
    });
}
