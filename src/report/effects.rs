//! Which axes of a sweep mattered.

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;

use super::board::{BoardRow, BoardView, RowKind, UnknownMetric, cells_of, rows_of};
use super::comparison::show_p;
use super::table::{Cell, Column, Table};
use crate::job::Value;
use crate::stats::{
    AxisEffect, CellScores, Factorial, LevelEffect, Noise, NoiseSource, PairEffect, holm, importance,
    noise_of,
};
use crate::store::Leaderboard;
use crate::task::Metric;
use crate::task::MetricName;

/// Significance level of an effect, after Holm's correction over all effects of the sweep.
const LEVEL: f64 = 0.05;

/// Why there are no effects.
#[derive(Debug, Error)]
pub enum EffectsError {
    /// The sweep does not score this metric.
    #[error(transparent)]
    NoMetric(#[from] UnknownMetric),
    /// Fewer than two cells have a score.
    #[error("fewer than two cells of the sweep have a score of {metric}")]
    TooFew {
        /// The requested metric.
        metric: String,
    },
}

/// The effects of a sweep's axes on one metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effects {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: Metric,
    /// Number of cells with a score, and of all cells.
    pub cells: (usize, usize),
    /// Whether every combination of the axes' values exists.
    pub complete: bool,
    /// The axes, the most important first.
    pub axes: Vec<AxisRow>,
    /// Pairs of axes, by their interactions.
    pub pairs: Vec<PairRow>,
    /// The unexplained fraction.
    pub rest: f64,
    /// How far the cells differ by chance alone; none if neither seeds nor standard errors determine it.
    pub noise: Option<NoiseRow>,
}

/// Noise, compared with the differences between cells.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NoiseRow {
    /// Its source.
    pub source: NoiseSource,
    /// Variance of the cells' means, over the number of cells.
    pub variance_between_cells: f64,
    /// Variance of a cell's mean by chance alone.
    pub variance_by_chance: f64,
}

/// The test of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Test {
    /// Probability that chance alone gives as large an effect: an F test against the seeds, chi-squared against standard errors.
    pub p: f64,
    /// The same after Holm's correction over all axes and pairs.
    pub p_holm: f64,
    /// Whether the effect is within noise.
    pub is_noise: bool,
}

/// The interaction of two axes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairRow {
    /// Their names.
    pub axes: (String, String),
    /// Fraction of the variance of the cells' means beyond their main effects, 0 to 1.
    pub importance: f64,
    /// None if the noise is unknown.
    #[serde(flatten)]
    pub test: Option<Test>,
}

/// The effect of one axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AxisRow {
    /// Its name; several if they vary together.
    pub axes: Vec<String>,
    /// Fraction of the variance of the cells' means, 0 to 1.
    pub importance: f64,
    /// Each value, the mean of its cells, and their number; in a grid with holes the least-squares mean.
    pub levels: Vec<(String, f64, usize)>,
    /// The value with the best mean, or several that share it; none if there is only one value, if all are alike, and if the differences
    /// are within noise.
    pub best: Option<String>,
    /// None if the noise is unknown, and for an axis with one value.
    #[serde(flatten)]
    pub test: Option<Test>,
}

/// The requested metric: the objective by default. Error: the sweep does not score it.
pub fn effects_metric(board: &Leaderboard, wanted: Option<&str>) -> Result<MetricName, UnknownMetric> {
    match (wanted, &board.objective) {
        (Some(wanted), _) => board.metric_named(wanted),
        (None, Some((task, metric))) => Ok(MetricName::new(task, *metric)),
        (None, None) => board.metric_named("any task"),
    }
}

