//! `[keep]`: which adapters stay on disk while a sweep runs.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::error::RunError;
use crate::job::{Bytes, CellKey, CellRank, JobId, JobState};
use crate::store::{BoardJob, Leaderboard, ScoresOf, Store, StoreError, StoredAdapter, StoredSweep};
use crate::sweep_file::{Keep, KeepAdapters};

/// A cell whose jobs are all done. One that failed keeps its adapter for another try.
#[derive(Debug, Clone, PartialEq)]
struct EndedCell {
    jobs: Vec<JobId>,
    /// Whether all of its jobs have a score of the objective.
    scored: bool,
}

/// Adapters to remove, with the reason.
#[derive(Debug, Clone, PartialEq)]
struct AdaptersToRemove {
    jobs: Vec<JobId>,
    why: String,
}

/// Applies `[keep]` to the results of a database.
pub struct Keeper<'a> {
    /// The database.
    pub store: &'a Store,
    /// Sweeps to which it is applied although none of their jobs are queued.
    pub sweeps: Vec<String>,
    /// The rules of sweeps by name, each with the text that was parsed: a file with many cells takes long.
    parsed: RefCell<HashMap<String, (StoredSweep, Keep)>>,
}

impl<'a> Keeper<'a> {
    /// One for a database; `sweeps`: to which it is applied although none of their jobs are queued.
    pub fn new(store: &'a Store, sweeps: Vec<String>) -> Self {
        Self { store, sweeps, parsed: RefCell::default() }
    }

    /// Removes the adapters that a sweep's `[keep]` does not keep. Returns the remaining size if it exceeds `max_disk` and no adapter may
    /// be removed. Errors: the database's.
    pub(super) async fn enforce(&self, sweep: &str, results: &Path) -> Result<Option<Bytes>, RunError> {
        let keep = self.rules(sweep).await?;
        if keep.adapters == KeepAdapters::All && keep.max_disk.is_none() {
            return Ok(None);
        }
        // Of several workers on a server, one at a time.
        let turn = self.store.turn().await?;
        self.store.refresh().await?;
        let kept = self.apply(&keep, sweep, results).await;
        turn.end().await;
        kept
    }

    async fn apply(&self, keep: &Keep, sweep: &str, results: &Path) -> Result<Option<Bytes>, RunError> {
        let store = self.store;
        let mut board = store.board(Some(sweep)).await?;
        if let Some((task, metric)) = board.objective.clone() {
            let metrics = [(task.clone(), metric)];
            store.read_scores(&mut board, ScoresOf { metrics: Some(&metrics), jobs: None }).await?;
        }
        let mut adapters = store.own_adapters(sweep).await?;
        let cells = ended_cells(&board);
        let to_remove = beyond_best(&cells, keep.adapters);
        self.remove(sweep, &to_remove, &mut adapters).await?;
        let Some(most) = keep.max_disk else { return Ok(None) };
        let trained = store.trained_subjects(sweep).await?;
        let (checkpoints, sizes): (u64, HashMap<JobId, u64>) = match store.artifacts().store() {
            None => (
                trained.iter().map(|subject| size(&results.join("checkpoints").join(subject))).sum(),
                adapters.iter().map(|adapter| (adapter.job.clone(), size(&adapter.folder))).collect(),
            ),
            Some(artifacts) => {
                let there = artifacts.sizes().await.map_err(StoreError::from)?;
                let of =
                    |sizes: &BTreeMap<String, u64>, subject: &str| sizes.get(subject).copied().unwrap_or(0);
                let size = |adapter: &StoredAdapter| of(&there.adapters, &adapter.subject);
                (
                    trained.iter().map(|subject| of(&there.checkpoints, subject)).sum(),
                    adapters.iter().map(|adapter| (adapter.job.clone(), size(adapter))).collect(),
                )
            }
        };
        let (to_remove, left) = beyond_disk(&cells, &sizes, checkpoints, most);
        self.remove(sweep, &to_remove, &mut adapters).await?;
        Ok((left > most).then_some(left))
    }

