//! Generated data sets: two-digit arithmetic whose test pairs are in no training row.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::rows::Row;
use crate::random::{Purpose, Stream};

/// Smallest and largest operand.
const OPERANDS: std::ops::RangeInclusive<i64> = 10..=99;
/// How many of the 8,100 ordered pairs are kept for the test split.
const TEST_PAIRS: usize = 1000;
/// Seed of the shuffle that splits the pairs; part of the data set's identity.
const SEED: u64 = 20_231_012;

/// Split of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training rows.
    Train,
    /// Test rows.
    Test,
}

/// An operation on two two-digit numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// `59 minus 38` is `21`.
    TwoDigitSubtraction,
    /// `59 plus 38` is `97`.
    TwoDigitAddition,
}

impl Arithmetic {
    /// Every preset.
    pub const ALL: [Self; 2] = [Self::TwoDigitSubtraction, Self::TwoDigitAddition];

    /// The preset's name in a sweep file.
    pub fn name(self) -> &'static str {
        match self {
            Self::TwoDigitSubtraction => "two_digit_subtraction",
            Self::TwoDigitAddition => "two_digit_addition",
        }
    }

    /// Identity of the rows: change it when they change.
    pub fn identity(self) -> String {
        format!("{} {OPERANDS:?} test={TEST_PAIRS} seed={SEED} v1", self.name())
    }

    /// The rows of a split, with the columns `question`, `answer`, `context` and `completion`; the last two are prompt
    /// and continuation as in GPT-3's arithmetic sets.
    pub fn rows(self, split: Split) -> Vec<Row> {
        let pairs: Vec<(i64, i64)> = OPERANDS.flat_map(|a| OPERANDS.map(move |b| (a, b))).collect();
        let order = Stream::new(SEED, Purpose::Data, 0).permutation(pairs.len());
        let chosen = match split {
            Split::Test => &order[..TEST_PAIRS],
            Split::Train => &order[TEST_PAIRS..],
        };
        chosen.iter().map(|&index| self.row(pairs[index])).collect()
    }

    fn row(self, (a, b): (i64, i64)) -> Row {
        let (word, result) = match self {
            Self::TwoDigitSubtraction => ("minus", a - b),
            Self::TwoDigitAddition => ("plus", a + b),
        };
        let question = format!("What is {a} {word} {b}?");
        let context = format!("Question: {question}\nAnswer:");
        let columns = [
            ("question", json!(question)),
            ("answer", json!(result.to_string())),
            ("context", json!(context)),
            ("completion", json!(format!(" {result}"))),
        ];
        columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_test_pair_is_trained_on_and_none_is_lost() {
        let questions = |split| -> HashSet<String> {
            Arithmetic::TwoDigitSubtraction
                .rows(split)
                .iter()
                .map(|row| row["question"].to_string())
                .collect()
        };
        let (train, test) = (questions(Split::Train), questions(Split::Test));
        assert_eq!((train.len(), test.len()), (7100, 1000));
        assert!(train.is_disjoint(&test));
    }

    #[test]
    fn a_row_asks_and_answers() {
        let row = Arithmetic::TwoDigitSubtraction.row((59, 38));
        assert_eq!(row["context"], "Question: What is 59 minus 38?\nAnswer:");
        assert_eq!(row["completion"], " 21");
        assert_eq!(Arithmetic::TwoDigitAddition.row((59, 38))["answer"], "97");
    }
}