/// Decomposes the variance of a metric over the axes of a sweep; seeds are replicates. Errors: see [`EffectsError`].
pub fn axis_effects(board: &Leaderboard, wanted: Option<&str>) -> Result<Effects, EffectsError> {
    let name = effects_metric(board, wanted)?;
    let mut view = BoardView::of(board);
    view.metrics = vec![name.clone()];
    let rows: Vec<BoardRow> = rows_of(board, &view, &cells_of(board, &view.keys));
    let rows: Vec<BoardRow> = rows.into_iter().filter(|row| row.kind() == RowKind::Cell).collect();
    let score = |row: &BoardRow| row.score(&name)?.whole();
    let axes: Vec<String> = board.axes.iter().filter(|axis| *axis != "seed").cloned().collect();
    let mut values: Vec<Vec<Value>> = vec![Vec::new(); axes.len()];
    let (mut cells, mut scores) = (Vec::new(), Vec::new());
    for row in &rows {
        let Some(value) = score(row) else { continue };
        let level = |(axis, known): (&String, &mut Vec<Value>)| {
            let setting = row.settings.get(axis).cloned().unwrap_or(Value::Bool(false));
            known.iter().position(|other| *other == setting).unwrap_or_else(|| {
                known.push(setting);
                known.len() - 1
            })
        };
        cells.push((axes.iter().zip(&mut values).map(level).collect(), value));
        scores.push(scores_of(board, row, &name));
    }
    let count = (cells.len(), rows.len());
    let found = importance(&Factorial { axes: axes.clone(), cells });
    let found = found.ok_or_else(|| EffectsError::TooFew { metric: name.to_string() })?;
    let noise = noise_of(&scores);
    let mut tests = tests_of(&found.axes, &found.pairs, found.squares, noise.as_ref()).into_iter();
    let MetricName { task, metric } = name;
    let of_axis: BTreeMap<&String, &Vec<Value>> = axes.iter().zip(&values).collect();
    let row = |effect: AxisEffect| {
        let shown = |level_effect: &LevelEffect| {
            let names = effect
                .axes
                .iter()
                .zip(&level_effect.levels)
                .map(|(axis, level)| of_axis[axis][*level].to_string());
            names.collect::<Vec<_>>().join(" + ")
        };
        let test = tests.next().flatten();
        AxisRow {
            best: best_levels(&effect, metric)
                .filter(|_| test.is_none_or(|test| !test.is_noise))
                .map(|levels| levels.into_iter().map(shown).collect::<Vec<_>>().join(" or ")),
            levels: effect.levels.iter().map(|level| (shown(level), level.mean, level.cells)).collect(),
            importance: effect.importance,
            axes: effect.axes.clone(),
            test,
        }
    };
    let axes = found.axes.into_iter().map(row).collect();
    let pair = |effect: PairEffect| PairRow {
        axes: effect.axes,
        importance: effect.importance,
        test: tests.next().flatten(),
    };
    Ok(Effects {
        task,
        metric,
        cells: count,
        complete: found.complete,
        axes,
        pairs: found.pairs.into_iter().map(pair).collect(),
        rest: found.rest,
        noise: noise.map(|noise| NoiseRow {
            source: noise.source,
            variance_between_cells: found.squares / count.0 as f64,
            variance_by_chance: noise.variance,
        }),
    })
}

/// The scores of a row's seeds.
fn scores_of(board: &Leaderboard, row: &BoardRow, name: &MetricName) -> CellScores {
    let jobs = board.jobs.iter().filter(|job| row.jobs.iter().any(|id| id == job.id.as_str()));
    let found: Vec<_> = jobs.filter_map(|job| job.ranked_score(&name.task, name.metric)).collect();
    CellScores {
        seeds: found.iter().map(|score| score.value).collect(),
        errors: found.iter().filter_map(|score| score.stderr).collect(),
    }
}

/// The test of each axis, then of each pair; none if there is no effect to test.
fn tests_of(
    axes: &[AxisEffect],
    pairs: &[PairEffect],
    squares: f64,
    noise: Option<&Noise>,
) -> Vec<Option<Test>> {
    let parts = axes.iter().map(|effect| (effect.importance, effect.freedom));
    let parts = parts.chain(pairs.iter().map(|effect| (effect.importance, effect.freedom)));
    let p: Vec<Option<f64>> =
        parts.map(|(share, freedom)| noise.and_then(|noise| noise.p(share * squares, freedom))).collect();
    let mut adjusted = holm(&p.iter().flatten().copied().collect::<Vec<_>>()).into_iter();
    let test = |p: Option<f64>| {
        let (p, p_holm) = (p?, adjusted.next()?);
        Some(Test { p, p_holm, is_noise: p_holm >= LEVEL })
    };
    p.into_iter().map(test).collect()
}

