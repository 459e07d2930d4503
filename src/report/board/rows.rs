//! Rows: the jobs of a cell, and the order of cells.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::view::{BoardView, Sort};
use crate::job::{CellKey, CellRank, JobState, Value};
use crate::stats::{mean, sample_deviation};
use crate::store::{BoardJob, BoardScore, Leaderboard};
use crate::task::Metric;
use crate::task::MetricName;

/// A row: the base model, or a grid cell with its seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoardRow {
    /// `base`, or the values of the axes other than the seed.
    pub label: String,
    /// Whether it is an untrained model.
    pub base: bool,
    /// Whether another program scored it.
    pub imported: bool,
    /// The jobs of the row.
    pub jobs: Vec<String>,
    /// `done` if every job is, else the most severe state.
    pub state: JobState,
    /// Value of each key in which its jobs agree, among those that were read.
    pub settings: BTreeMap<String, Value>,
    /// Parameters of the adapter; none if its jobs differ.
    pub trainable: Option<u64>,
    /// One score per column.
    pub scores: Vec<BoardScoreCell>,
    /// Mean seconds of training.
    pub seconds: Option<f64>,
    /// Largest resident memory of an engine in bytes, the mean over jobs.
    pub peak_memory: Option<f64>,
    /// Mean loss of the last window.
    pub last_loss: Option<f64>,
    /// Whether the loss of every job in the row fell by more than a tenth; none for the base.
    pub converged: Option<bool>,
    /// Why jobs of the row failed, diverged or count as not converged.
    pub reasons: Vec<String>,
    /// The best finished row by the ranking metric, except the base model and imported results.
    pub best: bool,
    /// A row that is statistically tied with the best.
    pub tied: bool,
    /// Probability of its distance from the best by chance, after Holm's correction over all competing rows; none if it is not tested.
    pub p_holm: Option<f64>,
}

impl BoardRow {
    /// Its kind.
    pub fn kind(&self) -> RowKind {
        match (self.base, self.imported) {
            (true, _) => RowKind::Base,
            (_, true) => RowKind::Imported,
            _ => RowKind::Cell,
        }
    }

    /// Its score of a metric, if there is a column for it.
    pub fn score(&self, name: &MetricName) -> Option<&BoardScoreCell> {
        self.scores.iter().find(|score| score.metric == name.metric && score.task == name.task)
    }
}

/// Kinds of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// An untrained model.
    Base,
    /// Another program's results.
    Imported,
    /// Jobs of the grid.
    Cell,
}

/// A score of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoardScoreCell {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// Mean over the seeds that have it.
    pub value: Option<f64>,
    /// The kind of `error`.
    pub error_kind: ErrorKind,
    /// Standard deviation over seeds (n − 1) if there are several, else the task's standard error.
    pub error: Option<f64>,
    /// The value less the base model's on the same number of documents, the mean over its jobs; none for a base model.
    pub difference: Option<f64>,
    /// Seeds.
    pub seeds: usize,
    /// Seeds with a score.
    pub scored: usize,
    /// Documents per seed.
    pub documents: Option<u64>,
}

impl BoardScoreCell {
    /// Its value, if every seed has it and it is finite.
    pub fn whole(&self) -> Option<f64> {
        self.value.filter(|value| value.is_finite() && self.scored == self.seeds)
    }
}

/// Kinds of uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Standard error over documents.
    Documents,
    /// Standard deviation over seeds.
    Seeds,
    /// Standard deviation over the runs of a group.
    Runs,
}

/// Jobs with equal values of these keys grouped together, as positions in the board; base models and imported results are not grouped.
pub fn cells_of(board: &Leaderboard, keys: &[String]) -> Vec<Vec<usize>> {
    let mut places: HashMap<CellKey, usize> = HashMap::new();
    let mut cells: Vec<Vec<usize>> = Vec::new();
    for (at, job) in board.jobs.iter().enumerate() {
        if !job.is_cell() {
            cells.push(vec![at]);
            continue;
        }
        let name = CellKey::by(keys.iter().map(|key| (key.as_str(), job.settings.get(key))));
        let place = *places.entry(name).or_insert(cells.len());
        match cells.get_mut(place) {
            Some(cell) => cell.push(at),
            None => cells.push(vec![at]),
        }
    }
    cells
}

/// The cells in the view's order, untrained models first.
pub fn rank_cells(board: &Leaderboard, view: &BoardView, cells: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut keyed: Vec<(SortKey, Vec<usize>)> =
        cells.into_iter().map(|cell| (sort_key(board, view, &cell), cell)).collect();
    keyed.sort_by(|(a, _), (b, _)| a.order(b));
    keyed.into_iter().map(|(_, cell)| cell).collect()
}

