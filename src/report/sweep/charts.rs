//! The charts of a report: scores by the values of an axis, and losses by step.

use super::input::ReportInput;
use crate::job::Value;
use crate::report::board::{BoardView, metric_title, value_order};
use crate::report::chart::{Chart, Point, Series};
use crate::report::document::Block;
use crate::stats::{mean, sample_deviation};
use crate::store::{BoardJob, Leaderboard};
use crate::task::MetricName;

/// Most series per chart.
const SERIES: usize = 8;
/// Most points per curve; longer ones are thinned.
const POINTS: usize = 150;

/// The values of a key in the grid's jobs, numbers in numeric order.
pub(super) fn values_of(board: &Leaderboard, key: &str) -> Vec<Value> {
    let mut values: Vec<Value> = board
        .jobs
        .iter()
        .filter(|job| job.is_cell())
        .filter_map(|job| job.settings.get(key))
        .cloned()
        .collect();
    values.sort_by(value_order);
    values.dedup();
    values
}

/// For each numeric axis: the ranking metric, split by a second axis with few values, and all metrics.
pub(super) fn by_axis(board: &Leaderboard, view: &BoardView) -> Vec<Block> {
    let Some(rank) = &view.rank else { return Vec::new() };
    let mut blocks = Vec::new();
    for axis in &view.keys {
        let values = values_of(board, axis);
        if values.len() < 2 || values.iter().any(|value| value.as_f64().is_none()) {
            continue;
        }
        let doubling = is_logarithmic(axis) || doubles(&values);
        let others = view.keys.iter().filter(|other| *other != axis);
        let second = others
            .map(|other| (other, values_of(board, other)))
            .find(|(other, values)| (2..=SERIES).contains(&values.len()) && !follows(board, other, axis));
        let series = match &second {
            None => vec![series(board, axis, rank, metric_title(rank), &|_| true)],
            Some((other, values)) => values
                .iter()
                .map(|value| {
                    let name = format!("{} = {value}", crate::job::short_name(other));
                    series(board, axis, rank, name, &|job| job.settings.get(*other) == Some(value))
                })
                .collect(),
        };
        let title =
            format!("{} by {axis}, mean ± deviation over runs, or standard error of one", metric_title(rank));
        blocks.extend(chart(title, axis, metric_title(rank), doubling, series, base_level(board, rank)));
        let every: Vec<Series> =
            view.metrics.iter().take(SERIES).map(|name| series_of_all(board, axis, name)).collect();
        if every.len() > 1 {
            blocks.extend(chart(
                format!("Every score by {axis}"),
                axis,
                "score".to_owned(),
                doubling,
                every,
                None,
            ));
        }
    }
    blocks
}

/// Whether another axis determines this one, as in a zip.
fn follows(board: &Leaderboard, axis: &str, other: &str) -> bool {
    let mut known: Vec<(&Value, &Value)> = Vec::new();
    let pairs = board.jobs.iter().filter_map(|job| job.settings.get(other).zip(job.settings.get(axis)));
    for (other_value, value) in pairs {
        match known.iter().find(|(first, _)| *first == other_value) {
            Some((_, first)) if *first != value => return false,
            Some(_) => {}
            None => known.push((other_value, value)),
        }
    }
    true
}

fn series_of_all(board: &Leaderboard, axis: &str, name: &MetricName) -> Series {
    let mut series = series(board, axis, name, metric_title(name), &|_| true);
    // Eight error bars at each value would overlap.
    series.points.iter_mut().for_each(|point| point.error = None);
    series
}

fn chart(
    title: String,
    axis: &str,
    y_label: String,
    doubling: bool,
    mut series: Vec<Series>,
    level: Option<(String, f64)>,
) -> Option<Block> {
    series.retain(|line| !line.points.is_empty());
    let chart = Chart { title, x_label: axis.to_owned(), y_label, doubling, series, level };
    (!chart.is_empty()).then_some(Block::Chart(chart))
}

/// Axes whose values usually differ by factors.
fn is_logarithmic(axis: &str) -> bool {
    ["lora.rank", "lora.alpha", "train.learning_rate", "train.weight_decay"].contains(&axis)
}

