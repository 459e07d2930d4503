//! Cells: the jobs of a sweep that differ in their seed only, and their order on a leaderboard.

use std::cmp::Ordering;
use std::fmt;

use super::real::for_ranking;
use super::{JobId, Value};

/// The axis that tells the jobs of a cell apart.
pub const SEED: &str = "seed";

/// What the jobs of a cell have in common: the values of its axes as a JSON object, or the id of a job that is a cell alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey(String);

impl CellKey {
    /// Of a job of the grid with these values; the seed is left out, and so is an axis that has no value in it.
    pub fn of<'a>(axes: impl IntoIterator<Item = (&'a str, Option<&'a Value>)>) -> Self {
        Self::by(axes.into_iter().filter(|(path, _)| *path != SEED))
    }

    /// Of a job that is grouped by these keys, the seed too where it is one of them.
    pub fn by<'a>(keys: impl IntoIterator<Item = (&'a str, Option<&'a Value>)>) -> Self {
        let values =
            keys.into_iter().filter_map(|(path, value)| Some((path.to_owned(), serde_json::json!(value?))));
        Self(serde_json::Value::Object(values.collect()).to_string())
    }

    /// Of a job that is a cell alone: an untrained model, or results of another program.
    pub fn alone(job: &JobId) -> Self {
        Self(job.to_string())
    }

    /// Whether this is how the database spells a cell of the grid.
    pub fn is_of_grid(stored: &str) -> bool {
        stored.starts_with('{')
    }

    /// As the database holds it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CellKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a cell stands by one number of its jobs, such as the objective's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CellRank {
    class: Class,
    /// The mean, signed so that smaller is better; 0 without one.
    value: f64,
}

/// What comes before what, whatever the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Base,
    Whole,
    LacksSeeds,
    WithoutValue,
}

impl CellRank {
    /// Of a cell of `jobs` jobs, by those numbers that they have. Untrained models come first, then cells whose every job has one, then
    /// those that lack some, then those without any or whose mean is not finite. Sums depend on the order of `values`: it has to be
    /// the plan's wherever ranks are compared.
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

    /// Whether it can be the best: a cell of the grid whose every job has a number.
    pub fn competes(&self) -> bool {
        self.class == Class::Whole
    }

    /// The better one first. Numbers that are equal but for the rounding of their last digits are equal: those who sort keep the plan's
    /// order among them.
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
