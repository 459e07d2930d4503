//! Rows that the data cannot tell from the best.

use std::collections::HashMap;

use super::rows::{BoardRow, RowKind};
use super::view::MetricName;
use crate::job::JobId;
use crate::stats::{paired, welch};
use crate::store::{ByDocument, Leaderboard};

/// Probability below which a row counts as worse than the best.
const LEVEL: f64 = 0.05;

/// Marks the rows that cannot be told from the best one: by Welch's test over seeds where both have several, else by the paired test
/// over documents. A row of which neither is known keeps no mark. `values` are by job, for the ranking metric.
pub fn mark_ties(
    board: &Leaderboard,
    rows: &mut [BoardRow],
    rank: &MetricName,
    values: &HashMap<JobId, ByDocument>,
) {
    let Some(best) = rows.iter().find(|row| row.best).cloned() else { return };
    let seeds = |row: &BoardRow| -> Vec<f64> {
        let jobs = board.jobs.iter().filter(|job| row.jobs.iter().any(|id| id == job.id.as_str()));
        jobs.filter_map(|job| Some(job.score(&rank.task, rank.metric)?.value)).collect()
    };
    let of_best = (seeds(&best), documents_of(&best, values));
    for row in rows.iter_mut().filter(|row| !row.best && row.kind() == RowKind::Cell) {
        if row.score(rank).and_then(|score| score.whole()).is_none() {
            continue;
        }
        let p = match seeds(row) {
            own if own.len() > 1 && of_best.0.len() > 1 => welch(&own, &of_best.0).map(|found| found.p),
            _ => {
                let own = documents_of(row, values);
                let both: Vec<(f64, f64)> = own
                    .iter()
                    .filter_map(|(document, value)| Some((*value, *of_best.1.get(document)?)))
                    .collect();
                let (own, best): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
                paired(&own, &best).map(|found| found.p)
            }
        };
        row.tied = p.is_some_and(|p| p >= LEVEL);
    }
}

/// The mean over a row's jobs of each document's value, of the documents that all of them have.
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
