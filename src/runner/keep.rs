//! `[keep]`: which adapters stay on disk while a sweep runs.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::error::RunError;
use crate::job::real::for_ranking;
use crate::job::{Bytes, JobId, JobState};
use crate::store::{Leaderboard, ScoresOf, Store, StoreError, StoredAdapter};
use crate::sweep_file::{Keep, KeepAdapters};

/// A cell whose jobs are all done. One that failed keeps its adapter for another try.
#[derive(Debug, Clone, PartialEq)]
struct EndedCell {
    jobs: Vec<JobId>,
    /// Mean of the objective over its jobs, signed so that larger is better; none where a job has no score.
    value: Option<f64>,
}

/// Adapters that go, with why.
#[derive(Debug, Clone, PartialEq)]
struct Leaving {
    jobs: Vec<JobId>,
    why: String,
}

/// Looks after `[keep]` in the results of a database.
pub struct Keeper<'a> {
    /// The database.
    pub store: &'a Store,
    /// Sweeps that are looked after although nothing of them is queued.
    pub sweeps: Vec<String>,
}

impl Keeper<'_> {
    /// Removes the adapters that a sweep's `[keep]` does not let stay. What is left when nothing more may go, if it is more than
    /// `max_disk`. Errors: the database's.
    pub(super) async fn enforce(&self, sweep: &str, results: &Path) -> Result<Option<Bytes>, RunError> {
        let keep = self.rules(sweep).await?;
        if keep.adapters == KeepAdapters::All && keep.max_disk.is_none() {
            return Ok(None);
        }
        let store = self.store;
        let mut board = store.board(Some(sweep)).await?;
        if let Some((task, metric)) = board.objective.clone() {
            let metrics = [(task.clone(), metric)];
            store.read_scores(&mut board, ScoresOf { metrics: Some(&metrics), jobs: None }).await?;
        }
        let mut adapters = store.own_adapters(sweep).await?;
        let cells = ended_cells(&board);
        let leaving = beyond_best(&cells, keep.adapters);
        self.remove(sweep, &leaving, &mut adapters).await?;
        let Some(most) = keep.max_disk else { return Ok(None) };
        let checkpoints: u64 = store
            .trained_subjects(sweep)
            .await?
            .iter()
            .map(|subject| size(&results.join("checkpoints").join(subject)))
            .sum();
        let sizes: HashMap<JobId, u64> =
            adapters.iter().map(|adapter| (adapter.job.clone(), size(&adapter.folder))).collect();
        let (leaving, left) = beyond_disk(&cells, &sizes, checkpoints, most);
        self.remove(sweep, &leaving, &mut adapters).await?;
        Ok((left > most).then_some(left))
    }

    /// The rules of a sweep's newest version. Of a file that is not understood any more everything stays.
    async fn rules(&self, sweep: &str) -> Result<Keep, RunError> {
        let stored = match self.store.sweep(sweep).await {
            Ok(stored) => stored,
            Err(StoreError::NoSweep { .. } | StoreError::Empty) => return Ok(Keep::default()),
            Err(error) => return Err(error.into()),
        };
        Ok(stored.spec().map(|spec| spec.keep).unwrap_or_default())
    }

    async fn remove(
        &self,
        sweep: &str,
        leaving: &[Leaving],
        adapters: &mut Vec<StoredAdapter>,
    ) -> Result<(), RunError> {
        for Leaving { jobs, why } in leaving {
            let (gone, stay) =
                std::mem::take(adapters).into_iter().partition(|adapter| jobs.contains(&adapter.job));
            *adapters = stay;
            let gone: Vec<StoredAdapter> = gone;
            for adapter in self.store.note_removed(sweep, &gone, why).await? {
                tracing::info!("removed {}: {why}", adapter.folder.display());
                // What cannot be removed is found by `loragrid gc`.
                let _ = std::fs::remove_dir_all(&adapter.folder);
            }
        }
        Ok(())
    }
}

