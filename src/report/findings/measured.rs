//! Claims about measurements of runs and about convergence: every pair of runs is evidence.

use super::claim::{Claim, Expect, OfPairs};
use super::finding::{FindingRow, Outcome};
use crate::job::JobState;
use crate::stats::mean;
use crate::store::{BoardJob, Leaderboard};

/// A measurement of a run.
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
            Self::Converged => job.converged.map(|converged| f64::from(u8::from(converged))),
        };
        value.filter(|value| value.is_finite())
    }

    fn higher_is_better(self) -> bool {
        self == Self::Converged
    }
}

/// How the second run of a pair compares with the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// Larger by the claim's factor.
    Larger,
    /// Smaller by the claim's factor.
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
    let measured: Vec<(f64, f64)> = pairs
        .iter()
        .filter_map(|&(a, b)| measure.of(&board.jobs[a]).zip(measure.of(&board.jobs[b])))
        .collect();
    let (first, second): (Vec<f64>, Vec<f64>) = measured.iter().copied().unzip();
    let row = FindingRow::empty(metric, pairs.len());
    let Some((a, b)) = mean(&first).zip(mean(&second)) else { return row };
    let direction =
        |(a, b): &(f64, f64)| match (*b >= a * claim.factor && b > a, *a >= b * claim.factor && a > b) {
            (true, _) => Direction::Larger,
            (_, true) => Direction::Smaller,
            _ => Direction::Near,
        };
    let directions: Vec<Direction> = measured.iter().map(direction).collect();
    FindingRow {
        first: Some(a),
        second: Some(b),
        difference: Some(b - a),
        missing: pairs.len() - measured.len(),
        outcome: judged(claim, measure, &directions, pairs.len() - measured.len()),
        ..row
    }
}

fn judged(claim: &Claim, measure: Measure, directions: &[Direction], missing: usize) -> Outcome {
    let (better, worse) = match measure.higher_is_better() {
        true => (Direction::Larger, Direction::Smaller),
        false => (Direction::Smaller, Direction::Larger),
    };
    // Whether a pair supports the claim, and whether it contradicts it; if neither, it does not decide.
    let is_said = |direction: &Direction| match claim.expect {
        Expect::Higher => *direction == Direction::Larger,
        Expect::Lower => *direction == Direction::Smaller,
        Expect::Better => *direction == better,
        Expect::Worse => *direction == worse,
        Expect::NotBetter => *direction != better,
        Expect::Equal => *direction == Direction::Near,
    };
    let is_denied = |direction: &Direction| match claim.expect {
        Expect::NotBetter | Expect::Equal => !is_said(direction),
        // Two runs that both converged, or both did not, are equal; two times never are.
        _ => !is_said(direction) && (*direction != Direction::Near || measure == Measure::Converged),
    };
    let (confirmed, denied) = (
        directions.iter().filter(|direction| is_said(direction)).count(),
        directions.iter().filter(|direction| is_denied(direction)).count(),
    );
    match claim.pairs {
        OfPairs::Any if confirmed > 0 => Outcome::Confirmed,
        OfPairs::Any if missing == 0 && denied == directions.len() => Outcome::Refuted,
        OfPairs::Every if missing == 0 && confirmed == directions.len() => Outcome::Confirmed,
        OfPairs::Every if confirmed == 0 && denied == directions.len() => Outcome::Refuted,
        OfPairs::Every if denied > 0 && matches!(claim.expect, Expect::Equal | Expect::NotBetter) => {
            Outcome::Refuted
        }
        _ => Outcome::Undecided,
    }
}
