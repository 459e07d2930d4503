//! The description of a sweep, in words and numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::charts::values_of;
use super::input::ReportInput;
use crate::job::Value;
use crate::report::board::{BoardView, metric_title};
use crate::report::document::Block;
use crate::report::table::{Cell, Column, Table};
use crate::store::{BoardJob, Leaderboard};

/// Most values of an axis that are listed.
const VALUES: usize = 24;

/// The first sentence of a report.
pub(super) fn lead(inputs: &[ReportInput]) -> String {
    // Sweeps may share runs.
    let ids: BTreeSet<&str> =
        inputs.iter().flat_map(|input| &input.board.jobs).map(|job| job.id.as_str()).collect();
    let jobs = ids.len();
    let names: Vec<&str> = inputs.iter().map(|input| input.board.sweep.as_str()).collect();
    let (word, shown) = match names.as_slice() {
        [name] => ("Sweep", (*name).to_owned()),
        many => ("Sweeps", many.join(", ")),
    };
    format!(
        "{word} {shown}: {jobs} {}. Made by loragrid {}.",
        if jobs == 1 { "run" } else { "runs" },
        env!("CARGO_PKG_VERSION")
    )
}

pub(super) fn swept(input: &ReportInput) -> Vec<Block> {
    let board = &input.board;
    let distinct = |key: &str| -> Vec<String> {
        let values: BTreeSet<String> =
            board.jobs.iter().filter_map(|job| job.settings.get(key)).map(ToString::to_string).collect();
        values.into_iter().collect()
    };
    let mut items = Vec::new();
    let models = distinct("model");
    items.push(format!("{}: {}", if models.len() == 1 { "Model" } else { "Models" }, models.join(", ")));
    let data = distinct("data");
    if !data.is_empty() {
        items.push(format!("Data: {}", data.join(", ")));
    }
    for axis in &board.axes {
        let values = values_of(board, axis);
        // An evaluation has no grid jobs.
        if values.is_empty() {
            continue;
        }
        let shown: Vec<String> = values.iter().take(VALUES).map(ToString::to_string).collect();
        let more =
            if values.len() > VALUES { format!(", … ({} values)", values.len()) } else { String::new() };
        items.push(format!("{axis}: {}{more}", shown.join(", ")));
    }
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    board.jobs.iter().for_each(|job| *states.entry(job.state.as_str()).or_default() += 1);
    let states: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    items.push(format!("Runs: {} (version {} of the sweep)", states.join(", "), board.version));
    let view = BoardView::of(board);
    items.extend(view.rank.as_ref().map(|rank| format!("Ranked by: {}", metric_title(rank))));
    items.push(format!("Scored on: {}", board.tasks.join(", ")));
    vec![Block::List(items)]
}

/// The content of a sweep file without its section `[notify]`, whose command may contain a token or a URL.
fn without_notify(text: &str) -> String {
    let mut inside = false;
    let mut kept: Vec<&str> = Vec::new();
    for line in text.lines() {
        let start = line.trim_start();
        if start.starts_with('[') {
            let name = start.trim_start_matches('[').trim_start();
            let was_inside =
                std::mem::replace(&mut inside, name.starts_with("notify") || name.starts_with("\"notify\""));
            if inside && !was_inside {
                kept.push("# [notify] is left out");
            }
        }
        if !inside && !start.starts_with("notify") {
            kept.push(line);
        }
    }
    kept.into_iter().map(|line| format!("{line}\n")).collect()
}

/// The sweep's file, the settings that all its jobs share, its models and tasks.
pub(super) fn versions(input: &ReportInput) -> Vec<Block> {
    let board = &input.board;
    let mut blocks = Vec::new();
    if !input.sweep.text.is_empty() {
        blocks.push(Block::Code("The sweep file".to_owned(), without_notify(&input.sweep.text)));
    }
    if !input.sweep.origin.overrides.is_empty() {
        let overrides = input.sweep.origin.overrides.iter().filter(|(key, _)| !key.starts_with("notify"));
        blocks.push(Block::List(overrides.map(|(key, value)| format!("--set {key}={value}")).collect()));
    }
    let common = common_settings(board);
    if !common.is_empty() {
        let columns = vec![Column::text("key"), Column::text("value")];
        let row =
            |(key, value): (&String, &Value)| vec![Cell::Text(key.clone()), Cell::Text(value.to_string())];
        let rows = common.iter().map(row).collect();
        blocks.push(Block::Table("Keys in which all trained runs agree".to_owned(), Table { columns, rows }));
    }
    blocks.push(Block::Table("Models, by the SHA-256 of configuration and files".to_owned(), models(board)));
    blocks.push(Block::Table("Tasks with their metrics and documents".to_owned(), tasks(board)));
    blocks
}

fn common_settings(board: &Leaderboard) -> BTreeMap<String, Value> {
    let mut cells = board.jobs.iter().filter(|job| job.is_cell());
    let Some(first) = cells.next() else { return BTreeMap::new() };
    let mut common = first.settings.clone();
    for job in cells {
        common.retain(|key, value| job.settings.get(key) == Some(value));
    }
    common
}

fn models(board: &Leaderboard) -> Table {
    let name =
        |job: &BoardJob| job.settings.get("model").map_or_else(|| job.label.clone(), ToString::to_string);
    let found: BTreeSet<(String, String)> =
        board.jobs.iter().filter(|job| !job.imported).map(|job| (name(job), job.model.clone())).collect();
    let columns = vec![Column::text("model"), Column::text("identity")];
    let rows =
        found.into_iter().map(|(name, identity)| vec![Cell::Text(name), Cell::Text(identity)]).collect();
    Table { columns, rows }
}

fn tasks(board: &Leaderboard) -> Table {
    let columns = vec![Column::text("task"), Column::text("metrics"), Column::number("documents", None)];
    let row = |(task, metrics): &(String, Vec<crate::task::Metric>)| {
        let scores = board.jobs.iter().flat_map(|job| &job.scores);
        let documents = scores.filter(|score| score.task == *task).map(|score| score.documents).max();
        let names: Vec<&str> = metrics.iter().map(|metric| metric.as_str()).collect();
        vec![
            Cell::Text(task.clone()),
            Cell::Text(names.join(", ")),
            documents.map_or(Cell::Missing, Cell::Count),
        ]
    };
    Table { columns, rows: board.metrics.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_nothing_of_notify() {
        let text = "name = \"a\"\n[notify]\ncommand = \"curl -H 'Authorization: x'\"\n[axes]\nseed = [1]\n";
        assert_eq!(without_notify(text), "name = \"a\"\n# [notify] is left out\n[axes]\nseed = [1]\n");
        assert_eq!(without_notify("notify.command = \"x\"\nseed = 1\n"), "seed = 1\n");
    }
}
