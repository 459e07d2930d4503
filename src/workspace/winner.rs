//! The winner of a sweep by its objective, and its one look at the tasks of `[final]`.

use std::sync::Arc;

use super::WorkspaceEvent;
use super::boards::tested_rows;
use super::edit::{edited_sweep, was_set};
use super::error::WorkspaceError;
use super::open::Workspace;
use super::plan::Prepared;
use crate::job::{Digest, IdError, JobState, Origin, SEED, SweepName, Value, find_key};
use crate::report::{BoardRow, BoardView, RowKind};
use crate::store::{Leaderboard, Store, StoredJob, StoredSweep, SweepOrigin};
use crate::sweep_file::{Axis, FinalEval, SourceText, SweepSpec};
use crate::task::{MetricName, TaskIndex};

/// The best row of a sweep and those that the data cannot tell from it.
#[derive(Debug, Clone)]
pub struct Winner {
    /// The best row.
    pub best: BoardRow,
    /// The metric by which it is the best.
    pub metric: MetricName,
    /// Rows that the data cannot tell from it.
    pub ties: Vec<BoardRow>,
    /// The first row behind it.
    pub next: Option<BoardRow>,
    /// Jobs that may still come out better.
    pub waiting: usize,
}

/// The winner of a sweep whose board was read with every score. Errors: no objective, no row that has its score in every seed.
pub async fn winner(store: &Store, board: &Leaderboard) -> Result<Winner, WorkspaceError> {
    let view = BoardView::of(board);
    let metric = view.rank.clone().ok_or_else(|| WorkspaceError::NoObjective(board.sweep.clone()))?;
    let rows = tested_rows(store, board, &view).await?;
    let best = rows.iter().find(|row| row.best).cloned();
    let missing = || WorkspaceError::NoWinner { sweep: board.sweep.clone(), metric: metric.clone() };
    let best = best.ok_or_else(missing)?;
    let active = [JobState::Queued, JobState::Running, JobState::Paused];
    let waiting = board.jobs.iter().filter(|job| job.is_cell() && active.contains(&job.state)).count();
    let ties = rows.iter().filter(|row| row.tied).cloned().collect();
    let is_scored = |row: &BoardRow| row.score(&metric).is_some_and(|score| score.whole().is_some());
    let next = rows.into_iter().find(|row| row.kind() == RowKind::Cell && !row.best && is_scored(row));
    Ok(Winner { best, metric, ties, next, waiting })
}

impl Workspace {
    /// The winner's jobs and their base model on the tasks of `[final]`, as a sweep of their own. Errors: the sweep has none, the plan's.
    pub async fn prepare_final(
        &self,
        store: Store,
        sweep: &str,
        winner: &Winner,
        watch: &mut dyn FnMut(WorkspaceEvent),
    ) -> Result<Prepared, WorkspaceError> {
        let mut jobs = Vec::new();
        for id in &winner.best.jobs {
            jobs.push(store.job(id).await?);
        }
        let StoredSweep { text, origin, .. } = store.sweep(sweep).await?;
        let spec = SweepSpec::parse(SourceText::new(&origin.file, &text))?;
        let Some(FinalEval { eval }) = &spec.final_eval else {
            return Err(WorkspaceError::NoFinal(sweep.to_owned()));
        };
        let spec = final_sweep(&spec, final_name(sweep)?, &jobs, eval)?;
        let tasks = Arc::new(TaskIndex::with_folder(origin.include_path.as_deref())?);
        let (known, mut digests) = (store.known().await?, store.digests().await?);
        let mut plan = self.plan(&spec, &tasks, &known, &mut digests, watch)?;
        if self.pull_rows(plan.tasks.iter().map(|planned| &planned.task), watch)? {
            plan = self.plan(&spec, &tasks, &known, &mut digests, watch)?;
        }
        if !plan.blockers.is_empty() {
            return Err(WorkspaceError::Blocked(plan.blockers));
        }
        let origin = SweepOrigin { overrides: Vec::new(), ..origin }.pinned_for(&spec);
        Ok(Prepared { plan, origin, store: Some(store), digests, slurm: None, priority: None })
    }
}

/// `NAME-final`; of a name that leaves not shown that its beginning and a digest, so that no other sweep is meant.
fn final_name(sweep: &str) -> Result<SweepName, IdError> {
    let short = |_| {
        let digest = Digest::of(sweep.as_bytes()).to_string();
        SweepName::new(&format!("{sweep:.40}-{digest:.8}-final"))
    };
    SweepName::new(&format!("{sweep}-final")).or_else(short)
}

/// A sweep of the winner's seeds with other tasks. Nothing in it decides the training, so nothing is trained.
fn final_sweep(
    sweep: &SweepSpec,
    name: SweepName,
    jobs: &[StoredJob],
    eval: &[String],
) -> Result<SweepSpec, WorkspaceError> {
    let mut settings = was_set(&jobs[0], &["objective", "eval", "reference", SEED]);
    if let Some(key) = find_key("eval") {
        let names = eval.iter().map(|name| Value::from(name.as_str())).collect();
        settings.set(key, Value::List(names), Origin::CommandLine);
    }
    let seeds: Vec<Value> = jobs.iter().filter_map(|job| Some(job.settings.get(SEED)?.0.clone())).collect();
    let axis = |key| Axis { key, values: seeds.clone(), span: 0..0 };
    let axes = find_key(SEED).filter(|_| !seeds.is_empty()).map(axis).into_iter().collect();
    edited_sweep(
        sweep,
        SweepSpec { name, axes, final_eval: None, samples: None, settings, ..sweep.clone() },
        &[],
    )
}
