//! Which axis of a sweep mattered.

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;

use super::board::{BoardRow, BoardView, MetricName, RowKind, UnknownMetric, cells_of, rows_of};
use super::table::{Cell, Column, Table};
use crate::job::Value;
use crate::stats::{AxisEffect, Factorial, LevelEffect, importance};
use crate::store::Leaderboard;
use crate::task::Metric;

/// Why there are no effects.
#[derive(Debug, Error)]
pub enum EffectsError {
    /// The sweep does not score that.
    #[error(transparent)]
    NoMetric(#[from] UnknownMetric),
    /// Fewer than two cells have a score.
    #[error("fewer than two cells of the sweep have a score of {metric}")]
    TooFew {
        /// What was asked for.
        metric: String,
    },
}

/// What the axes of a sweep do to one metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effects {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// Cells that have a score, and all of them.
    pub cells: (usize, usize),
    /// Whether every combination of the axes' values is there.
    pub complete: bool,
    /// The axes, the most important first.
    pub axes: Vec<AxisRow>,
    /// Pairs of axes, by what they explain beyond each of them.
    pub pairs: Vec<(String, String, f64)>,
    /// What nothing of this explains.
    pub rest: f64,
}

/// What one axis does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AxisRow {
    /// Its name; several where they vary together.
    pub axes: Vec<String>,
    /// Part of the variance of the cells' means, 0 to 1.
    pub importance: f64,
    /// Each value, the mean of its cells, and their number; of a grid with holes the mean is that of the least squares.
    pub levels: Vec<(String, f64, usize)>,
    /// The value with the best mean, or several that share it; none where there is one value, and where all are alike.
    pub best: Option<String>,
}

/// The metric whose effects are asked for: the objective where none is named. Error: the sweep does not score it.
pub fn effects_metric(board: &Leaderboard, wanted: Option<&str>) -> Result<MetricName, UnknownMetric> {
    match (wanted, &board.objective) {
        (Some(wanted), _) => board.metric_named(wanted),
        (None, Some((task, metric))) => Ok(MetricName::new(task, *metric)),
        (None, None) => board.metric_named("any task"),
    }
}

/// Splits the variance of a metric over the axes of a sweep; seeds are replicates. Errors: see [`EffectsError`].
pub fn axis_effects(board: &Leaderboard, wanted: Option<&str>) -> Result<Effects, EffectsError> {
    let name = effects_metric(board, wanted)?;
    let mut view = BoardView::of(board);
    view.metrics = vec![name.clone()];
    let rows: Vec<BoardRow> = rows_of(board, &view, &cells_of(board, &view.keys));
    let rows: Vec<BoardRow> = rows.into_iter().filter(|row| row.kind() == RowKind::Cell).collect();
    let score = |row: &BoardRow| row.score(&name)?.whole();
    let axes: Vec<String> = board.axes.iter().filter(|axis| *axis != "seed").cloned().collect();
    let mut values: Vec<Vec<Value>> = vec![Vec::new(); axes.len()];
    let mut cells = Vec::new();
    for row in &rows {
        let Some(value) = score(row) else { continue };
        let level = |(axis, known): (&String, &mut Vec<Value>)| {
            let own = row.settings.get(axis).cloned().unwrap_or(Value::Bool(false));
            known.iter().position(|other| *other == own).unwrap_or_else(|| {
                known.push(own);
                known.len() - 1
            })
        };
        cells.push((axes.iter().zip(&mut values).map(level).collect(), value));
    }
    let count = (cells.len(), rows.len());
    let found = importance(&Factorial { axes: axes.clone(), cells });
    let found = found.ok_or_else(|| EffectsError::TooFew { metric: name.to_string() })?;
    let MetricName { task, metric } = name;
    let of_axis: BTreeMap<&String, &Vec<Value>> = axes.iter().zip(&values).collect();
    let row = |effect: AxisEffect| {
        let shown = |own: &LevelEffect| {
            let names =
                effect.axes.iter().zip(&own.levels).map(|(axis, level)| of_axis[axis][*level].to_string());
            names.collect::<Vec<_>>().join(" + ")
        };
        AxisRow {
            best: best_levels(&effect, metric)
                .map(|own| own.into_iter().map(shown).collect::<Vec<_>>().join(" or ")),
            levels: effect.levels.iter().map(|own| (shown(own), own.mean, own.cells)).collect(),
            importance: effect.importance,
            axes: effect.axes.clone(),
        }
    };
    Ok(Effects {
        task,
        metric,
        cells: count,
        complete: found.complete,
        axes: found.axes.into_iter().map(row).collect(),
        pairs: found.pairs,
        rest: found.rest,
    })
}

