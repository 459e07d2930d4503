//! Tests that every queue must pass.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::device::cpu_slots;
use crate::job::{BaseForm, DType, ModelIdentity, Softmax, SubjectKey};
use crate::orders::{ModelLocation, ORDER_VERSION, OrderedModel, OrderedTask, OrderedWork, SweepWants};
use crate::protocol::DocumentScore;
use crate::task::{Aggregate, DocumentValue, Metric, RequestScore};

/// A job that sweep `s` wants, scored on one task of two documents.
pub(crate) fn order(name: &str) -> JobOrder {
    let subject = SubjectKey::Base(Digest::of(name.as_bytes()));
    let task = OrderedTask {
        task: "t".to_owned(),
        key: ScoreKey(Digest::of(format!("{name} t").as_bytes())),
        documents: "t.documents".to_owned(),
        count: 2,
        tokens: 20,
        softmax: Softmax::Fp32,
        exact: false,
    };
    let wants = SweepWants {
        label: name.to_owned(),
        priority: 0,
        submitted_ms: 1,
        position: 0,
        tasks: vec![task],
        samples: None,
    };
    JobOrder {
        version: ORDER_VERSION,
        id: JobId::of(subject.digest()),
        subject,
        work: OrderedWork::Base,
        model: OrderedModel {
            name: "model".to_owned(),
            location: ModelLocation::Path("/model".into()),
            identity: ModelIdentity(Digest::of(b"model")),
        },
        form: BaseForm::dense(DType::Fp32),
        train_tokens: 0,
        tokens_per_second: 100.0,
        sweeps: [("s".to_owned(), wants)].into(),
    }
}

async fn submit(queue: &impl Queue, orders: &[JobOrder]) {
    let jobs: Vec<Submission> =
        orders.iter().map(|order| Submission { order: order.clone(), is_done: false }).collect();
    queue.submit("s", &jobs, &[]).await.unwrap();
}

async fn claim(queue: &impl Queue, jobs: &[JobId], owner: &Owner) -> Vec<Attempt> {
    let slot = &cpu_slots()[0];
    queue.advance(&[], Some(Claim { jobs, owner, slot, token_budget: 1 })).await.unwrap().claimed
}

async fn end(queue: &impl Queue, attempt: &Attempt, end: AttemptEnd) -> bool {
    let closing = Closing::End(end, Box::default());
    queue.advance(&[(attempt.clone(), Digest::of(b""), closing)], None).await.unwrap().closed[0]
}

/// The state of a job, if it is queued or running.
async fn active(queue: &impl Queue, job: &JobId) -> Option<JobState> {
    queue.active().await.unwrap().into_iter().find(|active| active.id == *job).map(|active| active.state)
}

/// One job of a queue, with its last attempt.
struct World<'a, Q> {
    queue: &'a Q,
    job: JobId,
    last: Option<Attempt>,
}

impl<'a, Q: Queue> World<'a, Q> {
    async fn new(queue: &'a Q) -> Self {
        let order = order("a");
        submit(queue, std::slice::from_ref(&order)).await;
        Self { queue, job: order.id, last: None }
    }

    /// Applies a transition as the program does; returns whether it was applied.
    async fn apply(&mut self, transition: Transition) -> bool {
        let jobs = std::slice::from_ref(&self.job);
        let finish = match transition {
            Transition::Claim => {
                let claimed = claim(self.queue, jobs, &Owner::this_process()).await.pop();
                let was_claimed = claimed.is_some();
                self.last = claimed.or(self.last.take());
                return was_claimed;
            }
            Transition::Finish => AttemptEnd::Finished,
            Transition::Fail => AttemptEnd::Failed("so".to_owned()),
            Transition::Diverge => AttemptEnd::Diverged("so".to_owned()),
            Transition::Requeue => AttemptEnd::Requeued("so".to_owned()),
            Transition::Reopen | Transition::Pause | Transition::Resume | Transition::Cancel => {
                return !self.queue.move_jobs(jobs, transition, None).await.unwrap().is_empty();
            }
        };
        match self.last.clone() {
            Some(attempt) => end(self.queue, &attempt, finish).await,
            None => false,
        }
    }

    async fn is_in(&self, state: JobState) -> bool {
        let shown = matches!(state, JobState::Queued | JobState::Running).then_some(state);
        active(self.queue, &self.job).await == shown
    }
}

/// The transitions from the queued state to a state.
fn way_to(state: JobState) -> &'static [Transition] {
    match state {
        JobState::Queued => &[],
        JobState::Running => &[Transition::Claim],
        JobState::Paused => &[Transition::Pause],
        JobState::Cancelled => &[Transition::Cancel],
        JobState::Done => &[Transition::Claim, Transition::Finish],
        JobState::Failed => &[Transition::Claim, Transition::Fail],
        JobState::Diverged => &[Transition::Claim, Transition::Diverge],
    }
}

