//! Sends what jobs did to outside trackers: during a run every few seconds, and by `export --to`. What one has received is noted in the
//! database; what a tracker that is down did not receive is sent later.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::error::WorkspaceError;
use crate::job::JobState;
use crate::queue::Owner;
use crate::store::{Database, Sent, Store, StoreError, StoredSweep, TrackedJob, TrackerPlace};
use crate::sweep_file::Track;
use crate::track::{Mlflow, TensorBoard, TrackError, TrackedPart, Tracker, Trackio};

/// Points of a part.
const POINTS: usize = 2000;
/// How often trackers are updated during a run.
const EVERY: Duration = Duration::from_secs(5);
/// How often sweeps that were submitted elsewhere are looked for, where nothing is tracked.
const REFRESH: Duration = Duration::from_secs(30);
/// How long a tracker that is down is left alone, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// How long the end of a run may take to send the rest.
const LAST: Duration = Duration::from_secs(20);

/// How far a tracker is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrackSummary {
    /// Jobs of which something was sent now.
    pub sent: usize,
    /// Jobs that there are.
    pub jobs: usize,
}

/// The trackers that a sweep file names. A folder starts at the sweep file.
pub fn trackers_of(sweep: &StoredSweep) -> Vec<Tracker> {
    let Some(Track { mlflow, tensorboard, trackio }) = sweep.spec().ok().and_then(|spec| spec.track) else {
        return Vec::new();
    };
    let variable = |name: &str| std::env::var(name).ok();
    let folder = sweep.origin.file.parent().unwrap_or(Path::new(""));
    let mut trackers = Vec::new();
    trackers.extend(mlflow.map(|uri| Tracker::Mlflow(Mlflow::new(&uri, &variable))));
    trackers.extend(tensorboard.map(|path| Tracker::TensorBoard(TensorBoard::new(&folder.join(path)))));
    trackers.extend(trackio.map(|project| Tracker::Trackio(Trackio::new(&project, &variable))));
    trackers
}

/// A tracker; calls to it run on threads that may block.
pub type SharedTracker = Arc<Mutex<Tracker>>;

/// Sends a tracker what it has not received yet of a sweep. Errors: no such sweep, the tracker's: what was sent by then is noted.
pub async fn track_sweep(
    store: &Store,
    sweep: &str,
    tracker: &SharedTracker,
) -> Result<TrackSummary, WorkspaceError> {
    let place = place_of(tracker);
    let jobs = store.tracked_jobs(sweep).await?;
    let mut known = store.sent_to(&place, sweep).await?;
    let mut summary = TrackSummary { sent: 0, jobs: jobs.len() };
    for job in jobs {
        let mut sent = known.remove(&job.job).unwrap_or_default();
        let mut is_new = false;
        while let Some(part) = next_part(store, sweep, (&job, &sent)).await? {
            let (last, ended) = (part.points.last().map(|point| point.step), part.end);
            let scores = if part.scores.is_empty() { sent.scores } else { job.scores };
            let sending = Arc::clone(tracker);
            // Trackers answer when they like, and files are synced.
            let answered = tokio::task::spawn_blocking(move || locked(&sending).send(&part));
            let run = match answered.await {
                Ok(answer) => answer.map_err(WorkspaceError::Track)?,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            };
            sent = Sent {
                run,
                step: last.unwrap_or(sent.step),
                scores,
                ended: ended.map_or(String::new(), |(state, _)| state.as_str().to_owned()),
            };
            store.note_sent(&place, sweep, (&job.job, &sent)).await?;
            is_new = true;
        }
        summary.sent += usize::from(is_new);
    }
    Ok(summary)
}

fn locked(tracker: &SharedTracker) -> MutexGuard<'_, Tracker> {
    // What a thread that panicked sent in part is sent again.
    tracker.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place_of(tracker: &SharedTracker) -> TrackerPlace {
    let tracker = locked(tracker);
    TrackerPlace { tracker: tracker.word(), target: tracker.target() }
}