/// The sort key of a cell.
enum SortKey {
    Number(CellRank),
    /// By a key in which its jobs may differ.
    Value {
        is_base: bool,
        value: Option<Value>,
    },
}

impl SortKey {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.compare(b),
            (Self::Value { is_base: a, value: x }, Self::Value { is_base: b, value: y }) => {
                b.cmp(a).then_with(|| match (x, y) {
                    (Some(x), Some(y)) => value_order(x, y),
                    (x, y) => x.is_none().cmp(&y.is_none()),
                })
            }
            // A view has only one sort key.
            (Self::Number(_), Self::Value { .. }) | (Self::Value { .. }, Self::Number(_)) => Ordering::Equal,
        }
    }
}

/// Numbers in numeric order, then strings.
pub(in crate::report) fn value_order(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.to_string().cmp(&b.to_string()),
    }
}

fn sort_key(board: &Leaderboard, view: &BoardView, cell: &[usize]) -> SortKey {
    let is_base = board.jobs[cell[0]].is_base;
    let number = |of: &dyn Fn(&BoardJob) -> Option<f64>| {
        let values: Vec<f64> = cell.iter().filter_map(|&at| of(&board.jobs[at])).collect();
        SortKey::Number(CellRank::new(is_base, cell.len(), &values, false))
    };
    match &view.sort {
        Sort::Rank => SortKey::Number(rank_of(board, view, cell)),
        Sort::Loss => number(&|job| Some(job.losses?.1)),
        Sort::Time => number(&|job| job.seconds),
        Sort::Memory => number(&|job| job.peak_memory.map(|bytes| bytes as f64)),
        Sort::Trainable => number(&|job| Some(job.trainable as f64)),
        Sort::Key(key) => {
            // A row whose jobs differ has no value.
            let value = board.jobs[cell[0]].settings.get(key);
            let agree = cell.iter().all(|&at| board.jobs[at].settings.get(key) == value);
            SortKey::Value { is_base, value: value.filter(|_| agree).cloned() }
        }
    }
}

/// The rank of a cell by the ranking metric.
fn rank_of(board: &Leaderboard, view: &BoardView, cell: &[usize]) -> CellRank {
    let is_base = board.jobs[cell[0]].is_base;
    let Some(MetricName { task, metric }) = &view.rank else {
        return CellRank::new(is_base, cell.len(), &[], false);
    };
    let scores = cell.iter().filter_map(|&at| Some(board.jobs[at].ranked_score(task, *metric)?.value));
    CellRank::new(is_base, cell.len(), &scores.collect::<Vec<f64>>(), metric.higher_is_better())
}

/// The cells that compete for the best by the ranking metric, with their rank: grid cells in which every seed has a score.
fn competing<'a>(
    board: &'a Leaderboard,
    view: &'a BoardView,
    cells: &'a [Vec<usize>],
) -> impl Iterator<Item = (CellRank, &'a Vec<usize>)> {
    let of_grid = cells.iter().filter(|cell| board.jobs[cell[0]].is_cell());
    of_grid.map(move |cell| (rank_of(board, view, cell), cell)).filter(|(rank, _)| rank.competes())
}

/// Number of cells that compete for the best by the ranking metric.
pub fn count_competing(board: &Leaderboard, view: &BoardView, cells: &[Vec<usize>]) -> usize {
    competing(board, view, cells).count()
}

/// The best cell by the ranking metric: a grid cell in which every seed has a score.
pub fn best_cell<'a>(
    board: &'a Leaderboard,
    view: &'a BoardView,
    cells: &'a [Vec<usize>],
) -> Option<&'a Vec<usize>> {
    // The first among equals.
    competing(board, view, cells).min_by(|(a, _), (b, _)| a.compare(b)).map(|(_, cell)| cell)
}

/// The rows of ranked cells, with the best one marked.
pub fn rows_of(board: &Leaderboard, view: &BoardView, cells: &[Vec<usize>]) -> Vec<BoardRow> {
    let bases: Vec<&BoardJob> = board.jobs.iter().filter(|job| job.is_base).collect();
    let mut rows: Vec<BoardRow> = cells.iter().map(|cell| row_of(board, view, cell, &bases)).collect();
    if let Some(best) =
        best_cell(board, view, cells).and_then(|best| cells.iter().position(|cell| cell == best))
    {
        rows[best].best = true;
    }
    rows
}

