//! Metrics and aggregations of tasks.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::task::published::AggregationFunction;

/// The name of the pipeline where a task file has none.
const NO_FILTER: &str = "none";

/// Defines the metrics, each with lm_eval's name.
macro_rules! metrics {
    ($($(#[$doc:meta])* $value:ident = $name:literal,)+) => {
        /// A metric of a document, by lm_eval's names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $($(#[$doc])* $value,)+
            /// A metric of a task's answers after a named filter pipeline.
            Filtered(&'static FilteredMetric),
        }

        impl Metric {
            /// Every metric by itself.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// lm_eval's name; after a pipeline other than `none` that of both, such as `exact_match,strict-match`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                    Self::Filtered(filtered) => &filtered.name,
                }
            }
        }
    };
}

metrics! {
    /// The correct choice has the highest log-likelihood, or the continuation is the greedy one.
    Acc = "acc",
    /// `acc` with log-likelihoods divided by the length of the choice in characters.
    AccNorm = "acc_norm",
    /// `acc` with log-likelihoods divided by the length of the choice in bytes of UTF-8.
    AccBytes = "acc_bytes",
    /// `acc` with each choice's unconditional log-likelihood subtracted.
    AccMutualInfo = "acc_mutual_info",
    /// The correct choice is the greedy continuation; the generated answer is the target.
    ExactMatch = "exact_match",
    /// The pair of gold and predicted class, aggregated as F1; of an answer, the F1 of its words.
    F1 = "f1",
    /// The pair of gold and predicted class, aggregated as Matthews' correlation.
    Mcc = "mcc",
    /// The squared distance of the choices' probabilities from the truth (Brier 1950).
    BrierScore = "brier_score",
    /// The log-likelihood, aggregated as exp(−mean).
    Perplexity = "perplexity",
    /// The log-likelihood of a whole text and its word count.
    WordPerplexity = "word_perplexity",
    /// The log-likelihood of a whole text and its byte count.
    BytePerplexity = "byte_perplexity",
    /// The log-likelihood of a whole text and its byte count, in bits.
    BitsPerByte = "bits_per_byte",
    /// BLEU (Papineni et al. 2002) of all answers, as in sacrebleu.
    Bleu = "bleu",
    /// chrF (Popović 2015) of all answers, as in sacrebleu.
    Chrf = "chrf",
    /// chrF++ (Popović 2017) of all answers, as in sacrebleu.
    ChrfPlusPlus = "chrf++",
    /// Translation edit rate (Snover et al. 2006) of all answers, as in sacrebleu.
    Ter = "ter",
    /// CrowS-Pairs: how much likelier the one sentence is.
    LikelihoodDiff = "likelihood_diff",
    /// CrowS-Pairs: whether the stereotype is likelier.
    PctStereotype = "pct_stereotype",
    /// Leaderboard MATH: the answer by Minerva's rules, without what needs computer algebra.
    ExactMatchOriginal = "exact_match_original",
    /// The answer's exact match, by a name of DROP and CoQA.
    Em = "em",
    /// IFEval: every instruction of a prompt is followed.
    PromptLevelStrict = "prompt_level_strict_acc",
    /// IFEval: each instruction is followed.
    InstLevelStrict = "inst_level_strict_acc",
    /// IFEval: every instruction is followed, with lenience for the first and last line.
    PromptLevelLoose = "prompt_level_loose_acc",
    /// IFEval: each instruction is followed, with lenience for the first and last line.
    InstLevelLoose = "inst_level_loose_acc",
    /// TruthfulQA: the highest BLEU with a true answer.
    BleuMax = "bleu_max",
    /// TruthfulQA: whether a true answer has the highest BLEU.
    BleuAcc = "bleu_acc",
    /// TruthfulQA: the highest BLEU with a true answer less that with a false one.
    BleuDiff = "bleu_diff",
    /// TruthfulQA: as for BLEU.
    Rouge1Max = "rouge1_max",
    /// TruthfulQA: as for BLEU.
    Rouge1Acc = "rouge1_acc",
    /// TruthfulQA: as for BLEU.
    Rouge1Diff = "rouge1_diff",
    /// TruthfulQA: as for BLEU.
    Rouge2Max = "rouge2_max",
    /// TruthfulQA: as for BLEU.
    Rouge2Acc = "rouge2_acc",
    /// TruthfulQA: as for BLEU.
    Rouge2Diff = "rouge2_diff",
    /// TruthfulQA: as for BLEU.
    RougeLMax = "rougeL_max",
    /// TruthfulQA: as for BLEU.
    RougeLAcc = "rougeL_acc",
    /// TruthfulQA: as for BLEU.
    RougeLDiff = "rougeL_diff",
}