/// The cells of the grid whose jobs are all done, the best first, those without a value last.
fn ended_cells(board: &Leaderboard) -> Vec<EndedCell> {
    let mut cells: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, job) in board.jobs.iter().enumerate().filter(|(_, job)| job.is_cell()) {
        let axes = board.axes.iter().filter(|path| *path != "seed");
        let key: Vec<String> = axes.map(|path| format!("{:?}", job.settings.get(path))).collect();
        cells.entry(key.join(" ")).or_default().push(at);
    }
    let ended = |jobs: Vec<usize>| {
        let mut values = Vec::new();
        for &at in &jobs {
            let job = &board.jobs[at];
            if job.state != JobState::Done {
                return None;
            }
            values.push(board.objective.as_ref().and_then(|(task, metric)| {
                let sign = if metric.higher_is_better() { 1.0 } else { -1.0 };
                job.score(task, *metric).map(|score| sign * score.value)
            }));
        }
        let value = values.iter().copied().sum::<Option<f64>>().map(|sum| sum / values.len() as f64);
        Some(EndedCell { jobs: jobs.iter().map(|&at| board.jobs[at].id.clone()).collect(), value })
    };
    let mut cells: Vec<Vec<usize>> = cells.into_values().collect();
    cells.sort_unstable();
    let mut cells: Vec<EndedCell> = cells.into_iter().filter_map(ended).collect();
    // Finite values only are ranked; ties stay in the plan's order.
    let rank = |cell: &EndedCell| cell.value.filter(|value| value.is_finite()).unwrap_or(f64::NEG_INFINITY);
    cells.sort_by(|a, b| for_ranking(rank(b)).total_cmp(&for_ranking(rank(a))));
    cells
}

/// What `adapters` does not let stay.
fn beyond_best(cells: &[EndedCell], adapters: KeepAdapters) -> Vec<Leaving> {
    let (best, why) = match adapters {
        KeepAdapters::All => return Vec::new(),
        KeepAdapters::None => (0, "[keep] adapters = \"none\"".to_owned()),
        // Without a value there is no best.
        KeepAdapters::Best(_) if cells.iter().all(|cell| cell.value.is_none()) => return Vec::new(),
        KeepAdapters::Best(n) => (n as usize, format!("[keep] adapters = \"best:{n}\"")),
    };
    let jobs: Vec<JobId> = cells.iter().skip(best).flat_map(|cell| cell.jobs.clone()).collect();
    if jobs.is_empty() { Vec::new() } else { vec![Leaving { jobs, why }] }
}

/// What has to go so that adapters and checkpoints fit, the worst cells first and never the best; and what is left then.
fn beyond_disk(
    cells: &[EndedCell],
    sizes: &HashMap<JobId, u64>,
    checkpoints: u64,
    most: Bytes,
) -> (Vec<Leaving>, Bytes) {
    let mut left = checkpoints + sizes.values().sum::<u64>();
    let mut jobs = Vec::new();
    let scored = cells.iter().skip(1).filter(|cell| cell.value.is_some());
    for cell in scored.rev() {
        if left <= most.0 {
            break;
        }
        left -= cell.jobs.iter().filter_map(|job| sizes.get(job)).sum::<u64>();
        jobs.extend(cell.jobs.clone());
    }
    let why = format!("[keep] max_disk = \"{most}\"");
    let leaving = if jobs.is_empty() { Vec::new() } else { vec![Leaving { jobs, why }] };
    (leaving, Bytes(left))
}

/// Bytes of the files of a folder.
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
    fn cells(values: &[(&str, Option<f64>)]) -> Vec<EndedCell> {
        values.iter().map(|(name, value)| EndedCell { jobs: vec![id(name)], value: *value }).collect()
    }

    fn jobs(leaving: &[Leaving]) -> Vec<JobId> {
        leaving.iter().flat_map(|leaving| leaving.jobs.clone()).collect()
    }

    #[test]
    fn the_best_cells_stay_and_without_scores_every_one() {
        let ranked = cells(&[("a", Some(0.9)), ("b", Some(0.5)), ("c", Some(0.4)), ("d", None)]);
        assert_eq!(jobs(&beyond_best(&ranked, KeepAdapters::Best(2))), [id("c"), id("d")]);
        assert_eq!(jobs(&beyond_best(&ranked, KeepAdapters::Best(9))), []);
        assert_eq!(jobs(&beyond_best(&ranked, KeepAdapters::None)).len(), 4);
        assert_eq!(jobs(&beyond_best(&ranked, KeepAdapters::All)), []);
        assert_eq!(jobs(&beyond_best(&cells(&[("a", None), ("b", None)]), KeepAdapters::Best(1))), []);
    }

    #[test]
    fn the_worst_go_until_it_fits_and_the_best_never() {
        let ranked = cells(&[("a", Some(0.9)), ("b", Some(0.5)), ("c", Some(0.4)), ("d", None)]);
        let sizes = ["a", "b", "c", "d"].map(|name| (id(name), 10)).into();
        let of = |most| {
            let (leaving, left) = beyond_disk(&ranked, &sizes, 5, Bytes(most));
            (jobs(&leaving), left.0)
        };
        assert_eq!(of(45), (vec![], 45));
        assert_eq!(of(44), (vec![id("c")], 35));
        // What is not scored yet is needed.
        assert_eq!(of(1), (vec![id("c"), id("b")], 25));
    }
}