    /// The rules of a sweep's newest version. If its file can no longer be parsed, everything is kept.
    async fn rules(&self, sweep: &str) -> Result<Keep, RunError> {
        let mut stored = self.store.sweep(sweep).await;
        if matches!(stored, Err(StoreError::NoSweep { .. } | StoreError::Empty)) {
            // Another machine may have submitted it meanwhile.
            self.store.refresh().await?;
            stored = self.store.sweep(sweep).await;
        }
        let stored = match stored {
            Ok(stored) => stored,
            Err(StoreError::NoSweep { .. } | StoreError::Empty) => return Ok(Keep::default()),
            Err(error) => return Err(error.into()),
        };
        if let Some((_, keep)) = self.parsed.borrow().get(sweep).filter(|(parsed, _)| *parsed == stored) {
            return Ok(*keep);
        }
        let keep = stored.spec().map(|spec| spec.keep).unwrap_or_default();
        self.parsed.borrow_mut().insert(sweep.to_owned(), (stored, keep));
        Ok(keep)
    }

    async fn remove(
        &self,
        sweep: &str,
        to_remove: &[AdaptersToRemove],
        adapters: &mut Vec<StoredAdapter>,
    ) -> Result<(), RunError> {
        for AdaptersToRemove { jobs, why } in to_remove {
            let (gone, stay) =
                std::mem::take(adapters).into_iter().partition(|adapter| jobs.contains(&adapter.job));
            *adapters = stay;
            let gone: Vec<StoredAdapter> = gone;
            for adapter in self.store.note_removed(sweep, &gone, why).await? {
                tracing::info!("removed {}: {why}", adapter.folder.display());
                // Leftovers are found by `loragrid gc`.
                let _ = std::fs::remove_dir_all(&adapter.folder);
                if let Some(artifacts) = self.store.artifacts().store() {
                    let _ = artifacts.remove_adapter(&adapter.subject).await;
                }
            }
        }
        Ok(())
    }
}

/// The grid cells whose jobs are all done, best first, those without a value last.
fn ended_cells(board: &Leaderboard) -> Vec<EndedCell> {
    let mut cells: HashMap<CellKey, Vec<&BoardJob>> = HashMap::new();
    let mut order: Vec<CellKey> = Vec::new();
    for job in board.jobs.iter().filter(|job| job.is_cell()) {
        let key = CellKey::of(board.axes.iter().map(|path| (path.as_str(), job.settings.get(path))));
        if !cells.contains_key(&key) {
            order.push(key.clone());
        }
        cells.entry(key).or_default().push(job);
    }
    let in_plan = order.iter().filter_map(|key| cells.remove(key));
    let done = in_plan.filter(|jobs| jobs.iter().all(|job| job.state == JobState::Done));
    let mut ranked: Vec<(CellRank, EndedCell)> = done.map(|jobs| ended_cell(board, &jobs)).collect();
    ranked.sort_by(|(a, _), (b, _)| a.compare(b));
    ranked.into_iter().map(|(_, cell)| cell).collect()
}

fn ended_cell(board: &Leaderboard, jobs: &[&BoardJob]) -> (CellRank, EndedCell) {
    let scores = |ranked: bool| -> Vec<f64> {
        let Some((task, metric)) = &board.objective else { return Vec::new() };
        let of = |job: &&BoardJob| {
            if ranked { job.ranked_score(task, *metric) } else { job.score(task, *metric) }
                .map(|score| score.value)
        };
        jobs.iter().filter_map(of).collect()
    };
    let higher_is_better = board.objective.as_ref().is_some_and(|(_, metric)| metric.higher_is_better());
    let rank = CellRank::new(false, jobs.len(), &scores(true), higher_is_better);
    let scored = board.objective.is_some() && scores(false).len() == jobs.len();
    (rank, EndedCell { jobs: jobs.iter().map(|job| job.id.clone()).collect(), scored })
}

