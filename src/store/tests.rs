//! Every change of a job's state that SQL makes is the one that the transition function allows.

use proptest::prelude::*;

use super::*;
use crate::device::cpu_slots;
use crate::job::{AttemptNumber, Digest, JobId, JobState, Transition};

/// A database with one job.
struct World {
    _folder: tempfile::TempDir,
    store: Store,
    job: JobId,
}

impl World {
    async fn new(state: JobState) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("a.db")).await.unwrap();
        let job = JobId::of(Digest::of(b"job"));
        let insert = "INSERT INTO jobs (id, subject, kind, state, model_identity, dtype, settings, trainable, created_ms)
                      VALUES ($1, $1, 'train', $2, 'model', 'fp32', '{}', 1, 0)";
        sqlx::query(insert).bind(job.as_str()).bind(state.as_str()).execute(&store.pool).await.unwrap();
        Self { _folder: folder, store, job }
    }

    async fn state(&self) -> JobState {
        self.store.states(std::slice::from_ref(&self.job)).await.unwrap()[0]
    }

    /// The attempt that the job is at.
    async fn attempt(&self) -> Attempt {
        let row = sqlx::query("SELECT attempt FROM jobs").fetch_one(&self.store.pool).await.unwrap();
        let number: i64 = sqlx::Row::get(&row, 0);
        Attempt { job: self.job.clone(), number: AttemptNumber(number as u32) }
    }

    /// What the program does for a transition; whether it says that it was done.
    async fn apply(&self, transition: Transition) -> bool {
        let end = match transition {
            Transition::Claim => {
                let mut writing = self.store.write().await.unwrap();
                let slot = &cpu_slots()[0];
                let owner = Owner::this_process();
                let claim = writing.claim(&self.job, &owner, slot, 1, |_| String::new());
                let claimed = claim.await.unwrap().is_some();
                writing.commit().await.unwrap();
                return claimed;
            }
            Transition::Finish => AttemptEnd::Finished,
            Transition::Fail => AttemptEnd::Failed("so".to_owned()),
            Transition::Diverge => AttemptEnd::Diverged("so".to_owned()),
            Transition::Requeue => AttemptEnd::Requeued("so".to_owned()),
            Transition::Reopen | Transition::Pause | Transition::Resume | Transition::Cancel => {
                let jobs = std::slice::from_ref(&self.job);
                return !self.store.move_jobs(jobs, transition, None).await.unwrap().is_empty();
            }
        };
        let nothing = (Digest::of(b""), &Harvest::default());
        match self.store.end(&self.attempt().await, &end, nothing).await {
            Ok(()) => true,
            Err(StoreError::Fenced { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn from_every_state_the_database_does_what_the_function_says() {
    block_on(async {
        for from in JobState::ALL {
            for transition in Transition::ALL {
                let world = World::new(from).await;
                let done = world.apply(transition).await;
                let expected = from.after(transition);
                assert_eq!(
                    (done, world.state().await),
                    (expected.is_ok(), expected.unwrap_or(from)),
                    "{from:?} {transition:?}"
                );
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn along_any_way_it_stays_with_the_function_and_late_ends_change_nothing(
        steps in prop::collection::vec((0usize..Transition::ALL.len(), any::<bool>()), 1..30)
    ) {
        block_on(async {
            let world = World::new(JobState::Queued).await;
            let (mut state, mut late) = (JobState::Queued, None);
            for (number, stale) in steps {
                let transition = Transition::ALL[number];
                let done = world.apply(transition).await;
                prop_assert_eq!(done, state.after(transition).is_ok());
                state = state.after(transition).unwrap_or(state);
                // An attempt that was overtaken.
                let now = world.attempt().await;
                if let Some(old) = late.clone().filter(|old| stale && *old != now) {
                    let ended = world.store.end(&old, &AttemptEnd::Finished, (Digest::of(b""), &Harvest::default())).await;
                    let fenced = matches!(ended, Err(StoreError::Fenced { .. }));
                    prop_assert!(fenced);
                }
                prop_assert_eq!(world.state().await, state);
                if transition == Transition::Claim && done {
                    late = Some(world.attempt().await);
                }
            }
            Ok(())
        })?;
    }
}
