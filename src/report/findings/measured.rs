//! Claims about what a run takes and whether it converges: every pair of runs says something.

use super::claim::{Claim, Expect, OfPairs};
use super::finding::{FindingRow, Outcome};
use crate::job::JobState;
use crate::stats::mean;
use crate::store::{BoardJob, Leaderboard};

/// What a run measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Seconds of training.
    Time,
    /// Peak memory.
    Memory,
    /// Loss of the last window.
    Loss,
    /// Whether the loss fell; a run that diverged did not converge.
    Converged,
}

impl Measure {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "time" => Some(Self::Time),
            "memory" => Some(Self::Memory),
            "loss" => Some(Self::Loss),
            "converged" => Some(Self::Converged),
            _ => None,
        }
    }

    fn of(self, job: &BoardJob) -> Option<f64> {
        let value = match self {
            Self::Time => job.seconds,
            Self::Memory => job.peak_memory.map(|bytes| bytes as f64),
            Self::Loss => job.losses.map(|(_, last)| last),
            Self::Converged if job.state == JobState::Diverged => Some(0.0),
            Self::Converged => job.converged.map(|own| f64::from(u8::from(own))),
        };
        value.filter(|value| value.is_finite())
    }

    fn higher_is_better(self) -> bool {
        self == Self::Converged
    }
}

/// How the second of a pair stands to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// Larger by the claim's factor.
    Larger,
    /// Smaller by it.
    Smaller,
    /// Neither.
    Near,
}

/// A measure of all pairs that have it.
pub(super) fn measured_row(
    board: &Leaderboard,
    claim: &Claim,
    pairs: &[(usize, usize)],
    (metric, measure): (&str, Measure),
) -> FindingRow {
    let own: Vec<(f64, f64)> = pairs
        .iter()
        .filter_map(|&(a, b)| measure.of(&board.jobs[a]).zip(measure.of(&board.jobs[b])))
        .collect();
    let (first, second): (Vec<f64>, Vec<f64>) = own.iter().copied().unzip();
    let row = FindingRow::empty(metric, pairs.len());
    let Some((a, b)) = mean(&first).zip(mean(&second)) else { return row };
    let standing =
        |(a, b): &(f64, f64)| match (*b >= a * claim.factor && b > a, *a >= b * claim.factor && a > b) {
            (true, _) => Direction::Larger,
            (_, true) => Direction::Smaller,
            _ => Direction::Near,
        };
    let standings: Vec<Direction> = own.iter().map(standing).collect();
    FindingRow {
        first: Some(a),
        second: Some(b),
        difference: Some(b - a),
        missing: pairs.len() - own.len(),
        outcome: judged(claim, measure, &standings, pairs.len() - own.len()),
        ..row
    }
}

fn judged(claim: &Claim, measure: Measure, standings: &[Direction], missing: usize) -> Outcome {
    let (better, worse) = match measure.higher_is_better() {
        true => (Direction::Larger, Direction::Smaller),
        false => (Direction::Smaller, Direction::Larger),
    };
    // Whether a pair is as it is said, and whether it is the other way; neither: it does not tell.
    let is_said = |own: &Direction| match claim.expect {
        Expect::Higher => *own == Direction::Larger,
        Expect::Lower => *own == Direction::Smaller,
        Expect::Better => *own == better,
        Expect::Worse => *own == worse,
        Expect::NotBetter => *own != better,
        Expect::Equal => *own == Direction::Near,
    };
    let is_denied = |own: &Direction| match claim.expect {
        Expect::NotBetter | Expect::Equal => !is_said(own),
        // Two that did or did not converge are alike, two times are never.
        _ => !is_said(own) && (*own != Direction::Near || measure == Measure::Converged),
    };
    let (said, denied) = (
        standings.iter().filter(|own| is_said(own)).count(),
        standings.iter().filter(|own| is_denied(own)).count(),
    );
    match claim.pairs {
        OfPairs::Any if said > 0 => Outcome::Confirmed,
        OfPairs::Any if missing == 0 && denied == standings.len() => Outcome::Refuted,
        OfPairs::Every if missing == 0 && said == standings.len() => Outcome::Confirmed,
        OfPairs::Every if said == 0 && denied == standings.len() => Outcome::Refuted,
        OfPairs::Every if denied > 0 && matches!(claim.expect, Expect::Equal | Expect::NotBetter) => {
            Outcome::Refuted
        }
        _ => Outcome::Undecided,
    }
}
