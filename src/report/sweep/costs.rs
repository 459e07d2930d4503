//! The costs of a sweep.

use super::charts::values_of;
use crate::job::Seconds;
use crate::report::document::Block;
use crate::report::table::{Cell, Column, Table};
use crate::stats::mean;
use crate::store::{BoardJob, Leaderboard};

/// Most values of an axis that are listed.
const VALUES: usize = 24;

pub(super) fn costs(board: &Leaderboard) -> Vec<Block> {
    let trained: Vec<&BoardJob> = board.jobs.iter().filter(|job| job.seconds.is_some()).collect();
    if trained.is_empty() {
        return Vec::new();
    }
    let seconds: f64 = trained.iter().filter_map(|job| job.seconds).sum();
    let tokens: i64 = trained.iter().filter_map(|job| job.work.tokens).sum();
    let text = format!(
        "{} {} of {} tokens took {} all together, as each counts its own time; runs of a pack share theirs. Peak memory is that \
         of the process that trained.",
        trained.len(),
        if trained.len() == 1 { "training" } else { "trainings" },
        Cell::Count(tokens.max(0) as u64).show(),
        Seconds(seconds)
    );
    let columns = vec![
        Column::text("axis"),
        Column::text("value"),
        Column::number("runs", None),
        Column::number("time", Some("s")),
        Column::number("tokens/s", None),
        Column::number("peak memory", Some("GB")),
        Column::number("trainable", None),
    ];
    let mut rows = Vec::new();
    for axis in board.axes.iter().filter(|axis| *axis != "seed") {
        for value in values_of(board, axis).iter().take(VALUES) {
            let jobs: Vec<&&BoardJob> =
                trained.iter().filter(|job| job.settings.get(axis) == Some(value)).collect();
            rows.push(row(axis, &value.to_string(), &jobs));
        }
    }
    rows.push(row("all", "", &trained.iter().collect::<Vec<_>>()));
    vec![
        Block::Text(text),
        Block::Table("Means over the runs with each value".to_owned(), Table { columns, rows }),
    ]
}

fn row(axis: &str, value: &str, jobs: &[&&BoardJob]) -> Vec<Cell> {
    let of = |number: &dyn Fn(&BoardJob) -> Option<f64>| -> Option<f64> {
        mean(&jobs.iter().filter_map(|job| number(job)).collect::<Vec<_>>())
    };
    let seconds = of(&|job| job.seconds);
    let speed = of(&|job| Some(job.work.tokens? as f64 / job.seconds?));
    vec![
        Cell::Text(axis.to_owned()),
        Cell::Text(value.to_owned()),
        Cell::Count(jobs.len() as u64),
        Cell::maybe_number(seconds, 1),
        Cell::maybe_number(speed, 0),
        Cell::maybe_number(of(&|job| job.peak_memory.map(|bytes| bytes as f64 / 1e9)), 2),
        of(&|job| Some(job.trainable as f64)).map_or(Cell::Missing, |count| Cell::Count(count as u64)),
    ]
}
