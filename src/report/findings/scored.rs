//! Claims about scores: the paired test over documents, combined over pairs of runs.

use std::collections::{BTreeMap, HashMap};

use super::claim::{Claim, Expect, OfPairs};
use super::finding::{FindingRow, Outcome};
use crate::job::JobId;
use crate::report::comparison::{TaskDifference, task_difference};
use crate::stats::{Paired, holm, mean, paired};
use crate::store::{DocumentValues, Documents, Leaderboard};
use crate::task::Metric;
use crate::task::MetricName;

/// Significance level, after the correction for several tasks.
pub(super) const LEVEL: f64 = 0.05;

/// A metric of all pairs that have it.
#[derive(Debug)]
pub(super) struct Scored {
    /// Its row; the outcome is still open.
    pub(super) row: FindingRow,
    metric: Metric,
    pairs: Vec<ScoredPair>,
}

/// A pair of runs.
#[derive(Debug, Clone, Copy)]
struct ScoredPair {
    /// Its difference, positive for better.
    better: f64,
    /// The confidence interval.
    interval: (f64, f64),
    /// Probability by chance.
    p: f64,
}

/// A metric for each pair separately, and over the documents that all pairs have, with each document's value the mean over the pairs.
pub(super) fn scored(
    pairs: &[(usize, usize)],
    board: &Leaderboard,
    name: &MetricName,
    values: &HashMap<JobId, Vec<DocumentValues>>,
) -> Scored {
    let of = |at: usize| {
        values.get(&board.jobs[at].id)?.iter().find(|document_values| {
            document_values.task == name.task && document_values.metric == name.metric
        })
    };
    let both = pairs.iter().filter_map(|&(a, b)| of(a).zip(of(b)));
    let found: Vec<(&DocumentValues, &DocumentValues, TaskDifference)> =
        both.filter_map(|(a, b)| Some((a, b, task_difference(a, b).ok()?))).collect();
    let mut row =
        FindingRow { missing: pairs.len() - found.len(), ..FindingRow::empty(&name.to_string(), 0) };
    let sign = if name.metric.higher_is_better() { 1.0 } else { -1.0 };
    let towards_better = |pair: &TaskDifference| {
        let (low, high) = at_least_of_three(pair).unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let interval = if sign > 0.0 { (low, high) } else { (-high, -low) };
        ScoredPair { better: sign * pair.difference, interval, p: pair.p }
    };
    let of_pairs: Vec<_> = found.iter().map(|(.., pair)| towards_better(pair)).collect();
    let means = |of: &dyn Fn(&TaskDifference) -> f64| {
        mean(&found.iter().map(|(.., pair)| of(pair)).collect::<Vec<_>>())
    };
    (row.first, row.second) = (means(&|pair| pair.first), means(&|pair| pair.second));
    row.difference = row.second.zip(row.first).map(|(second, first)| second - first);
    if let [(.., pair)] = found.as_slice() {
        (row.interval, row.p) = (pair.interval, Some(pair.p));
    } else if let Some(whole) = over_all(&found) {
        (row.interval, row.p) = (whole.interval, Some(whole.p));
        row.difference = Some(whole.difference);
    } else if !found.is_empty() {
        // Values that are not means have no mean over pairs: the least certain pair represents them.
        row.p = found.iter().map(|(.., pair)| pair.p).reduce(f64::max);
    }
    Scored { row, metric: name.metric, pairs: of_pairs }
}

/// A difference's interval. For right and wrong answers it is at least ± 3 / documents, the rule of three (Hanley and Lippman-Hand 1983):
/// without a flip the documents' deviation is 0, however few they are.
fn at_least_of_three(pair: &TaskDifference) -> Option<(f64, f64)> {
    let (low, high) = pair.interval?;
    let rest = if pair.flips.is_some() { 3.0 / pair.documents as f64 } else { 0.0 };
    Some((low.min(pair.difference - rest), high.max(pair.difference + rest)))
}

/// The paired test on each document's mean over the pairs, for the documents that all pairs have.
fn over_all(found: &[(&DocumentValues, &DocumentValues, TaskDifference)]) -> Option<Paired> {
    let mut sums: BTreeMap<usize, (f64, f64, usize)> = BTreeMap::new();
    for (first, second, _) in found {
        let (Some(Documents::Mean(first)), Some(Documents::Mean(second))) =
            (&first.documents, &second.documents)
        else {
            return None;
        };
        for (document, a) in first {
            if let Some(b) = second.get(document) {
                let sum = sums.entry(*document).or_default();
                *sum = (sum.0 + a, sum.1 + b, sum.2 + 1);
            }
        }
    }
    let whole = sums.values().filter(|(.., pairs)| *pairs == found.len());
    let count = found.len() as f64;
    let (first, second): (Vec<f64>, Vec<f64>) = whole.map(|(a, b, _)| (a / count, b / count)).unzip();
    paired(&first, &second)
}

