//! A sweep while it runs: what its slots do, what waits and why, how long it takes, its curves and its leaderboard.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::error::WorkspaceError;
use super::leaderboards::{BoardRequest, ShownBoard, shown_board};
use crate::job::{JobId, JobState, Seconds};
use crate::orders::JobOrder;
use crate::queue::{Owner, Queue};
use crate::store::{
    CurvePoint, OpenAttempt, RunSoFar, StatusCounts, Store, StoredUse, SweepStatus, UndoneJob,
};

/// Jobs that wait or failed and are listed.
const LISTED: usize = 100;
/// The part of a job that its training is taken for where the time left is estimated.
const TRAINING: f64 = 0.8;
/// Before so much of the run is done no time left is shown.
const FIRST_ESTIMATE: f64 = 0.01;
/// Scores of jobs that still run may be so old.
const BOARD_AGE: Duration = Duration::from_secs(10);
/// Bytes at the end of a log.
const TAIL: u64 = 16 << 10;

/// A sweep at a moment.
#[derive(Debug)]
pub struct LiveSweep {
    /// The sweep.
    pub sweep: String,
    /// Its jobs by state.
    pub counts: StatusCounts,
    /// Its jobs that run.
    pub running: Vec<RunningJob>,
    /// Slots of live workers, with what they use.
    pub slots: Vec<StoredUse>,
    /// Its first jobs that wait or ended without a result.
    pub undone: Vec<UndoneJob>,
    /// How long the workers have been at it.
    pub elapsed: Option<Seconds>,
    /// How long it will still take at this rate; none where that is not known yet.
    pub left: Option<Seconds>,
    /// Its leaderboard.
    pub board: Arc<ShownBoard>,
}

/// A job that runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunningJob {
    /// The job.
    pub job: JobId,
    /// As its sweep calls it.
    pub label: String,
    /// Host and process id of the worker.
    pub process: String,
    /// The worker, as [`StoredUse::owner`] names it.
    #[serde(skip)]
    pub owner: String,
    /// The slot's device.
    pub device: String,
    /// The attempt's number.
    pub attempt: i64,
    /// Milliseconds since 1970 when it started.
    pub started_ms: i64,
    /// Whether the worker exists; none where this machine cannot know.
    pub is_alive: Option<bool>,
    /// What it does.
    pub phase: Phase,
    /// Tokens per second of its training.
    pub tokens_per_second: Option<f64>,
    /// Its last loss.
    pub loss: Option<f64>,
    /// The log, relative to the folder of results.
    pub log: String,
}

/// What a running job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its engine starts or loads.
    Starting,
    /// It trains.
    Training {
        /// Optimizer steps made.
        step: u64,
        /// Steps of the training.
        of: u64,
    },
    /// It is scored.
    Scoring {
        /// Documents that are scored.
        documents: u64,
        /// Documents that are wanted.
        of: u64,
    },
    /// It is paused or cancelled, and its engine writes down where it is.
    Leaving,
}

impl Phase {
    /// The part that is done of a job that trains or does not.
    fn fraction(self, trains: bool) -> f64 {
        let part = |at: u64, of: u64| if of == 0 { 0.0 } else { (at as f64 / of as f64).min(1.0) };
        match self {
            Self::Starting | Self::Leaving => 0.0,
            Self::Training { step, of } => TRAINING * part(step, of),
            Self::Scoring { documents, of } if trains => TRAINING + (1.0 - TRAINING) * part(documents, of),
            Self::Scoring { documents, of } => part(documents, of),
        }
    }

    /// For people.
    pub fn words(self) -> String {
        match self {
            Self::Starting => "starting".to_owned(),
            Self::Training { step, of } => format!("step {step}/{of}"),
            Self::Scoring { documents, of } => format!("scored {documents}/{of} documents"),
            Self::Leaving => "stopping".to_owned(),
        }
    }
}

/// The last sweep submitted that has something queued or running, else the last one. Error: there is none.
pub async fn sweep_to_watch(store: &Store) -> Result<String, WorkspaceError> {
    let sweeps = store.status().await?;
    let is_active = |status: &&SweepStatus| {
        [JobState::Queued, JobState::Running].iter().any(|state| status.counts.contains_key(state))
    };
    match sweeps.iter().find(is_active).or(sweeps.first()) {
        Some(status) => Ok(status.name.clone()),
        None => Ok(store.last_sweep().await?),
    }
}