/// The levels with the best mean; none where all are alike.
fn best_levels(effect: &AxisEffect, metric: Metric) -> Option<Vec<&LevelEffect>> {
    let sign = if metric.higher_is_better() { 1.0 } else { -1.0 };
    let best = effect.levels.iter().map(|own| sign * own.mean).max_by(f64::total_cmp)?;
    // Means of the same numbers in another order differ in their last digits.
    let is_best = |own: &&LevelEffect| best - sign * own.mean <= 1e-12 * best.abs();
    let found: Vec<&LevelEffect> = effect.levels.iter().filter(is_best).collect();
    (found.len() < effect.levels.len()).then_some(found)
}

/// The axes and pairs, as a table.
pub fn effects_table(effects: &Effects) -> Table {
    let columns = vec![
        Column::text("axis"),
        Column::number("importance", Some("%")),
        Column::text("best"),
        Column::number("values", None).weighing(1),
    ];
    let percent = |part: f64| Cell::Number(100.0 * part, 1);
    let mut rows: Vec<Vec<Cell>> = effects
        .axes
        .iter()
        .map(|axis| {
            vec![
                Cell::Text(axis.axes.join(" + ")),
                percent(axis.importance),
                axis.best.clone().map_or(Cell::Missing, Cell::Text),
                Cell::Count(axis.levels.len() as u64),
            ]
        })
        .collect();
    rows.extend(effects.pairs.iter().map(|(a, b, part)| {
        vec![Cell::Text(format!("{a} × {b}")), percent(*part), Cell::Missing, Cell::Missing]
    }));
    rows.push(vec![Cell::Text("the rest".to_owned()), percent(effects.rest), Cell::Missing, Cell::Missing]);
    Table { columns, rows }
}

/// Each value of each axis, as a table.
pub fn levels_table(effects: &Effects) -> Table {
    let columns = vec![
        Column::text("axis"),
        Column::text("value"),
        Column::number("mean", None),
        Column::number("cells", None).weighing(1),
    ];
    let of_axis = |axis: &AxisRow| {
        let name = axis.axes.join(" + ");
        let levels = axis.levels.clone().into_iter();
        levels.map(move |(value, mean, cells)| {
            vec![
                Cell::Text(name.clone()),
                Cell::Text(value),
                Cell::Number(mean, 3),
                Cell::Count(cells as u64),
            ]
        })
    };
    Table {
        columns,
        rows: effects.axes.iter().filter(|axis| axis.levels.len() > 1).flat_map(of_axis).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobId, JobState};
    use crate::report::render_terminal;
    use crate::store::{BoardJob, BoardScore};

    fn board(scores: &[(i64, &str, i64, f64)]) -> Leaderboard {
        let job = |(rank, optimizer, seed, value): &(i64, &str, i64, f64)| BoardJob {
            id: JobId::from_store(format!("{rank}{optimizer}{seed}")),
            is_base: false,
            imported: false,
            label: format!("r={rank} {optimizer} seed={seed}"),
            model: String::new(),
            dtype: "fp32".into(),
            state: JobState::Done,
            reason: None,
            settings: [
                ("lora.rank".to_owned(), Value::Integer(*rank)),
                ("train.optimizer".to_owned(), Value::Text((*optimizer).to_owned())),
                ("seed".to_owned(), Value::Integer(*seed)),
            ]
            .into(),
            trainable: 1,
            seconds: None,
            work: Default::default(),
            peak_memory: None,
            losses: None,
            converged: None,
            scores: vec![BoardScore {
                task: "t".into(),
                metric: Metric::Acc,
                value: *value,
                stderr: None,
                documents: 10,
            }],
        };
        Leaderboard {
            sweep: "s".into(),
            version: 1,
            axes: vec!["lora.rank".into(), "train.optimizer".into(), "seed".into()],
            tasks: vec!["t".into()],
            metrics: vec![("t".into(), vec![Metric::Acc])],
            groups: Vec::new(),
            objective: Some(("t".into(), Metric::Acc)),
            jobs: scores.iter().map(job).collect(),
        }
    }

    #[test]
    fn the_axis_that_moves_the_score_comes_first_and_seeds_are_averaged() {
        let board = board(&[
            (8, "adamw", 1, 0.2),
            (8, "adamw", 2, 0.4),
            (8, "sgd", 1, 0.1),
            (16, "adamw", 1, 0.6),
            (16, "sgd", 1, 0.4),
        ]);
        let effects = axis_effects(&board, None).unwrap();
        assert_eq!((effects.cells, effects.complete), ((4, 4), true));
        assert_eq!(effects.axes[0].axes, ["lora.rank"]);
        assert_eq!(effects.axes[0].best.as_deref(), Some("16"));
        let text = format!(
            "{}\n{}",
            render_terminal(&effects_table(&effects), Some(80)),
            render_terminal(&levels_table(&effects), Some(80))
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_metric_that_is_not_scored_and_one_cell_alone_are_errors() {
        let board = board(&[(8, "adamw", 1, 0.2)]);
        assert_eq!(
            axis_effects(&board, Some("u")).unwrap_err().to_string(),
            "the sweep has no scores of 'u'"
        );
        assert!(matches!(axis_effects(&board, Some("t:acc")), Err(EffectsError::TooFew { .. })));
    }
}