/// Whether the values grow so fast that a linear axis would crowd the small ones.
fn doubles(values: &[Value]) -> bool {
    let ends = values.first().and_then(Value::as_f64).zip(values.last().and_then(Value::as_f64));
    values.len() > 2 && ends.is_some_and(|(low, high)| low > 0.0 && high / low >= 8.0)
}

fn base_level(board: &Leaderboard, name: &MetricName) -> Option<(String, f64)> {
    let base = board.jobs.iter().find(|job| job.is_base)?;
    let value = base.score(&name.task, name.metric)?.value;
    value.is_finite().then(|| (base.label.clone(), value))
}

/// A metric at each value of an axis.
fn series(
    board: &Leaderboard,
    axis: &str,
    name: &MetricName,
    title: String,
    keep: &dyn Fn(&BoardJob) -> bool,
) -> Series {
    let point = |value: &Value| {
        let jobs = board
            .jobs
            .iter()
            .filter(|job| job.is_cell() && job.settings.get(axis) == Some(value) && keep(job));
        let scores: Vec<_> = jobs
            .filter_map(|job| job.score(&name.task, name.metric))
            .filter(|score| score.value.is_finite())
            .collect();
        let values: Vec<f64> = scores.iter().map(|score| score.value).collect();
        let error = sample_deviation(&values).or_else(|| scores.first().and_then(|score| score.stderr));
        Some(Point { x: value.as_f64()?, y: mean(&values)?, error })
    };
    Series { name: title, points: values_of(board, axis).iter().filter_map(point).collect(), marked: true }
}

/// The losses of the best rows' first jobs, with validation losses if there are any.
pub(super) fn losses(input: &ReportInput, cells: &[Vec<usize>]) -> Vec<Block> {
    let jobs: Vec<&BoardJob> = cells.iter().map(|cell| &input.board.jobs[cell[0]]).collect();
    let of = |job: &&BoardJob, validation: bool| {
        let points = input.curves.get(&job.id)?;
        let point = |curve_point: &crate::store::CurvePoint| {
            let y = if validation { curve_point.validation_loss } else { curve_point.loss }?;
            Some(Point { x: curve_point.step as f64, y, error: None })
        };
        let all: Vec<Point> = points.iter().filter_map(point).collect();
        (!all.is_empty()).then(|| Series { name: job.label.clone(), points: thinned(all), marked: false })
    };
    let mut blocks = Vec::new();
    for (validation, title) in [(false, "Loss of each window"), (true, "Loss on the validation rows")] {
        let mut series: Vec<Series> =
            jobs.iter().filter_map(|job| of(job, validation)).take(SERIES).collect();
        name_by_difference(&mut series);
        let which = match series.len() {
            1 => "the best run that has one".to_owned(),
            count => format!("the best {count} runs that have one"),
        };
        blocks.extend(chart(format!("{title}, {which}"), "step", "loss".to_owned(), false, series, None));
    }
    blocks
}

/// Labels without the seed and without the settings that all have in common.
fn name_by_difference(series: &mut [Series]) {
    let parts: Vec<Vec<String>> = series
        .iter()
        .map(|line| {
            line.name.split(' ').filter(|part| !part.starts_with("seed=")).map(str::to_owned).collect()
        })
        .collect();
    for (line, names) in series.iter_mut().zip(&parts) {
        let is_common = |part: &&String| parts.len() > 1 && parts.iter().all(|others| others.contains(part));
        let kept: Vec<&str> = names.iter().filter(|part| !is_common(part)).map(String::as_str).collect();
        if !kept.is_empty() {
            line.name = kept.join(" ");
        }
    }
}

/// Every n-th point, and the last one.
fn thinned(points: Vec<Point>) -> Vec<Point> {
    let step = points.len().div_ceil(POINTS).max(1);
    let last = points.len() - 1;
    points
        .into_iter()
        .enumerate()
        .filter(|(at, _)| at % step == 0 || *at == last)
        .map(|(_, point)| point)
        .collect()
}
