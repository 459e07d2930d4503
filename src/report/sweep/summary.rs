//! The first sentences of a sweep's report: the best run, the runs tied with it, and the axes that matter.

use crate::report::board::{BoardRow, BoardView, RowKind, metric_title};
use crate::report::document::Block;
use crate::report::effects::{AxisRow, Effects, axis_effects};
use crate::report::table::{Cell, Column, Table};
use crate::store::Leaderboard;

/// Most runs that a sentence names.
const NAMED: usize = 5;
/// Most values of a setting that are listed.
const VALUES: usize = 12;

/// The findings in sentences; then every setting in which runs differ.
pub(super) fn found(board: &Leaderboard, view: &BoardView, rows: &[BoardRow]) -> Vec<Block> {
    let mut sentences = vec![best(view, rows)];
    sentences.extend(axis_effects(board, None).ok().and_then(|effects| matters(&effects)));
    let failed = rows.iter().filter(|row| !row.reasons.is_empty()).count();
    if failed > 0 {
        sentences.push(format!("{failed} of {} rows failed, diverged or did not converge.", rows.len()));
    }
    let mut blocks = vec![Block::Text(sentences.join(" "))];
    blocks.extend(differing(board));
    blocks
}

/// The best run with its score, and the runs statistically tied with it.
fn best(view: &BoardView, rows: &[BoardRow]) -> String {
    let Some(rank) = &view.rank else { return "The sweep has no objective.".to_owned() };
    let title = metric_title(rank);
    let Some(best) = rows.iter().find(|row| row.best) else {
        return format!("No run has a score of {title} in every seed yet.");
    };
    let score = best.score(rank);
    let value = score.and_then(|score| Some((score.value?, score.error)));
    let value = match value {
        Some((value, Some(error))) => Cell::Uncertain(value, error, 3).show(),
        Some((value, None)) => Cell::Number(value, 3).show(),
        None => String::new(),
    };
    let base = score.and_then(|score| score.difference);
    let base = base.map(|difference| format!(", {} vs. the base model", Cell::Signed(difference, 3).show()));
    let mut text = format!("Best: {} with {title} {value}{}.", best.label, base.unwrap_or_default());
    let tied: Vec<&str> = rows.iter().filter(|row| row.tied).map(|row| row.label.as_str()).collect();
    let competing = rows.iter().filter(|row| {
        row.kind() == RowKind::Cell && row.score(rank).is_some_and(|score| score.whole().is_some())
    });
    match (tied.as_slice(), competing.count()) {
        ([], 0 | 1) => {}
        ([], _) => text.push_str(" No other run is statistically tied with it."),
        (tied, _) => {
            let more = tied.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named = tied.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            text.push_str(&format!(" Statistically tied with it: {named}{more}."));
        }
    }
    text
}

/// Which axes explain more than noise. None: the noise is unknown.
fn matters(effects: &Effects) -> Option<String> {
    let tested: Vec<&AxisRow> = effects.axes.iter().filter(|axis| axis.test.is_some()).collect();
    if tested.is_empty() {
        return None;
    }
    let name = |axis: &&AxisRow| axis.axes.join(" with ");
    let (noise, real): (Vec<&AxisRow>, Vec<&AxisRow>) =
        tested.into_iter().partition(|axis| axis.test.is_some_and(|test| test.is_noise));
    let explained = |axis: &&AxisRow| {
        let p = axis.test.map_or(1.0, |test| test.p_holm);
        let p = if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") };
        format!("{} ({:.0} % of the variance, {p})", name(axis), 100.0 * axis.importance)
    };
    let mut parts = Vec::new();
    if !real.is_empty() {
        parts.push(format!(
            "Not explained by noise: {}.",
            real.iter().map(explained).collect::<Vec<_>>().join(", ")
        ));
    }
    if !noise.is_empty() {
        parts.push(format!("Within noise: {}.", noise.iter().map(name).collect::<Vec<_>>().join(", ")));
    }
    Some(parts.join(" "))
}

/// A table of every setting in which trained runs differ.
fn differing(board: &Leaderboard) -> Option<Block> {
    let cells: Vec<_> = board.jobs.iter().filter(|job| job.is_cell()).collect();
    let first = cells.first()?;
    let mut rows = Vec::new();
    for key in first.settings.keys() {
        let values = super::charts::values_of(board, key);
        if values.len() < 2 {
            continue;
        }
        let shown: Vec<String> = values.iter().take(VALUES).map(ToString::to_string).collect();
        let more =
            if values.len() > VALUES { format!(", … ({} values)", values.len()) } else { String::new() };
        let role = if board.axes.iter().any(|axis| axis == key) { "axis" } else { "derived" };
        rows.push(vec![
            Cell::Text(key.clone()),
            Cell::Text(format!("{}{more}", shown.join(", "))),
            Cell::Text(role.to_owned()),
        ]);
    }
    let columns = vec![Column::text("setting"), Column::text("values"), Column::text("from")];
    (!rows.is_empty())
        .then(|| Block::Table("Settings that differ between runs".to_owned(), Table { columns, rows }))
}
