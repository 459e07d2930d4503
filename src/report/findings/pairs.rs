//! The pairs of jobs that a claim compares.

use super::claim::{Claim, Side};
use crate::job::{Origin, Settings, find_key};
use crate::report::board::base_of;
use crate::store::{BoardJob, Leaderboard};

/// The pairs of jobs that a claim compares, by their positions in the board: equal in every axis that the claim does not name; an
/// untrained model is paired with the jobs that train it. If both sides select the same jobs, every two form one pair.
pub fn jobs_of(board: &Leaderboard, claim: &Claim) -> Vec<(usize, usize)> {
    let named: Vec<&str> = [claim.first.keys(), claim.second.keys()].concat();
    let axes: Vec<&String> = board.axes.iter().filter(|axis| !named.contains(&axis.as_str())).collect();
    let (first, second) = (side(board, &claim.first), side(board, &claim.second));
    let bases: Vec<&BoardJob> = board.jobs.iter().filter(|job| job.is_base).collect();
    let is_base_of =
        |base: &BoardJob, job: &BoardJob| base_of(job, &bases).is_some_and(|found| found.id == base.id);
    let alike = |a: &BoardJob, b: &BoardJob| match (a.is_cell(), b.is_cell()) {
        (true, true) => axes.iter().all(|axis| a.settings.get(*axis) == b.settings.get(*axis)),
        (false, true) => is_base_of(a, b),
        (true, false) => is_base_of(b, a),
        (false, false) => false,
    };
    let is_turned = |a: usize, b: usize| a > b && first.contains(&b) && second.contains(&a);
    let of = |&b: &usize| {
        let matching = first.iter().filter(move |&&a| a != b && !is_turned(a, b));
        matching.filter(|&&a| alike(&board.jobs[a], &board.jobs[b])).map(|&a| (a, b)).collect::<Vec<_>>()
    };
    second.iter().flat_map(of).collect()
}

fn side(board: &Leaderboard, side: &Side) -> Vec<usize> {
    let holds = |job: &BoardJob| match side {
        Side::Base => job.is_base,
        Side::Where(expression) => {
            let mut settings = Settings::new();
            for path in expression.keys() {
                if let (Some(key), Some(value)) = (find_key(path), job.settings.get(path)) {
                    settings.set(key, value.clone(), Origin::Default);
                }
            }
            job.is_cell() && expression.holds(&settings).unwrap_or(false)
        }
    };
    (0..board.jobs.len()).filter(|&at| holds(&board.jobs[at])).collect()
}
