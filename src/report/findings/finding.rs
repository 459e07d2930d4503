//! The outcome of a claim.

use serde::Serialize;

use super::claim::Claim;

/// The outcome of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The results confirm it.
    Confirmed,
    /// The results contradict it.
    Refuted,
    /// The results do not decide it.
    Undecided,
}

impl Outcome {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::Undecided => "undecided",
        }
    }
}

/// A claim with its outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The claim.
    pub text: String,
    /// The sweep.
    pub sweep: String,
    /// Its outcome.
    pub outcome: Outcome,
    /// Why.
    pub why: String,
    /// Pairs of jobs that are equal in all keys that the claim does not name.
    pub pairs: usize,
    /// Each metric.
    pub rows: Vec<FindingRow>,
}

/// A metric of a claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FindingRow {
    /// `task:metric`, or a measure.
    pub metric: String,
    /// Mean of the first jobs; none if no pair has it.
    pub first: Option<f64>,
    /// Mean of the second jobs.
    pub second: Option<f64>,
    /// The second less the first.
    pub difference: Option<f64>,
    /// 95 % confidence interval of the difference over documents; for a claim of equal or not better scores, the hull of all pairs'
    /// intervals.
    pub interval: Option<(f64, f64)>,
    /// Probability by chance, after Holm's correction over the claim's metrics.
    pub p: Option<f64>,
    /// Pairs that lack it.
    pub missing: usize,
    /// The outcome for this metric alone.
    pub outcome: Outcome,
}

/// A claim about a sweep that has not been run.
pub fn not_run(claim: &Claim) -> Finding {
    finding(claim, Outcome::Undecided, "the sweep has not been run".to_owned(), 0, Vec::new())
}

pub(super) fn finding(
    claim: &Claim,
    outcome: Outcome,
    why: String,
    pairs: usize,
    rows: Vec<FindingRow>,
) -> Finding {
    Finding { text: claim.text.clone(), sweep: claim.sweep.clone(), outcome, why, pairs, rows }
}

impl FindingRow {
    /// A metric that no pair has.
    pub(super) fn empty(metric: &str, pairs: usize) -> Self {
        Self {
            metric: metric.to_owned(),
            first: None,
            second: None,
            difference: None,
            interval: None,
            p: None,
            missing: pairs,
            outcome: Outcome::Undecided,
        }
    }
}