impl Scored {
    /// Judges the metric; p is already corrected.
    pub(super) fn judge(mut self, claim: &Claim) -> FindingRow {
        self.row.outcome = match (self.pairs.is_empty(), claim.expect) {
            (true, _) => Outcome::Undecided,
            (_, Expect::Equal | Expect::NotBetter) => self.bounded(claim),
            _ => self.directed(claim),
        };
        if matches!(claim.expect, Expect::Equal | Expect::NotBetter) {
            self.row.interval = self.hull();
        }
        self.row
    }

    /// A difference that is significant over documents and has the same direction in every pair of runs: documents distinguish two
    /// models, only further runs distinguish two settings. If one pair suffices, one that is significant after correction over all pairs.
    fn directed(&self, claim: &Claim) -> Outcome {
        let sign = if self.metric.higher_is_better() { 1.0 } else { -1.0 };
        let is_expected = |better: f64| match claim.expect {
            Expect::Higher => sign * better > 0.0,
            Expect::Lower => sign * better < 0.0,
            Expect::Better => better > 0.0,
            Expect::Worse => better < 0.0,
            // Judged by an interval, in `bounded`.
            Expect::NotBetter | Expect::Equal => false,
        };
        if claim.pairs == OfPairs::Any {
            let p = holm(&self.pairs.iter().map(|pair| pair.p).collect::<Vec<_>>());
            let verdicts: Vec<bool> = self
                .pairs
                .iter()
                .zip(p)
                .filter(|(pair, p)| *p < LEVEL && pair.better != 0.0)
                .map(|(pair, _)| is_expected(pair.better))
                .collect();
            return match (
                verdicts.contains(&true),
                verdicts.len() == self.pairs.len() && self.row.missing == 0,
            ) {
                (true, _) => Outcome::Confirmed,
                (false, true) => Outcome::Refuted,
                (false, false) => Outcome::Undecided,
            };
        }
        let Some(difference) = self.row.difference else { return Outcome::Undecided };
        let better = sign * difference;
        let certain = self.row.p.is_some_and(|p| p < LEVEL)
            && difference != 0.0
            && self.pairs.iter().all(|pair| pair.better * better > 0.0);
        match (certain, is_expected(better)) {
            (true, true) => Outcome::Confirmed,
            (true, false) => Outcome::Refuted,
            _ => Outcome::Undecided,
        }
    }

    /// Whether each pair's interval lies within the bound. One that lies wholly beyond it contradicts the claim.
    fn bounded(&self, claim: &Claim) -> Outcome {
        let within = claim.within;
        let is_not_better_only = claim.expect == Expect::NotBetter;
        let holds = |(low, high): (f64, f64)| high <= within && (is_not_better_only || low >= -within);
        let fails = |(low, high): (f64, f64)| low > within || (!is_not_better_only && high < -within);
        let (held, failed) = (
            self.pairs.iter().filter(|pair| holds(pair.interval)).count(),
            self.pairs.iter().filter(|pair| fails(pair.interval)).count(),
        );
        let all = self.pairs.len();
        match claim.pairs {
            OfPairs::Every if failed > 0 => Outcome::Refuted,
            OfPairs::Every if held == all && self.row.missing == 0 => Outcome::Confirmed,
            OfPairs::Any if held > 0 => Outcome::Confirmed,
            OfPairs::Any if failed == all && self.row.missing == 0 => Outcome::Refuted,
            OfPairs::Every | OfPairs::Any => Outcome::Undecided,
        }
    }

    /// From the lowest end of the pairs' intervals to the highest, in the metric's own direction.
    fn hull(&self) -> Option<(f64, f64)> {
        let low = self.pairs.iter().map(|pair| pair.interval.0).reduce(f64::min)?;
        let high = self.pairs.iter().map(|pair| pair.interval.1).reduce(f64::max)?;
        let hull = if self.metric.higher_is_better() { (low, high) } else { (-high, -low) };
        (hull.0.is_finite() && hull.1.is_finite()).then_some(hull)
    }
}