/// The row of a cell.
fn row_of(board: &Leaderboard, view: &BoardView, cell: &[usize], bases: &[&BoardJob]) -> BoardRow {
    let jobs: Vec<&BoardJob> = cell.iter().map(|&at| &board.jobs[at]).collect();
    let first = jobs[0];
    let losses: Vec<f64> = jobs.iter().filter_map(|job| job.losses.map(|(_, last)| last)).collect();
    let seconds: Vec<f64> = jobs.iter().filter_map(|job| job.seconds).collect();
    let memory: Vec<f64> = jobs.iter().filter_map(|job| job.peak_memory.map(|bytes| bytes as f64)).collect();
    let state = jobs.iter().map(|job| job.state).max_by_key(|state| gravity(*state));
    BoardRow {
        label: label(board, view, first),
        base: first.is_base,
        imported: first.imported,
        jobs: jobs.iter().map(|job| job.id.to_string()).collect(),
        state: state.unwrap_or(JobState::Queued),
        settings: common_settings(&jobs),
        trainable: jobs.iter().all(|job| job.trainable == first.trainable).then_some(first.trainable),
        scores: view.metrics.iter().map(|name| score_cell(&jobs, name, view.grouped, bases)).collect(),
        seconds: mean(&seconds),
        peak_memory: mean(&memory),
        last_loss: mean(&losses),
        converged: jobs.iter().filter_map(|job| job.converged).reduce(|all, converged| all && converged),
        reasons: jobs.iter().filter_map(|job| reason(job)).collect(),
        best: false,
        tied: false,
        p_holm: None,
    }
}

fn reason(job: &BoardJob) -> Option<String> {
    let doubt = || {
        let (first, last) = job.losses.filter(|_| job.converged == Some(false))?;
        Some(format!("not converged: loss {first:.3} in the first window, {last:.3} in the last"))
    };
    job.reason.clone().or_else(doubt)
}

fn label(board: &Leaderboard, view: &BoardView, job: &BoardJob) -> String {
    if job.imported {
        return format!("{} (imported)", job.label);
    }
    if view.grouped && job.is_cell() {
        let part = |key: &String| {
            let value =
                job.settings.get(key).map_or("–".to_owned(), |value| value.to_string().replace(' ', ""));
            format!("{}={value}", crate::job::short_name(key))
        };
        return view.keys.iter().map(part).collect::<Vec<_>>().join(" ");
    }
    let label = job.label.split(' ').filter(|part| !part.starts_with("seed=")).collect::<Vec<_>>().join(" ");
    if label.is_empty() { board.sweep.clone() } else { label }
}

/// The keys in which all jobs agree.
fn common_settings(jobs: &[&BoardJob]) -> BTreeMap<String, Value> {
    let mut common = jobs[0].settings.clone();
    for job in &jobs[1..] {
        common.retain(|key, value| job.settings.get(key) == Some(value));
    }
    common
}

fn gravity(state: JobState) -> u8 {
    match state {
        JobState::Done => 0,
        JobState::Queued => 1,
        JobState::Running => 2,
        JobState::Paused => 3,
        JobState::Cancelled => 4,
        JobState::Diverged => 5,
        JobState::Failed => 6,
    }
}

/// The untrained model of a grid job: the one of its dtype, if there are several.
pub(in crate::report) fn base_of<'a>(job: &BoardJob, bases: &[&'a BoardJob]) -> Option<&'a BoardJob> {
    let candidates = || bases.iter().filter(|base| base.model == job.model && job.is_cell());
    candidates().find(|base| base.dtype == job.dtype).or_else(|| candidates().next()).copied()
}

fn score_cell(jobs: &[&BoardJob], name: &MetricName, grouped: bool, bases: &[&BoardJob]) -> BoardScoreCell {
    let MetricName { task, metric } = name;
    let mut scores: Vec<&BoardScore> =
        jobs.iter().filter_map(|job| job.ranked_score(task, *metric)).collect();
    let scored = scores.len();
    // Unranked scores are shown if there are no others.
    if scores.is_empty() {
        scores = jobs.iter().filter_map(|job| job.score(task, *metric)).collect();
    }
    let values: Vec<f64> = scores.iter().map(|score| score.value).collect();
    let (error_kind, error) = match (jobs.len(), grouped) {
        (1, _) => (ErrorKind::Documents, scores.first().and_then(|score| score.stderr)),
        (_, false) => (ErrorKind::Seeds, sample_deviation(&values)),
        (_, true) => (ErrorKind::Runs, sample_deviation(&values)),
    };
    let value = mean(&values);
    let to_base = |job: &&BoardJob| {
        let (score, base) = (job.score(task, *metric)?, base_of(job, bases)?.score(task, *metric)?);
        (score.documents == base.documents).then_some(score.value - base.value)
    };
    let differences: Vec<f64> = jobs.iter().filter_map(to_base).collect();
    BoardScoreCell {
        task: task.clone(),
        metric: *metric,
        value,
        error_kind,
        error,
        difference: mean(&differences).filter(|_| differences.len() == scores.len()),
        seeds: jobs.len(),
        scored,
        documents: scores.first().map(|score| score.documents),
    }
}
