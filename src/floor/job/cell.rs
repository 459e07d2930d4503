//! Cells: the jobs of a sweep that differ only in their seed, and their leaderboard order.

use std::cmp::Ordering;
use std::fmt;

use super::real::for_ranking;
use super::{JobId, Value};

/// The axis that distinguishes the jobs of a cell.
pub const SEED: &str = "seed";

/// The identity of a cell: the values of its axes as a JSON object, or the id of a single-job cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey(String);

impl CellKey {
    /// The cell of a grid job with these values, without the seed and without axes that have no value.
    pub fn of<'a>(axes: impl IntoIterator<Item = (&'a str, Option<&'a Value>)>) -> Self {
        Self::by(axes.into_iter().filter(|(path, _)| *path != SEED))
    }

    /// The cell of a job grouped by these keys, including the seed if it is one of them.
    pub fn by<'a>(keys: impl IntoIterator<Item = (&'a str, Option<&'a Value>)>) -> Self {
        let values =
            keys.into_iter().filter_map(|(path, value)| Some((path.to_owned(), serde_json::json!(value?))));
        Self(serde_json::Value::Object(values.collect()).to_string())
    }

    /// A single-job cell: an untrained model, or results of another program.
    pub fn alone(job: &JobId) -> Self {
        Self(job.to_string())
    }

    /// Whether this is a grid cell in database form.
    pub fn is_of_grid(stored: &str) -> bool {
        stored.starts_with('{')
    }

    /// The database form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CellKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rank of a cell by one number of its jobs, such as the objective's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CellRank {
    class: Class,
    /// The mean, signed so smaller is better; 0 without one.
    value: f64,
}

/// Order of the groups, before the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Base,
    Whole,
    LacksSeeds,
    WithoutValue,
}

impl CellRank {
    /// Ranks a cell of `jobs` jobs by the numbers they have. Untrained models come first, then cells in which every job
    /// has one, then those with some missing, then those without any or whose mean is not finite. Sums depend on the
    /// order of `values`: use the plan's order wherever ranks are compared.
    pub fn new(is_base: bool, jobs: usize, values: &[f64], higher_is_better: bool) -> Self {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let class = match values.len() {
            _ if is_base => Class::Base,
            0 => Class::WithoutValue,
            _ if !mean.is_finite() => Class::WithoutValue,
            some if some < jobs => Class::LacksSeeds,
            _ => Class::Whole,
        };
        let value = if mean.is_finite() { mean } else { 0.0 };
        Self { class, value: if higher_is_better { -value } else { value } }
    }

    /// Whether it can be the best: a grid cell in which every job has a number.
    pub fn competes(&self) -> bool {
        self.class == Class::Whole
    }

    /// Better first. Numbers that differ only by rounding of their last digits compare equal, so sorting keeps the
    /// plan's order among them.
    pub fn compare(&self, other: &Self) -> Ordering {
        let by_value = || for_ranking(self.value).total_cmp(&for_ranking(other.value));
        self.class.cmp(&other.class).then_with(by_value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_differ_in_their_seed_are_one_cell() {
        let cell = |rank, seed| {
            CellKey::of([("lora.rank", Some(&Value::Integer(rank))), ("seed", Some(&Value::Integer(seed)))])
        };
        assert_eq!(cell(8, 1), cell(8, 2));
        assert_ne!(cell(8, 1), cell(16, 1));
        assert_eq!(cell(8, 1).as_str(), r#"{"lora.rank":8}"#);
        assert!(CellKey::is_of_grid(cell(8, 1).as_str()));
    }

    #[test]
    fn base_models_lead_then_whole_cells_the_better_first_then_what_lacks_seeds() {
        let base = CellRank::new(true, 1, &[0.1], true);
        let good = CellRank::new(false, 2, &[0.8, 0.9], true);
        let bad = CellRank::new(false, 2, &[0.2, 0.3], true);
        let lacks = CellRank::new(false, 2, &[0.99], true);
        let none = CellRank::new(false, 2, &[], true);
        let infinite = CellRank::new(false, 1, &[f64::INFINITY], true);
        let ranks = [base, good, bad, lacks, none];
        for pair in ranks.windows(2) {
            assert_eq!(pair[0].compare(&pair[1]), Ordering::Less, "{pair:?}");
        }
        assert_eq!(none.compare(&infinite), Ordering::Equal);
        assert_eq!(ranks.map(|rank| rank.competes()), [false, true, true, false, false]);
        let (low, high) = (CellRank::new(false, 1, &[3.0], false), CellRank::new(false, 1, &[4.0], false));
        assert_eq!(low.compare(&high), Ordering::Less, "a perplexity is better when it is lower");
    }
}
