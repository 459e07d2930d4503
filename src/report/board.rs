//! The leaderboard.

use serde::Serialize;

use super::table::{Cell, Column, Table};
use crate::job::{JobState, Value};
use crate::stats::{mean, sample_deviation};
use crate::store::{BoardJob, BoardScore, Leaderboard};
use crate::task::Metric;

/// A row: the base model, or a cell of the grid with its seeds together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoardRow {
    /// `base`, or the values of the axes other than the seed.
    pub label: String,
    /// Whether it is the untrained model.
    pub base: bool,
    /// Whether another program scored it.
    pub imported: bool,
    /// The jobs of the row.
    pub jobs: Vec<String>,
    /// `done` if every job is, else the gravest state.
    pub state: JobState,
    /// Value of each axis but the seed.
    pub settings: std::collections::BTreeMap<String, Value>,
    /// Parameters of the adapter.
    pub trainable: u64,
    /// A score for each column.
    pub scores: Vec<BoardScoreCell>,
    /// Mean seconds of training.
    pub seconds: Option<f64>,
    /// Mean loss of the last window.
    pub last_loss: Option<f64>,
    /// Whether the loss of every job of the row fell by more than a tenth; none for the base.
    pub converged: Option<bool>,
    /// Why jobs of the row failed or diverged.
    pub reasons: Vec<String>,
    /// The best finished row by the objective, the base model and imported results aside.
    pub best: bool,
}

/// A score of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoardScoreCell {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// Mean over seeds; absent until every seed has it.
    pub value: Option<f64>,
    /// What `error` is.
    pub error_kind: ErrorKind,
    /// Standard deviation over seeds (n − 1) where there are several, else the task's standard error.
    pub error: Option<f64>,
    /// Seeds.
    pub seeds: usize,
    /// Documents of each.
    pub documents: Option<u64>,
}

/// What an uncertainty is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Standard error over documents.
    Documents,
    /// Standard deviation over seeds.
    Seeds,
}

/// The rows of a leaderboard: the base model first, then cells, best first by the objective; cells without its score
/// last, in the plan's order.
pub fn board_rows(board: &Leaderboard) -> Vec<BoardRow> {
    let columns = score_columns(board);
    let mut cells: Vec<Vec<&BoardJob>> = Vec::new();
    for job in &board.jobs {
        let same = |cell: &&mut Vec<&BoardJob>| {
            job.is_cell() && cell[0].is_cell() && cell_settings(board, cell[0]) == cell_settings(board, job)
        };
        match cells.iter_mut().find(same) {
            Some(cell) => cell.push(job),
            None => cells.push(vec![job]),
        }
    }
    let mut rows: Vec<BoardRow> = cells.iter().map(|cell| board_row(board, cell, &columns)).collect();
    let objective = board.objective.clone();
    let rank = |row: &BoardRow| {
        let (task, metric) = objective.as_ref()?;
        let score = row.scores.iter().find(|score| score.task == *task && score.metric == *metric)?;
        let value = score.value?;
        Some(if metric.higher_is_better() { -value } else { value })
    };
    rows.sort_by(|a, b| {
        let order = |row: &BoardRow| (rank(row).is_none(), rank(row).unwrap_or_default());
        b.base.cmp(&a.base).then(order(a).partial_cmp(&order(b)).unwrap_or(std::cmp::Ordering::Equal))
    });
    if let Some(best) = rows.iter_mut().find(|row| !row.base && !row.imported && rank(row).is_some()) {
        best.best = true;
    }
    rows
}

/// The metric columns: the first metric of each task, in the tasks' order.
fn score_columns(board: &Leaderboard) -> Vec<(String, Metric)> {
    let first = |task: &String| {
        let wanted = board.objective.as_ref().filter(|(name, _)| name == task).map(|(_, metric)| *metric);
        let found = board.jobs.iter().flat_map(|job| &job.scores).find(|score| score.task == *task);
        (task.clone(), wanted.or(found.map(|score| score.metric)).unwrap_or(Metric::Acc))
    };
    board.tasks.iter().map(first).collect()
}

fn cell_settings(board: &Leaderboard, job: &BoardJob) -> std::collections::BTreeMap<String, Value> {
    let axes = board.axes.iter().filter(|axis| *axis != "seed");
    axes.filter_map(|axis| Some((axis.clone(), job.settings.get(axis)?.clone()))).collect()
}