/// Adapters that `adapters` does not keep.
fn beyond_best(cells: &[EndedCell], adapters: KeepAdapters) -> Vec<AdaptersToRemove> {
    let (best, why) = match adapters {
        KeepAdapters::All => return Vec::new(),
        KeepAdapters::None => (0, "[keep] adapters = \"none\"".to_owned()),
        // Without scores there is no best.
        KeepAdapters::Best(_) if cells.iter().all(|cell| !cell.scored) => return Vec::new(),
        KeepAdapters::Best(n) => (n as usize, format!("[keep] adapters = \"best:{n}\"")),
    };
    let jobs: Vec<JobId> = cells.iter().skip(best).flat_map(|cell| cell.jobs.clone()).collect();
    if jobs.is_empty() { Vec::new() } else { vec![AdaptersToRemove { jobs, why }] }
}

/// Adapters to remove so that adapters and checkpoints fit, worst cells first and never the best; and the remaining size.
fn beyond_disk(
    cells: &[EndedCell],
    sizes: &HashMap<JobId, u64>,
    checkpoints: u64,
    most: Bytes,
) -> (Vec<AdaptersToRemove>, Bytes) {
    let mut left = checkpoints + sizes.values().sum::<u64>();
    let mut jobs = Vec::new();
    let scored = cells.iter().skip(1).filter(|cell| cell.scored);
    for cell in scored.rev() {
        if left <= most.0 {
            break;
        }
        left -= cell.jobs.iter().filter_map(|job| sizes.get(job)).sum::<u64>();
        jobs.extend(cell.jobs.clone());
    }
    let why = format!("[keep] max_disk = \"{most}\"");
    let to_remove = if jobs.is_empty() { Vec::new() } else { vec![AdaptersToRemove { jobs, why }] };
    (to_remove, Bytes(left))
}

/// Size of the files in a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Digest;

    fn id(name: &str) -> JobId {
        JobId::of(Digest::of(name.as_bytes()))
    }

    /// Cells of one job, the best first.
    fn cells(names: &[(&str, bool)]) -> Vec<EndedCell> {
        names.iter().map(|(name, scored)| EndedCell { jobs: vec![id(name)], scored: *scored }).collect()
    }

    fn jobs(to_remove: &[AdaptersToRemove]) -> Vec<JobId> {
        to_remove.iter().flat_map(|to_remove| to_remove.jobs.clone()).collect()
    }

    #[test]
    fn the_best_cells_stay_and_without_scores_every_one() {
        let ranked = cells(&[("a", true), ("b", true), ("c", true), ("d", false)]);
        assert_eq!(jobs(&beyond_best(&ranked, KeepAdapters::Best(2))), [id("c"), id("d")]);
        assert_eq!(jobs(&beyond_best(&ranked, KeepAdapters::Best(9))), []);
        assert_eq!(jobs(&beyond_best(&ranked, KeepAdapters::None)).len(), 4);
        assert_eq!(jobs(&beyond_best(&ranked, KeepAdapters::All)), []);
        assert_eq!(jobs(&beyond_best(&cells(&[("a", false), ("b", false)]), KeepAdapters::Best(1))), []);
    }

    #[test]
    fn the_worst_go_until_it_fits_and_the_best_never() {
        let ranked = cells(&[("a", true), ("b", true), ("c", true), ("d", false)]);
        let sizes = ["a", "b", "c", "d"].map(|name| (id(name), 10)).into();
        let of = |most| {
            let (to_remove, left) = beyond_disk(&ranked, &sizes, 5, Bytes(most));
            (jobs(&to_remove), left.0)
        };
        assert_eq!(of(45), (vec![], 45));
        assert_eq!(of(44), (vec![id("c")], 35));
        // Unscored cells are needed.
        assert_eq!(of(1), (vec![id("c"), id("b")], 25));
    }
}