/// From every state, every transition follows the transition function.
pub(crate) async fn transitions<Q: Queue, T>(new: impl AsyncFn() -> (Q, T)) {
    for from in JobState::ALL {
        for transition in Transition::ALL {
            let (queue, _kept) = new().await;
            let mut world = World::new(&queue).await;
            for step in way_to(from) {
                assert!(world.apply(*step).await, "{from:?}");
            }
            let (done, expected) = (world.apply(transition).await, from.after(transition));
            assert_eq!(done, expected.is_ok(), "{from:?} {transition:?}");
            assert!(world.is_in(expected.unwrap_or(from)).await, "{from:?} {transition:?}");
        }
    }
}

/// Transitions by number, each with whether an attempt that was taken over reports after it.
pub(crate) fn steps() -> impl Strategy<Value = Vec<(usize, bool)>> {
    prop::collection::vec((0usize..Transition::ALL.len(), any::<bool>()), 1..30)
}

/// On any path a job follows the transition function, and late ends and records change nothing.
pub(crate) async fn any_way<Q: Queue>(queue: &Q, steps: &[(usize, bool)]) {
    let mut world = World::new(queue).await;
    let (mut state, mut overtaken): (JobState, Option<Attempt>) = (JobState::Queued, None);
    for (number, stale) in steps {
        let (transition, before) = (Transition::ALL[*number], world.last.clone());
        let done = world.apply(transition).await;
        // An end needs an attempt that holds the job.
        assert_eq!(done, state.after(transition).is_ok(), "{state:?} {transition:?}");
        state = state.after(transition).unwrap_or(state);
        if transition == Transition::Claim && done {
            overtaken = before.or(overtaken);
        }
        if let Some(old) = overtaken.clone().filter(|_| *stale) {
            assert!(!end(queue, &old, AttemptEnd::Finished).await);
            let record = Record::Training(Digest::of(b""), AttemptResults::default());
            assert_eq!(queue.record(&old, &record).await.unwrap(), Fence::Broken);
            assert!(queue.fate(&old).await.unwrap().is_some());
        }
        assert!(world.is_in(state).await, "{state:?} after {transition:?}");
    }
}

fn score(document: usize) -> DocumentScore {
    let requests = vec![RequestScore { log_likelihood: -1.0, is_greedy: true }];
    DocumentScore {
        task: 0,
        document,
        requests,
        metrics: vec![DocumentValue::Number(1.0)],
        answers: Vec::new(),
    }
}

/// The next attempt finds what an attempt recorded.
pub(crate) async fn records(queue: &impl Queue) {
    let order = order("a");
    submit(queue, std::slice::from_ref(&order)).await;
    assert_eq!(
        queue.orders(std::slice::from_ref(&order.id)).await.unwrap(),
        [(order.clone(), JobProgress::default())]
    );
    let owner = Owner::this_process();
    let first = claim(queue, std::slice::from_ref(&order.id), &owner).await.remove(0);
    let key = order.tasks().next().unwrap().key;
    let record = Record::Documents(vec![(key, score(1))]);
    assert_eq!(queue.record(&first, &record).await.unwrap(), Fence::Held);
    assert!(end(queue, &first, AttemptEnd::Requeued("stopped".to_owned())).await);
    let progress = queue.progress(&order).await.unwrap();
    assert_eq!(progress.documents[&key], [1].into());
    assert!(progress.scored.is_empty());
    let second = claim(queue, std::slice::from_ref(&order.id), &owner).await.remove(0);
    assert_eq!(queue.record(&first, &record).await.unwrap(), Fence::Broken);
    let record = Record::Documents(vec![(key, score(0))]);
    assert_eq!(queue.record(&second, &record).await.unwrap(), Fence::Held);
    let documents = queue.documents(key).await.unwrap();
    assert_eq!(documents.iter().map(|document| document.document).collect::<Vec<_>>(), [0, 1]);
    let aggregate = Aggregate { metric: Metric::Acc, value: 1.0, stderr: None, documents: 2 };
    let whole = ScoreRecord { key, task: "t".to_owned(), aggregates: vec![aggregate], documents: Vec::new() };
    assert_eq!(queue.record(&second, &Record::Scores(order.key(), vec![whole])).await.unwrap(), Fence::Held);
    let progress = queue.progress(&order).await.unwrap();
    assert_eq!((progress.scored, progress.documents.len()), ([key].into(), 0));
}