fn board_row(board: &Leaderboard, cell: &[&BoardJob], columns: &[(String, Metric)]) -> BoardRow {
    let first = cell[0];
    let label =
        first.label.split(' ').filter(|part| !part.starts_with("seed=")).collect::<Vec<_>>().join(" ");
    let label = match (first.imported, label.is_empty()) {
        (true, _) => format!("{} (imported)", first.label),
        (false, true) => board.sweep.clone(),
        (false, false) => label,
    };
    let state =
        cell.iter().map(|job| job.state).max_by_key(|state| gravity(*state)).unwrap_or(JobState::Queued);
    let seconds: Vec<f64> = cell.iter().filter_map(|job| job.seconds).collect();
    let losses: Vec<f64> = cell.iter().filter_map(|job| job.losses.map(|(_, last)| last)).collect();
    BoardRow {
        label,
        base: first.is_base,
        imported: first.imported,
        jobs: cell.iter().map(|job| job.id.to_string()).collect(),
        state,
        settings: if !first.is_cell() { Default::default() } else { cell_settings(board, first) },
        trainable: first.trainable,
        scores: columns.iter().map(|(task, metric)| score_cell(cell, task, *metric)).collect(),
        seconds: mean(&seconds),
        last_loss: mean(&losses),
        converged: cell.iter().filter_map(|job| job.converged).reduce(|all, own| all && own),
        reasons: cell.iter().filter_map(|job| job.reason.clone()).collect(),
        best: false,
    }
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

fn score_cell(cell: &[&BoardJob], task: &str, metric: Metric) -> BoardScoreCell {
    let find = |job: &&BoardJob| job.scores.iter().find(|s| s.task == task && s.metric == metric).cloned();
    let scores: Vec<BoardScore> = cell.iter().filter_map(find).collect();
    let values: Vec<f64> = scores.iter().map(|score| score.value).collect();
    let whole = scores.len() == cell.len();
    let (error_kind, error) = if cell.len() > 1 {
        (ErrorKind::Seeds, sample_deviation(&values))
    } else {
        (ErrorKind::Documents, scores.first().and_then(|score| score.stderr))
    };
    BoardScoreCell {
        task: task.to_owned(),
        metric,
        value: mean(&values).filter(|_| whole),
        error_kind,
        error: error.filter(|_| whole),
        seeds: cell.len(),
        documents: scores.first().map(|score| score.documents),
    }
}

/// The leaderboard as a table.
pub fn board_table(board: &Leaderboard, rows: &[BoardRow]) -> Table {
    let mut columns = vec![Column::text("run"), Column::number("trainable", None).weighing(4)];
    columns.extend(score_columns(board).into_iter().map(|(task, metric)| {
        let plain = metric == Metric::Acc;
        Column::number(if plain { task } else { format!("{task}:{}", metric.as_str()) }, None)
    }));
    columns.push(Column::number("loss", None).weighing(3));
    columns.push(Column::number("time", Some("s")).weighing(2));
    // Where every row is done the state says nothing.
    let told = rows.iter().any(|row| row.state != JobState::Done || row.converged == Some(false));
    columns.push(Column::text("state").weighing(if told { 5 } else { 1 }));
    let cells = |row: &BoardRow| {
        let mark = if row.best { " *" } else { "" };
        let mut cells = vec![Cell::Text(format!("{}{mark}", row.label))];
        cells.push(if row.base || row.imported { Cell::Missing } else { Cell::Count(row.trainable) });
        cells.extend(row.scores.iter().map(|score| match (score.value, score.error) {
            (Some(value), Some(error)) => Cell::Uncertain(value, error, 3),
            (value, _) => Cell::maybe_number(value, 3),
        }));
        cells.push(Cell::maybe_number(row.last_loss, 3));
        cells.push(Cell::maybe_number(row.seconds, 1));
        let doubt = if row.converged == Some(false) { ", not converged" } else { "" };
        cells.push(Cell::Text(format!("{}{doubt}", row.state.as_str())));
        cells
    };
    Table { columns, rows: rows.iter().map(cells).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobId;
    use crate::report::render_terminal;

    fn job(label: &str, rank: i64, seed: i64, value: Option<f64>) -> BoardJob {
        let score = |value| BoardScore {
            task: "t".into(),
            metric: Metric::Acc,
            value,
            stderr: Some(0.05),
            documents: 100,
        };
        BoardJob {
            id: JobId::from_store(format!("{label}-{seed}")),
            is_base: label == "base",
            imported: false,
            label: label.into(),
            state: if value.is_some() { JobState::Done } else { JobState::Failed },
            reason: value.is_none().then(|| "it broke".to_owned()),
            settings: [
                ("lora.rank".to_owned(), Value::Integer(rank)),
                ("seed".to_owned(), Value::Integer(seed)),
            ]
            .into(),
            trainable: 1000 * rank as u64,
            seconds: Some(10.0),
            losses: Some((2.0, 0.5)),
            converged: Some(true),
            scores: value.map(score).into_iter().collect(),
        }
    }

    fn board(jobs: Vec<BoardJob>) -> Leaderboard {
        Leaderboard {
            sweep: "s".into(),
            version: 1,
            axes: vec!["lora.rank".into(), "seed".into()],
            tasks: vec!["t".into()],
            objective: Some(("t".into(), Metric::Acc)),
            jobs,
        }
    }

    #[test]
    fn the_base_is_first_then_the_best_cell_and_a_failed_one_stays_last() {
        let board = board(vec![
            job("base", 0, 0, Some(0.9)),
            job("r=8 seed=1", 8, 1, None),
            job("r=16 seed=1", 16, 1, Some(0.2)),
            job("r=32 seed=1", 32, 1, Some(0.4)),
        ]);
        let rows = board_rows(&board);
        let labels: Vec<(&str, bool)> = rows.iter().map(|row| (row.label.as_str(), row.best)).collect();
        assert_eq!(labels, [("base", false), ("r=32", true), ("r=16", false), ("r=8", false)]);
        insta::assert_snapshot!(render_terminal(&board_table(&board, &rows), None));
    }

    #[test]
    fn seeds_of_a_cell_are_one_row_with_their_deviation() {
        let board = board(vec![job("r=8 seed=1", 8, 1, Some(0.2)), job("r=8 seed=2", 8, 2, Some(0.4))]);
        let rows = board_rows(&board);
        assert_eq!(rows.len(), 1);
        let score = &rows[0].scores[0];
        assert_eq!((score.error_kind, score.seeds), (ErrorKind::Seeds, 2));
        assert!(
            (score.value.unwrap() - 0.3).abs() < 1e-12
                && (score.error.unwrap() - 0.02f64.sqrt()).abs() < 1e-12
        );
    }

    #[test]
    fn a_cell_with_a_missing_seed_has_no_score_yet() {
        let board = board(vec![job("r=8 seed=1", 8, 1, Some(0.2)), job("r=8 seed=2", 8, 2, None)]);
        assert_eq!(board_rows(&board)[0].scores[0].value, None);
    }
}