/// A metric after a filter pipeline.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilteredMetric {
    base: Metric,
    name: String,
}

/// What stands between a metric and its pipeline.
const FILTER: char = ',';

/// Every metric after a pipeline that this process has met. They are few, and kept for its life: a metric is copied everywhere.
static FILTERED: Mutex<BTreeMap<String, &'static FilteredMetric>> = Mutex::new(BTreeMap::new());

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
    /// Mean of all values of all documents.
    FlatMean,
    /// The mean F1 of the classes that occur.
    MacroF1,
    /// The share of right classes.
    MicroF1,
    /// The mean F1 of the classes 0, 1 and 2.
    ThreeClassF1,
    /// BLEU of the summed counts, in percent.
    Bleu,
    /// chrF of the summed counts, in percent.
    Chrf,
    /// chrF++ of the summed counts, in percent.
    #[serde(rename = "chrf++")]
    ChrfPlusPlus,
    /// Edits per reference word, in percent.
    Ter,
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
    Numbers,
    Classes,
    Weighted,
    Probabilities,
    Bleu,
    Chrf,
    ChrfPlusPlus,
    Ter,
}

impl Metric {
    /// The metric with this name.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(found) = Self::ALL.iter().copied().find(|metric| metric.as_str() == name) {
            return Some(found);
        }
        let (base, filter) = name.split_once(FILTER)?;
        Some(Self::named(base)?.after(filter))
    }

    /// The metric after a pipeline; after `none` the metric itself.
    pub fn after(self, filter: &str) -> Self {
        if filter == NO_FILTER {
            return self;
        }
        let name = format!("{}{FILTER}{filter}", self.as_str());
        // A panic elsewhere leaves the table as it was.
        let mut known = FILTERED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let filtered = known
            .entry(name.clone())
            .or_insert_with(|| Box::leak(Box::new(FilteredMetric { base: self.base(), name })));
        Self::Filtered(filtered)
    }

    /// The metric without a pipeline.
    pub fn base(self) -> Self {
        match self {
            Self::Filtered(filtered) => filtered.base,
            metric => metric,
        }
    }

    /// The pipeline that precedes it.
    pub fn filter(self) -> &'static str {
        match self {
            Self::Filtered(filtered) => {
                filtered.name.split_once(FILTER).map_or(NO_FILTER, |(_, filter)| filter)
            }
            _ => NO_FILTER,
        }
    }

    /// Whether higher is better.
    pub fn higher_is_better(self) -> bool {
        !matches!(
            self.base(),
            Self::Perplexity
                | Self::WordPerplexity
                | Self::BytePerplexity
                | Self::BitsPerByte
                | Self::BrierScore
                | Self::Ter
                | Self::LikelihoodDiff
                | Self::PctStereotype
        )
    }

    /// lm_eval's default aggregation.
    pub fn natural(self) -> Aggregation {
        match self.base() {
            Self::F1 => Aggregation::F1,
            Self::Mcc => Aggregation::MatthewsCorrcoef,
            Self::BrierScore => Aggregation::BrierScore,
            Self::Perplexity => Aggregation::Perplexity,
            Self::WordPerplexity | Self::BytePerplexity => Aggregation::WeightedPerplexity,
            Self::BitsPerByte => Aggregation::BitsPerByte,
            Self::Bleu => Aggregation::Bleu,
            Self::Chrf => Aggregation::Chrf,
            Self::ChrfPlusPlus => Aggregation::ChrfPlusPlus,
            Self::Ter => Aggregation::Ter,
            Self::InstLevelStrict | Self::InstLevelLoose => Aggregation::FlatMean,
            _ => Aggregation::Mean,
        }
    }

    /// The shapes that a document's value can have.
    fn shapes(self) -> &'static [Shape] {
        match self.base() {
            Self::F1 => &[Shape::Classes, Shape::Number],
            Self::Mcc => &[Shape::Classes],
            Self::BrierScore => &[Shape::Probabilities],
            Self::WordPerplexity | Self::BytePerplexity | Self::BitsPerByte => &[Shape::Weighted],
            Self::Bleu => &[Shape::Bleu],
            Self::Chrf => &[Shape::Chrf],
            Self::ChrfPlusPlus => &[Shape::ChrfPlusPlus],
            Self::Ter => &[Shape::Ter],
            Self::InstLevelStrict | Self::InstLevelLoose => &[Shape::Numbers],
            _ => &[Shape::Number],
        }
    }
}