/// A sweep now, with the leaderboard of `remembered` unless it is too old for what is read. Errors: no such sweep, the database's.
pub async fn live_sweep(
    store: &Store,
    (sweep, rows): (&str, usize),
    remembered: &mut Option<RememberedBoard>,
) -> Result<LiveSweep, WorkspaceError> {
    let state = FileState::of(store);
    let counts = store.sweep_counts(sweep).await?;
    let open = store.open_attempts(sweep).await?;
    let ids: Vec<JobId> = open.iter().map(|attempt| attempt.job.clone()).collect();
    let orders: HashMap<JobId, JobOrder> =
        store.orders(&ids).await?.into_iter().map(|(order, _)| (order.id.clone(), order)).collect();
    let mut owners: Vec<&Owner> = open.iter().map(|attempt| &attempt.owner).collect();
    owners.dedup();
    let run = store.run_so_far(sweep, &owners).await?;
    let running: Vec<RunningJob> =
        open.iter().map(|attempt| running_job(attempt, orders.get(&attempt.job), sweep)).collect();
    let done: f64 = running
        .iter()
        .map(|job| {
            let trains = orders.get(&job.job).is_some_and(|order| order.config().is_some());
            job.phase.fraction(trains)
        })
        .sum();
    let (elapsed, left) = times(run, (done, running.len()), &counts, now_ms());
    let slots = store.slot_uses().await?;
    let is_undone = |state: &JobState| !matches!(state, JobState::Done | JobState::Running);
    let undone = match counts.keys().any(is_undone) {
        true => store.undone_jobs(sweep, LISTED).await?,
        false => Vec::new(),
    };
    let known = remembered.as_ref().filter(|known| known.is_fresh(rows, &counts, &state));
    let board = match known {
        Some(known) => Arc::clone(&known.board),
        None => {
            let request =
                BoardRequest { sweeps: vec![sweep.to_owned()], rows: Some(rows), ..BoardRequest::default() };
            let board = Arc::new(shown_board(store, &request).await?);
            let at = Instant::now();
            *remembered =
                Some(RememberedBoard { rows, counts: counts.clone(), state, at, board: Arc::clone(&board) });
            board
        }
    };
    Ok(LiveSweep { sweep: sweep.to_owned(), counts, running, slots, undone, elapsed, left, board })
}

/// A leaderboard that was read. A large one takes longer to read than everything else.
#[derive(Debug, Clone)]
pub struct RememberedBoard {
    rows: usize,
    counts: StatusCounts,
    state: FileState,
    at: Instant,
    board: Arc<ShownBoard>,
}

impl RememberedBoard {
    /// Whether nothing was written since, or only within jobs that still run, and not long ago.
    fn is_fresh(&self, rows: usize, counts: &StatusCounts, state: &FileState) -> bool {
        let is_recent = self.at.elapsed() < BOARD_AGE && self.counts == *counts;
        self.rows == rows && (self.state == *state || is_recent)
    }
}

/// What changes when a database is written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileState([Option<(u64, SystemTime)>; 2]);

impl FileState {
    fn of(store: &Store) -> Self {
        let mut log = store.path().as_os_str().to_owned();
        log.push("-wal");
        let state = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        };
        Self([state(store.path()), state(Path::new(&log))])
    }
}

impl LiveSweep {
    /// The jobs whose curves are shown: those that run, then the first jobs of the best rows, at most so many.
    pub fn curve_jobs(&self, most: usize) -> Vec<(JobId, String)> {
        let running = self.running.iter().map(|job| (job.job.clone(), job.label.clone()));
        let best = self.board.rows.iter().filter(|row| !row.base && !row.imported).filter_map(|row| {
            let job = self
                .board
                .board
                .jobs
                .iter()
                .find(|job| Some(job.id.as_str()) == row.jobs.first().map(String::as_str));
            Some((job?.id.clone(), row.label.clone()))
        });
        let mut jobs: Vec<(JobId, String)> = Vec::new();
        for (job, label) in running.chain(best) {
            if jobs.len() < most && !jobs.iter().any(|(known, _)| *known == job) {
                jobs.push((job, label));
            }
        }
        jobs
    }
}

/// A curve with at most so many points: every n-th, and the last.
pub fn thinned(points: &[CurvePoint], most: usize) -> Vec<CurvePoint> {
    let step = points.len().div_ceil(most.max(1)).max(1);
    let last = points.len().saturating_sub(1);
    points
        .iter()
        .enumerate()
        .filter(|(at, _)| at % step == 0 || *at == last)
        .map(|(_, point)| *point)
        .collect()
}

