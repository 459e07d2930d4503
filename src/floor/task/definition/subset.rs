//! Which documents of a task are scored.

use serde::{Deserialize, Serialize};

/// Which documents of a task are scored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subset {
    /// All of them.
    #[default]
    All,
    /// The first n.
    First(u64),
    /// The first fraction of them, rounded up; between 0 and 1.
    Part(f64),
    /// These, by index.
    Numbers(Vec<usize>),
}

impl Subset {
    /// lm_eval's `--limit`: a number below 1 is a fraction. None for an invalid limit.
    pub fn limit(limit: f64) -> Option<Self> {
        match limit {
            x if !x.is_finite() || x <= 0.0 => None,
            x if x < 1.0 => Some(Self::Part(x)),
            x => Some(Self::First(x as u64)),
        }
    }

    /// The indices of the selected documents out of `all`, ascending; out-of-range ones are dropped.
    pub fn of(&self, all: usize) -> Vec<usize> {
        match self {
            Self::All => (0..all).collect(),
            Self::First(n) => (0..all.min(usize::try_from(*n).unwrap_or(usize::MAX))).collect(),
            Self::Part(part) => (0..all.min((all as f64 * part).ceil() as usize)).collect(),
            Self::Numbers(numbers) => {
                let mut numbers: Vec<usize> = numbers.iter().copied().filter(|n| *n < all).collect();
                numbers.sort_unstable();
                numbers.dedup();
                numbers
            }
        }
    }
}

impl From<Option<u64>> for Subset {
    fn from(limit: Option<u64>) -> Self {
        limit.map_or(Self::All, Self::First)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_one_is_a_part_rounded_up_and_one_is_one_document() {
        assert_eq!(Subset::limit(0.25).unwrap().of(5), [0, 1]);
        assert_eq!(Subset::limit(1.0).unwrap().of(5), [0]);
        assert_eq!(Subset::limit(2.9).unwrap().of(5), [0, 1]);
        assert_eq!((Subset::limit(0.0), Subset::limit(-1.0)), (None, None));
        assert_eq!(Subset::Numbers(vec![4, 1, 1, 9]).of(5), [1, 4]);
    }
}