/// The levels with the best mean; none if all are alike.
fn best_levels(effect: &AxisEffect, metric: Metric) -> Option<Vec<&LevelEffect>> {
    let sign = if metric.higher_is_better() { 1.0 } else { -1.0 };
    let best = effect.levels.iter().map(|level| sign * level.mean).max_by(f64::total_cmp)?;
    // Means of the same numbers in another order differ in their last digits.
    let is_best = |level: &&LevelEffect| best - sign * level.mean <= 1e-12 * best.abs();
    let found: Vec<&LevelEffect> = effect.levels.iter().filter(is_best).collect();
    (found.len() < effect.levels.len()).then_some(found)
}

/// Shown instead of a best value if an effect is within noise.
const NOISE: &str = "within noise";

/// Effects within noise, in sentences.
pub fn noise_notes(effects: &Effects) -> Vec<String> {
    let Some(noise) = &effects.noise else {
        return vec![
            "no cell has two seeds and no score has a standard error: noise cannot be estimated".to_owned(),
        ];
    };
    let (how, against) = match noise.source {
        NoiseSource::Seeds => ("F test against the spread of the seeds", "the spread of the seeds"),
        NoiseSource::Documents => (
            "chi-squared test against the standard errors over documents, since no cell has two seeds",
            "the standard errors over documents",
        ),
    };
    let tests = effects.axes.iter().map(|axis| axis.test).chain(effects.pairs.iter().map(|pair| pair.test));
    let tests: Vec<Test> = tests.flatten().collect();
    let mut notes = vec![format!(
        "p: {how}; {NOISE}: at least 0.05 after Holm's correction over {} effects",
        tests.len()
    )];
    notes.push(format!(
        "variance between cells {:.3e}, expected from noise {:.3e}",
        noise.variance_between_cells, noise.variance_by_chance
    ));
    if !tests.is_empty() && tests.iter().all(|test| test.is_noise) {
        notes.push(format!("no axis exceeds {against}"));
    }
    notes
}

/// The axes and pairs, as a table.
pub fn effects_table(effects: &Effects) -> Table {
    let columns = vec![
        Column::text("axis"),
        Column::number("importance", Some("%")),
        Column::number("p", None),
        Column::text("best"),
        Column::number("values", None).weighing(1),
    ];
    let p = |test: &Option<Test>| test.map_or(Cell::Missing, |test| Cell::Text(show_p(test.p)));
    let best = |test: &Option<Test>, best: &Option<String>| match (test, best) {
        (Some(Test { is_noise: true, .. }), _) => Cell::Text(NOISE.to_owned()),
        (_, Some(best)) => Cell::Text(best.clone()),
        (_, None) => Cell::Missing,
    };
    let percent = |part: f64| Cell::Number(100.0 * part, 1);
    let mut rows: Vec<Vec<Cell>> = effects
        .axes
        .iter()
        .map(|axis| {
            vec![
                Cell::Text(axis.axes.join(" + ")),
                percent(axis.importance),
                p(&axis.test),
                best(&axis.test, &axis.best),
                Cell::Count(axis.levels.len() as u64),
            ]
        })
        .collect();
    rows.extend(effects.pairs.iter().map(|PairRow { axes: (a, b), importance, test }| {
        let name = Cell::Text(format!("{a} × {b}"));
        vec![name, percent(*importance), p(test), best(test, &None), Cell::Missing]
    }));
    let rest = Cell::Text("residual".to_owned());
    rows.push(vec![rest, percent(effects.rest), Cell::Missing, Cell::Missing, Cell::Missing]);
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
            (8, "adamw", 1, 0.21),
            (8, "adamw", 2, 0.25),
            (8, "sgd", 1, 0.2),
            (16, "adamw", 1, 0.6),
            (16, "adamw", 2, 0.62),
            (16, "sgd", 1, 0.58),
            (16, "sgd", 2, 0.61),
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