/// The last lines of a log below the folder of results; empty where there is none.
pub fn log_tail(store: &Store, log: &str, lines: usize) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(store.results().join(log))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    // The first line may have been cut.
    let first = usize::from(bytes.len() as u64 >= TAIL).max(all.len().saturating_sub(lines));
    all.into_iter().skip(first).map(str::to_owned).collect()
}

fn running_job(attempt: &OpenAttempt, order: Option<&JobOrder>, sweep: &str) -> RunningJob {
    let label = order.and_then(|order| order.sweeps.get(sweep)).map(|wants| wants.label.clone());
    let steps = order.and_then(JobOrder::config).map(|config| config.train.steps());
    let documents = order.map_or(0, |order| order.tasks().map(|task| task.count).sum());
    let phase = match (attempt.state, steps) {
        (state, _) if state != JobState::Running => Phase::Leaving,
        (_, Some(of)) if !attempt.is_trained => match attempt.steps {
            0 => Phase::Starting,
            step => Phase::Training { step: step as u64, of },
        },
        (_, None) if attempt.documents == 0 => Phase::Starting,
        _ => Phase::Scoring { documents: attempt.documents as u64, of: documents },
    };
    let rate = attempt.tokens as f64 / attempt.seconds;
    RunningJob {
        job: attempt.job.clone(),
        label: label.unwrap_or_else(|| attempt.job.short().to_owned()),
        process: attempt.owner.process(),
        owner: attempt.owner.as_str().to_owned(),
        device: attempt.device.clone(),
        attempt: attempt.attempt,
        started_ms: attempt.started_ms,
        is_alive: attempt.owner.liveness(),
        phase,
        tokens_per_second: Some(rate).filter(|rate| rate.is_finite() && *rate > 0.0),
        loss: attempt.loss,
        log: attempt.log.clone(),
    }
}

/// How long the workers have been at a sweep, and how long it will take them at the rate so far.
fn times(
    run: RunSoFar,
    (part, running): (f64, usize),
    counts: &StatusCounts,
    now_ms: i64,
) -> (Option<Seconds>, Option<Seconds>) {
    if running == 0 || run.started_ms == 0 {
        return (None, None);
    }
    let elapsed = (now_ms - run.started_ms).max(0) as f64 / 1000.0;
    let queued = counts.get(&JobState::Queued).copied().unwrap_or_default() as f64;
    let done = run.finished as f64 + part;
    let all = run.finished as f64 + running as f64 + queued;
    let left = (done >= FIRST_ESTIMATE * all).then(|| Seconds(elapsed * (all - done) / done));
    (Some(Seconds(elapsed)), left)
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_what_the_workers_have_done() {
        let counts =
            StatusCounts::from([(JobState::Queued, 5), (JobState::Running, 2), (JobState::Done, 40)]);
        let run = RunSoFar { started_ms: 1_000, finished: 2 };
        // Two finished and two halves of nine in thirty seconds.
        let (elapsed, left) = times(run, (1.0, 2), &counts, 31_000);
        assert_eq!((elapsed, left), (Some(Seconds(30.0)), Some(Seconds(60.0))));
        assert_eq!(times(run, (0.0, 0), &counts, 31_000), (None, None), "nothing runs");
        let fresh = RunSoFar { started_ms: 1_000, finished: 0 };
        assert_eq!(times(fresh, (0.0, 1), &counts, 31_000), (Some(Seconds(30.0)), None));
    }

    #[test]
    fn a_phase_is_a_part_of_its_job() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(Phase::Training { step: 5, of: 10 }.fraction(true), 0.4));
        assert!(near(Phase::Scoring { documents: 5, of: 10 }.fraction(true), 0.9));
        assert!(near(Phase::Scoring { documents: 5, of: 10 }.fraction(false), 0.5));
        assert!(near(Phase::Scoring { documents: 9, of: 0 }.fraction(false), 0.0));
    }

    #[test]
    fn a_thinned_curve_keeps_its_ends() {
        let point =
            |step| CurvePoint { step, loss: None, validation_loss: None, learning_rate: 0.0, seconds: 0.0 };
        let points: Vec<CurvePoint> = (0..1000).map(point).collect();
        let thin = thinned(&points, 100);
        assert!(thin.len() <= 101 && thin[0].step == 0 && thin[thin.len() - 1].step == 999);
        assert!(thinned(&[], 10).is_empty() && thinned(&points[..3], 10).len() == 3);
    }
}