/// What a tracker has not received of a job; none: it has everything.
async fn next_part(
    store: &Store,
    sweep: &str,
    (job, sent): (&TrackedJob, &Sent),
) -> Result<Option<TrackedPart>, StoreError> {
    let ended = job.ended_ms.filter(|_| !matches!(job.state, JobState::Queued | JobState::Running));
    let end = ended.map(|ended| (job.state, ended));
    let is_end_new = end.map_or("", |(state, _)| state.as_str()) != sent.ended;
    let is_known = !sent.run.is_empty() && job.step <= sent.step && job.scores <= sent.scores && !is_end_new;
    if is_known {
        return Ok(None);
    }
    let points = store.points_after(&job.job, sent.step, POINTS).await?;
    let is_last = points.last().map_or(sent.step, |point| point.step) >= job.step;
    let needs_job = sent.run.is_empty() || (is_last && job.scores > sent.scores);
    let stored = if needs_job { Some(store.job(job.job.as_str()).await?) } else { None };
    let settings = stored.iter().flat_map(|stored| &stored.settings);
    let settings: BTreeMap<String, String> =
        settings.map(|(key, (value, _))| (key.clone(), value.to_string())).collect();
    let scores = stored.iter().filter(|_| is_last).flat_map(|stored| &stored.scores);
    let scores = scores.map(|score| (format!("{}/{}", score.task, score.metric.as_str()), score.value));
    let part = TrackedPart {
        sweep: sweep.to_owned(),
        job: job.job.as_str().to_owned(),
        label: job.label.clone(),
        run: Some(sent.run.clone()).filter(|run| !run.is_empty()),
        settings,
        started_ms: job.started_ms,
        points,
        scores: scores.collect(),
        last_step: job.step,
        end: end.filter(|_| is_last),
    };
    Ok(Some(part))
}

/// Updates trackers beside a run, which never waits for one.
pub struct TrackLoop {
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl TrackLoop {
    /// Updates the trackers of the sweeps that run, until [`Self::finish`].
    pub fn start(db: &Database) -> Self {
        let (end, ended) = oneshot::channel();
        let db = db.clone();
        Self { end, task: tokio::spawn(async move { send_until(&db, ended).await }) }
    }

    /// Sends the rest within a limited time; what a user should know of trackers that are down.
    pub async fn finish(self) -> Vec<String> {
        // The task may have ended by itself, where no sweep has a tracker.
        let _ = self.end.send(());
        match tokio::time::timeout(LAST, self.task).await {
            Ok(sent) => sent.unwrap_or_default(),
            Err(_) => {
                vec!["trackers take long to answer: `loragrid export --to` sends what is missing".to_owned()]
            }
        }
    }
}

/// A tracker of a sweep, and when it is tried again if it was down.
struct TrackedSweep {
    sweep: String,
    tracker: SharedTracker,
    pause: Duration,
    next: Instant,
    trouble: Option<String>,
}

async fn send_until(db: &Database, mut ended: oneshot::Receiver<()>) -> Vec<String> {
    let Ok(store) = Store::open_existing(db).await else { return Vec::new() };
    let owner = Owner::this_process();
    let mut known: Vec<TrackedSweep> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let mut refreshed: Option<Instant> = None;
    loop {
        let is_last = tokio::time::timeout(EVERY, &mut ended).await.is_ok();
        // A database that is away is looked at the next time.
        if is_last || !known.is_empty() || refreshed.is_none_or(|at| at.elapsed() > REFRESH) {
            let _ = store.refresh().await;
            refreshed = Some(Instant::now());
        }
        for sweep in store.sweeps_of(&owner).await.unwrap_or_default() {
            if seen.contains(&sweep) {
                continue;
            }
            if let Ok(stored) = store.sweep(&sweep).await {
                known.extend(trackers_of(&stored).into_iter().map(|tracker| TrackedSweep {
                    sweep: sweep.clone(),
                    tracker: Arc::new(Mutex::new(tracker)),
                    pause: EVERY,
                    next: Instant::now(),
                    trouble: None,
                }));
            }
            seen.push(sweep);
        }
        for entry in &mut known {
            if is_last || entry.next <= Instant::now() {
                entry.send(&store).await;
            }
        }
        if is_last {
            store.close().await;
            return known.into_iter().filter_map(|entry| entry.trouble).collect();
        }
    }
}

impl TrackedSweep {
    async fn send(&mut self, store: &Store) {
        match track_sweep(store, &self.sweep, &self.tracker).await {
            Ok(_) => (self.pause, self.trouble) = (EVERY, None),
            Err(error) => {
                let word = place_of(&self.tracker).tracker;
                if self.trouble.is_none() {
                    tracing::warn!("{word}: {error}; what it misses is sent later");
                }
                self.trouble = Some(format!(
                    "{word} did not receive everything of sweep {0}: {error}; `loragrid export {0} --to {word}` sends the rest",
                    self.sweep
                ));
                self.pause = (2 * self.pause).min(LONGEST_PAUSE);
            }
        }
        self.next = Instant::now() + self.pause;
    }
}

/// Forgets what a tracker received, so that everything is sent again.
pub async fn forget_tracked(
    store: &Store,
    sweep: &str,
    tracker: &SharedTracker,
) -> Result<(), WorkspaceError> {
    Ok(store.forget_sent(&place_of(tracker), sweep).await?)
}

impl From<TrackError> for WorkspaceError {
    fn from(error: TrackError) -> Self {
        Self::Track(error)
    }
}
