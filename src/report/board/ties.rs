//! Rows that are statistically tied with the best.

use std::collections::HashMap;

use super::rows::{BoardRow, RowKind};
use crate::job::JobId;
use crate::stats::{holm_of, paired, welch};
use crate::store::{ByDocument, Leaderboard};
use crate::task::MetricName;

/// Probability below which a row counts as worse than the best, after Holm's correction.
const LEVEL: f64 = 0.05;

/// Tests every row against the best one, which was selected among all: by Welch's test over seeds if both have several, else by the
/// paired test over documents. The p-values are Holm-corrected over the family of all `ranked` cells less the best, whether or not their
/// rows are given. Marks statistically tied rows. A row that neither test applies to gets no mark. `values` are by job, for the ranking
/// metric.
pub fn mark_ties(
    board: &Leaderboard,
    rows: &mut [BoardRow],
    rank: &MetricName,
    (values, ranked): (&HashMap<JobId, ByDocument>, usize),
) {
    let Some(best) = rows.iter().find(|row| row.best).cloned() else { return };
    let seeds = |row: &BoardRow| -> Vec<f64> {
        let jobs = board.jobs.iter().filter(|job| row.jobs.iter().any(|id| id == job.id.as_str()));
        jobs.filter_map(|job| Some(job.ranked_score(&rank.task, rank.metric)?.value)).collect()
    };
    let of_best = (seeds(&best), documents_of(&best, values));
    let p_of = |row: &BoardRow| match seeds(row) {
        seed_scores if seed_scores.len() > 1 && of_best.0.len() > 1 => {
            welch(&seed_scores, &of_best.0).map(|found| found.p)
        }
        _ => {
            let documents = documents_of(row, values);
            let both: Vec<(f64, f64)> = documents
                .iter()
                .filter_map(|(document, value)| Some((*value, *of_best.1.get(document)?)))
                .collect();
            let (row_scores, best): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
            paired(&row_scores, &best).map(|found| found.p)
        }
    };
    let competes = |row: &BoardRow| {
        !row.best && row.kind() == RowKind::Cell && row.score(rank).and_then(|score| score.whole()).is_some()
    };
    let tested: Vec<(usize, f64)> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| competes(row))
        .filter_map(|(at, row)| Some((at, p_of(row)?)))
        .collect();
    let p: Vec<f64> = tested.iter().map(|(_, p)| *p).collect();
    // Cells not tested here count as having a larger p, so the family size stays the same.
    let adjusted = holm_of(&p, ranked.saturating_sub(1).max(p.len()));
    for ((at, _), p) in tested.into_iter().zip(adjusted) {
        rows[at].p_holm = Some(p);
        rows[at].tied = p >= LEVEL;
    }
}

/// The mean over a row's jobs of each document's value, for the documents that all of them have.
fn documents_of(row: &BoardRow, values: &HashMap<JobId, ByDocument>) -> ByDocument {
    let jobs: Vec<&ByDocument> =
        row.jobs.iter().filter_map(|id| values.get(&JobId::from_store(id.clone()))).collect();
    let Some((first, others)) = jobs.split_first().filter(|_| jobs.len() == row.jobs.len()) else {
        return ByDocument::new();
    };
    let mean = |(document, value): (&usize, &f64)| {
        let sum = others.iter().try_fold(*value, |sum, other| Some(sum + other.get(document)?))?;
        Some((*document, sum / jobs.len() as f64))
    };
    first.iter().filter_map(mean).collect()
}
