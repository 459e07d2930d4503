//! Metrics and aggregations of tasks.

use serde::{Deserialize, Serialize};

/// A metric of a document, by lm_eval's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The correct choice has the highest log-likelihood, or the continuation is the greedy one.
    Acc,
    /// `acc` with log-likelihoods divided by the length of the choice in characters.
    AccNorm,
    /// `acc` with log-likelihoods divided by the length of the choice in bytes of UTF-8.
    AccBytes,
    /// `acc` with each choice's unconditional log-likelihood subtracted.
    AccMutualInfo,
    /// The correct choice is the greedy continuation.
    ExactMatch,
    /// The pair of gold and predicted class, aggregated as F1.
    F1,
    /// The pair of gold and predicted class, aggregated as Matthews' correlation.
    Mcc,
    /// The squared distance of the choices' probabilities from the truth (Brier 1950).
    BrierScore,
    /// The log-likelihood, aggregated as exp(−mean).
    Perplexity,
    /// The log-likelihood of a whole text and its word count.
    WordPerplexity,
    /// The log-likelihood of a whole text and its byte count.
    BytePerplexity,
    /// The log-likelihood of a whole text and its byte count, in bits.
    BitsPerByte,
}

/// Aggregations over documents, by lm_eval's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Mean.
    Mean,
    /// Mean of the values that are not NaN.
    Nanmean,
    /// The median, the upper one of two.
    Median,
    /// exp(−mean).
    Perplexity,
    /// exp(−sum of log-likelihoods / sum of lengths).
    WeightedPerplexity,
    /// −sum of log-likelihoods / sum of lengths / ln 2.
    BitsPerByte,
    /// F1 of class 1.
    F1,
    /// F1 of each class, weighted by the class's frequency in the golds.
    WeightedF1,
    /// Matthews' correlation coefficient.
    MatthewsCorrcoef,
    /// Mean squared distance of probabilities from the truth.
    BrierScore,
}

/// A metric of a task with its aggregation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskMetric {
    /// The metric.
    pub metric: Metric,
    /// How documents' values are aggregated.
    pub aggregation: Aggregation,
}

/// The shape of a document's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Number,
    Classes,
    Weighted,
    Probabilities,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 12] = [
        Self::Acc,
        Self::AccNorm,
        Self::AccBytes,
        Self::AccMutualInfo,
        Self::ExactMatch,
        Self::F1,
        Self::Mcc,
        Self::BrierScore,
        Self::Perplexity,
        Self::WordPerplexity,
        Self::BytePerplexity,
        Self::BitsPerByte,
    ];

    /// lm_eval's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::AccBytes => "acc_bytes",
            Self::AccMutualInfo => "acc_mutual_info",
            Self::ExactMatch => "exact_match",
            Self::F1 => "f1",
            Self::Mcc => "mcc",
            Self::BrierScore => "brier_score",
            Self::Perplexity => "perplexity",
            Self::WordPerplexity => "word_perplexity",
            Self::BytePerplexity => "byte_perplexity",
            Self::BitsPerByte => "bits_per_byte",
        }
    }

    /// The metric with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == name)
    }

    /// Whether higher is better.
    pub fn higher_is_better(self) -> bool {
        !matches!(
            self,
            Self::Perplexity
                | Self::WordPerplexity
                | Self::BytePerplexity
                | Self::BitsPerByte
                | Self::BrierScore
        )
    }

    /// lm_eval's default aggregation.
    pub fn natural(self) -> Aggregation {
        match self {
            Self::Acc | Self::AccNorm | Self::AccBytes | Self::AccMutualInfo | Self::ExactMatch => {
                Aggregation::Mean
            }
            Self::F1 => Aggregation::F1,
            Self::Mcc => Aggregation::MatthewsCorrcoef,
            Self::BrierScore => Aggregation::BrierScore,
            Self::Perplexity => Aggregation::Perplexity,
            Self::WordPerplexity | Self::BytePerplexity => Aggregation::WeightedPerplexity,
            Self::BitsPerByte => Aggregation::BitsPerByte,
        }
    }

    fn shape(self) -> Shape {
        match self {
            Self::F1 | Self::Mcc => Shape::Classes,
            Self::BrierScore => Shape::Probabilities,
            Self::WordPerplexity | Self::BytePerplexity | Self::BitsPerByte => Shape::Weighted,
            Self::Acc
            | Self::AccNorm
            | Self::AccBytes
            | Self::AccMutualInfo
            | Self::ExactMatch
            | Self::Perplexity => Shape::Number,
        }
    }
}

impl Aggregation {
    /// Every aggregation.
    pub const ALL: [Self; 10] = [
        Self::Mean,
        Self::Nanmean,
        Self::Median,
        Self::Perplexity,
        Self::WeightedPerplexity,
        Self::BitsPerByte,
        Self::F1,
        Self::WeightedF1,
        Self::MatthewsCorrcoef,
        Self::BrierScore,
    ];

    /// lm_eval's name; the weighted F1 is a function there.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Nanmean => "nanmean",
            Self::Median => "median",
            Self::Perplexity => "perplexity",
            Self::WeightedPerplexity => "weighted_perplexity",
            Self::BitsPerByte => "bits_per_byte",
            Self::F1 => "f1",
            Self::WeightedF1 => "weighted_f1_score",
            Self::MatthewsCorrcoef => "matthews_corrcoef",
            Self::BrierScore => "brier_score",
        }
    }

    /// The aggregation with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|aggregation| aggregation.as_str() == name)
    }

    /// Whether it applies to a metric's values.
    pub fn fits(self, metric: Metric) -> bool {
        self.shape() == metric.shape()
    }

    /// Whether a document's value is a single number.
    pub(in crate::task) fn is_of_numbers(self) -> bool {
        self.shape() == Shape::Number
    }

    fn shape(self) -> Shape {
        match self {
            Self::Mean | Self::Nanmean | Self::Median | Self::Perplexity => Shape::Number,
            Self::WeightedPerplexity | Self::BitsPerByte => Shape::Weighted,
            Self::F1 | Self::WeightedF1 | Self::MatthewsCorrcoef => Shape::Classes,
            Self::BrierScore => Shape::Probabilities,
        }
    }
}

impl From<Metric> for TaskMetric {
    fn from(metric: Metric) -> Self {
        Self { metric, aggregation: metric.natural() }
    }
}