impl Serialize for Metric {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| serde::de::Error::custom(format!("unknown metric '{name}'")))
    }
}

impl Aggregation {
    /// Every aggregation.
    pub const ALL: [Self; 18] = [
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
        Self::FlatMean,
        Self::MacroF1,
        Self::MicroF1,
        Self::ThreeClassF1,
        Self::Bleu,
        Self::Chrf,
        Self::ChrfPlusPlus,
        Self::Ter,
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
            Self::FlatMean => "flat_mean",
            Self::MacroF1 => "macro_f1",
            Self::MicroF1 => "micro_f1",
            Self::ThreeClassF1 => "three_class_f1",
            Self::Bleu => "bleu",
            Self::Chrf => "chrf",
            Self::ChrfPlusPlus => "chrf++",
            Self::Ter => "ter",
        }
    }

    /// The aggregation with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|aggregation| aggregation.as_str() == name)
    }

    /// The aggregation that a published function computes; none for one that is not supported.
    pub(in crate::task) fn published(function: AggregationFunction) -> Option<Self> {
        match function {
            AggregationFunction::MeanOverInstructions => Some(Self::FlatMean),
            AggregationFunction::MacroF1 => Some(Self::MacroF1),
            AggregationFunction::MicroF1 => Some(Self::MicroF1),
            AggregationFunction::ThreeClassF1 => Some(Self::ThreeClassF1),
            AggregationFunction::SpanF1
            | AggregationFunction::TagAccuracy
            | AggregationFunction::MeanTokenF1 => None,
        }
    }

    /// Whether it applies to a metric's values.
    pub fn fits(self, metric: Metric) -> bool {
        metric.shapes().contains(&self.shape())
    }

    /// Whether a document's value is a single number.
    pub(in crate::task) fn is_of_numbers(self) -> bool {
        self.shape() == Shape::Number
    }

    fn shape(self) -> Shape {
        match self {
            Self::Mean | Self::Nanmean | Self::Median | Self::Perplexity => Shape::Number,
            Self::WeightedPerplexity | Self::BitsPerByte => Shape::Weighted,
            Self::F1
            | Self::WeightedF1
            | Self::MacroF1
            | Self::MicroF1
            | Self::ThreeClassF1
            | Self::MatthewsCorrcoef => Shape::Classes,
            Self::BrierScore => Shape::Probabilities,
            Self::FlatMean => Shape::Numbers,
            Self::Bleu => Shape::Bleu,
            Self::Chrf => Shape::Chrf,
            Self::ChrfPlusPlus => Shape::ChrfPlusPlus,
            Self::Ter => Shape::Ter,
        }
    }
}

impl From<Metric> for TaskMetric {
    fn from(metric: Metric) -> Self {
        Self { metric, aggregation: metric.natural() }
    }
}