/// A job is queued as long as a sweep wants it, with the union of all wants.
pub(crate) async fn wants(queue: &impl Queue) {
    let first = order("a");
    submit(queue, std::slice::from_ref(&first)).await;
    let revision = queue.active().await.unwrap()[0].revision;
    let mut second = first.clone();
    let mut wants = second.sweeps.remove("s").unwrap();
    wants.tasks[0].key = ScoreKey(Digest::of(b"other"));
    wants.priority = 5;
    second.sweeps.insert("other".to_owned(), wants);
    queue.submit("other", &[Submission { order: second, is_done: false }], &[]).await.unwrap();
    let active = queue.active().await.unwrap();
    assert!(active.len() == 1 && active[0].revision > revision);
    let (joined, _) = queue.orders(std::slice::from_ref(&first.id)).await.unwrap().remove(0);
    assert_eq!((joined.tasks().count(), joined.sweep()), (2, "other"), "the higher priority comes first");
    queue.submit("other", &[], std::slice::from_ref(&first.id)).await.unwrap();
    let (left, _) = queue.orders(std::slice::from_ref(&first.id)).await.unwrap().remove(0);
    assert_eq!(left, first);
    queue.submit("s", &[], std::slice::from_ref(&first.id)).await.unwrap();
    assert_eq!(queue.active().await.unwrap(), [], "no sweep wants it any more");
    queue.submit("s", &[Submission { order: first.clone(), is_done: true }], &[]).await.unwrap();
    assert_eq!(active_ids(queue).await, [first.id]);
}

async fn active_ids(queue: &impl Queue) -> Vec<JobId> {
    queue.active().await.unwrap().into_iter().map(|job| job.id).collect()
}

/// A job that gains wants while it runs is requeued; one that no sweep wants is not claimed.
pub(crate) async fn growing(queue: &impl Queue) {
    let first = order("a");
    submit(queue, std::slice::from_ref(&first)).await;
    let (owner, ids) = (Owner::this_process(), std::slice::from_ref(&first.id));
    let attempt = claim(queue, ids, &owner).await.remove(0);
    // Submitting the same again changes nothing.
    submit(queue, std::slice::from_ref(&first)).await;
    let mut more = first.clone();
    let mut wants = more.sweeps.remove("s").unwrap();
    wants.tasks[0].key = ScoreKey(Digest::of(b"other"));
    more.sweeps.insert("other".to_owned(), wants);
    queue.submit("other", &[Submission { order: more, is_done: false }], &[]).await.unwrap();
    assert!(end(queue, &attempt, AttemptEnd::Finished).await);
    assert_eq!(active(queue, &first.id).await, Some(JobState::Queued));
    let attempt = claim(queue, ids, &owner).await.remove(0);
    submit(queue, std::slice::from_ref(&first)).await;
    assert!(end(queue, &attempt, AttemptEnd::Finished).await);
    assert_eq!(active(queue, &first.id).await, None, "nothing more was wanted");
    submit(queue, std::slice::from_ref(&first)).await;
    for sweep in ["s", "other"] {
        queue.submit(sweep, &[], ids).await.unwrap();
    }
    assert_eq!(claim(queue, ids, &owner).await, []);
}

/// An end and the next claim are one step; a job is claimed once.
pub(crate) async fn claims(queue: &impl Queue) {
    let orders = [order("a"), order("b"), order("c")];
    submit(queue, &orders).await;
    let ids: Vec<JobId> = orders.iter().map(|order| order.id.clone()).collect();
    let (owner, slot) = (Owner::this_process(), &cpu_slots()[0]);
    let first = claim(queue, &ids[..2], &owner).await;
    assert_eq!(first.iter().map(|attempt| &attempt.job).collect::<Vec<_>>(), [&ids[0], &ids[1]]);
    queue.note_waiting(&ids, "the model is missing").await.unwrap();
    let closing = Closing::End(AttemptEnd::Finished, Box::default());
    let closings: Vec<_> =
        first.iter().map(|attempt| (attempt.clone(), Digest::of(b""), closing.clone())).collect();
    let next = Claim { jobs: &ids, owner: &owner, slot, token_budget: 1 };
    let advanced = queue.advance(&closings, Some(next)).await.unwrap();
    assert_eq!(advanced.closed, [true, true]);
    assert_eq!(advanced.claimed.len(), 1, "only the third was still queued");
    assert_eq!(active(queue, &ids[2]).await, Some(JobState::Running));
    let again = queue.advance(&closings, None).await.unwrap();
    assert_eq!(again.closed, [false, false]);
}

/// Jobs of a process that is gone are requeued, and are suspect.
pub(crate) async fn recovery(queue: &impl Queue) {
    let order = order("a");
    submit(queue, std::slice::from_ref(&order)).await;
    let gone = Owner::from_store("not an owner".to_owned());
    claim(queue, std::slice::from_ref(&order.id), &gone).await;
    let mut observer = Observer::default();
    assert_eq!(queue.recover(&mut observer, Duration::MAX).await.unwrap(), 1);
    let active = queue.active().await.unwrap().remove(0);
    assert!(active.state == JobState::Queued && active.suspect);
    // A live process keeps its jobs.
    claim(queue, std::slice::from_ref(&order.id), &Owner::this_process()).await;
    assert_eq!(queue.recover(&mut observer, Duration::ZERO).await.unwrap(), 0);
}
