//! Aggregates documents' values to a task's value and its standard error, as in lm_eval.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::python::PythonRandom;
use crate::task::metric::kind::{Aggregation, Metric, TaskMetric};
use crate::task::text_score::{bleu, chrf, ter};

/// A document's value of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DocumentValue {
    /// A number.
    Number(#[serde(with = "crate::job::real")] f64),
    /// Gold and predicted class; log-likelihood and length; gold class and the probability of each; counts of n-grams or edits.
    Parts(#[serde(with = "crate::job::real::list")] Vec<f64>),
}

impl DocumentValue {
    /// The number, or an element of several; NaN if missing.
    pub fn part(&self, index: usize) -> f64 {
        match self {
            Self::Number(number) if index == 0 => *number,
            Self::Number(_) => f64::NAN,
            Self::Parts(parts) => parts.get(index).copied().unwrap_or(f64::NAN),
        }
    }

    /// All of its numbers.
    pub fn parts(&self) -> &[f64] {
        match self {
            Self::Number(number) => std::slice::from_ref(number),
            Self::Parts(parts) => parts,
        }
    }
}

/// A task's value of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// The metric.
    pub metric: Metric,
    /// Its value over all documents. NaN if scikit-learn rejects the classes.
    pub value: f64,
    /// Standard error: of the mean for means, by bootstrap for perplexity, F1, correlation and median; absent otherwise
    /// and for one document.
    pub stderr: Option<f64>,
    /// Number of documents.
    pub documents: u64,
}

/// Bootstrap resamples, fewer for metrics of texts, and how many are drawn per generator.
const RESAMPLES: usize = 100_000;
const RESAMPLES_OF_TEXTS: usize = 100;
const CHUNK: usize = 1_000;

/// The aggregate of at least one document's values.
pub fn aggregate(metric: TaskMetric, values: &[DocumentValue]) -> Aggregate {
    let whole = statistic(metric.aggregation, &mut values.iter());
    let stderr = (values.len() > 1).then(|| standard_error(metric.aggregation, values, RESAMPLES)).flatten();
    Aggregate { metric: metric.metric, value: whole, stderr, documents: values.len() as u64 }
}

fn standard_error(aggregation: Aggregation, values: &[DocumentValue], resamples: usize) -> Option<f64> {
    use Aggregation::*;
    match aggregation {
        Mean => {
            let n = values.len() as f64;
            let mean = values.iter().map(|value| value.part(0)).sum::<f64>() / n;
            let squares: f64 = values.iter().map(|value| (value.part(0) - mean).powi(2)).sum();
            Some((squares / (n - 1.0)).sqrt() / n.sqrt())
        }
        Perplexity | F1 | MatthewsCorrcoef | Median | Nanmean => {
            Some(bootstrap(values, resamples, |resample| statistic(aggregation, resample)))
        }
        Bleu | Chrf | ChrfPlusPlus | Ter => {
            let resamples = resamples.min(RESAMPLES_OF_TEXTS);
            Some(bootstrap(values, resamples, |resample| statistic(aggregation, resample)))
        }
        WeightedPerplexity | BitsPerByte | BrierScore | WeightedF1 | MacroF1 | MicroF1 | ThreeClassF1
        | FlatMean => None,
    }
}

pub(in crate::task) fn statistic(
    aggregation: Aggregation,
    values: &mut dyn Iterator<Item = &DocumentValue>,
) -> f64 {
    use Aggregation::*;
    match aggregation {
        Mean => mean(&mut values.map(|value| value.part(0))),
        Nanmean => mean(&mut values.map(|value| value.part(0)).filter(|x| !x.is_nan())),
        Median => {
            let mut numbers: Vec<f64> = values.map(|value| value.part(0)).collect();
            numbers.sort_by(f64::total_cmp);
            numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
        }
        Perplexity => (-mean(&mut values.map(|value| value.part(0)))).exp(),
        WeightedPerplexity => (-weighted(values)).exp(),
        BitsPerByte => -weighted(values) / std::f64::consts::LN_2,
        BrierScore => mean(&mut values.map(brier)),
        F1 => Classes::of(values).binary_f1(),
        WeightedF1 => Classes::of(values).weighted_f1(),
        MacroF1 => Classes::of(values).macro_f1(),
        MicroF1 => Classes::of(values).micro_f1(),
        ThreeClassF1 => Classes::of(values).three_class_f1(),
        MatthewsCorrcoef => Classes::of(values).correlation(),
        FlatMean => {
            let parts = |value: &DocumentValue| value.parts().to_vec();
            mean(&mut values.flat_map(parts))
        }
        Bleu => bleu::score(&summed(values)),
        Chrf | ChrfPlusPlus => chrf::score(&summed(values)),
        Ter => ter::score(&summed(values)),
    }
}

/// The sums of each part over documents.
fn summed(values: &mut dyn Iterator<Item = &DocumentValue>) -> Vec<f64> {
    let mut sums: Vec<f64> = Vec::new();
    for value in values {
        let parts = value.parts();
        sums.resize(sums.len().max(parts.len()), 0.0);
        sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
    }
    sums
}

fn mean(numbers: &mut dyn Iterator<Item = f64>) -> f64 {
    let (sum, count) = numbers.fold((0.0, 0u64), |(sum, count), x| (sum + x, count + 1));
    sum / count as f64
}

fn weighted(values: &mut dyn Iterator<Item = &DocumentValue>) -> f64 {
    let (sum, length) =
        values.fold((0.0, 0.0), |(sum, length), value| (sum + value.part(0), length + value.part(1)));
    sum / length
}

/// Squared distance of probabilities from the truth: the gold class, then the probability of each.
pub(in crate::task) fn brier(value: &DocumentValue) -> f64 {
    let DocumentValue::Parts(parts) = value else { return f64::NAN };
    let Some((gold, probabilities)) = parts.split_first() else { return f64::NAN };
    let truth = |class: usize| f64::from(u8::from(class as f64 == *gold));
    probabilities.iter().enumerate().map(|(class, p)| (p - truth(class)).powi(2)).sum()
}

/// Count of each pair of gold and predicted class.
pub(in crate::task) struct Classes {
    pairs: BTreeMap<(i64, i64), f64>,
}

impl Classes {
    fn of(values: &mut dyn Iterator<Item = &DocumentValue>) -> Self {
        let mut pairs = BTreeMap::new();
        for value in values {
            *pairs.entry((value.part(0) as i64, value.part(1) as i64)).or_insert(0.0) += 1.0;
        }
        Self { pairs }
    }

    /// From pair counts; missing pairs are left out.
    pub(in crate::task) fn counted(pairs: impl Iterator<Item = ((i64, i64), f64)>) -> Self {
        Self { pairs: pairs.filter(|(_, count)| *count > 0.0).collect() }
    }

    fn count(&self, counts: impl Fn(&(i64, i64)) -> bool) -> f64 {
        // An empty sum would be -0.
        self.pairs.iter().filter(|(pair, _)| counts(pair)).fold(0.0, |sum, (_, count)| sum + count)
    }

    fn labels(&self) -> Vec<i64> {
        let mut labels: Vec<i64> = self.pairs.keys().flat_map(|(gold, chosen)| [*gold, *chosen]).collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    }

    /// 2·true positives / (gold + predicted); 0 for a class without either.
    fn f1(&self, class: i64) -> f64 {
        let right = self.count(|(gold, _)| *gold == class);
        let chosen = self.count(|(_, chosen)| *chosen == class);
        let both = self.count(|(gold, chosen)| *gold == class && *chosen == class);
        if right + chosen > 0.0 { 2.0 * both / (right + chosen) } else { 0.0 }
    }

    pub(in crate::task) fn binary_f1(&self) -> f64 {
        if self.labels().iter().any(|label| !(0..2).contains(label)) {
            return f64::NAN;
        }
        self.f1(1)
    }

    pub(in crate::task) fn weighted_f1(&self) -> f64 {
        let all = self.count(|_| true);
        let part = |class: &i64| self.count(|(gold, _)| gold == class) / all * self.f1(*class);
        self.labels().iter().map(part).sum()
    }

    /// The mean over the classes that occur.
    pub(in crate::task) fn macro_f1(&self) -> f64 {
        let labels = self.labels();
        labels.iter().map(|class| self.f1(*class)).sum::<f64>() / labels.len() as f64
    }

    /// With one class a document, the share of right ones.
    pub(in crate::task) fn micro_f1(&self) -> f64 {
        self.count(|(gold, chosen)| gold == chosen) / self.count(|_| true)
    }

    /// CommitmentBank's mean over its three classes.
    pub(in crate::task) fn three_class_f1(&self) -> f64 {
        (0..3).map(|class| self.f1(class)).sum::<f64>() / 3.0
    }

    /// The multiclass form (Gorodkin 2004); 0 if either side has only one class.
    pub(in crate::task) fn correlation(&self) -> f64 {
        let all = self.count(|_| true);
        let right = self.count(|(gold, chosen)| gold == chosen);
        let labels = self.labels();
        let golds = |class: i64| self.count(|(gold, _)| *gold == class);
        let choices = |class: i64| self.count(|(_, chosen)| *chosen == class);
        let sum = |of: &dyn Fn(i64) -> f64| labels.iter().map(|class| of(*class)).sum::<f64>();
        let covariance = right * all - sum(&|class| golds(class) * choices(class));
        let chosen = all * all - sum(&|class| choices(class).powi(2));
        let given = all * all - sum(&|class| golds(class).powi(2));
        if chosen * given == 0.0 { 0.0 } else { covariance / (chosen * given).sqrt() }
    }
}

/// Bootstrap standard error with lm_eval's draws: chunk i by `Random(i).choices`, then the sample standard deviation of
/// all.
fn bootstrap(
    values: &[DocumentValue],
    resamples: usize,
    statistic: impl Fn(&mut dyn Iterator<Item = &DocumentValue>) -> f64,
) -> f64 {
    let mut drawn = Vec::with_capacity(resamples);
    for chunk in 0..resamples.div_ceil(CHUNK) {
        let mut random = PythonRandom::new(chunk as u64);
        for _ in 0..CHUNK.min(resamples) {
            let mut resample =
                (0..values.len()).map(|_| &values[(random.random() * values.len() as f64) as usize]);
            drawn.push(statistic(&mut resample));
        }
    }
    let n = drawn.len() as f64;
    let mean = drawn.iter().sum::<f64>() / n;
    (drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(numbers: &[f64]) -> Vec<DocumentValue> {
        numbers.iter().map(|x| DocumentValue::Number(*x)).collect()
    }

    fn parts(parts: &[&[f64]]) -> Vec<DocumentValue> {
        parts.iter().map(|parts| DocumentValue::Parts(parts.to_vec())).collect()
    }

    fn value(aggregation: Aggregation, values: &[DocumentValue]) -> f64 {
        statistic(aggregation, &mut values.iter())
    }

    #[test]
    fn the_standard_error_of_a_mean_is_lm_evals() {
        let result = aggregate(Metric::Acc.into(), &numbers(&[1.0, 0.0, 1.0, 1.0, 0.0]));
        assert_eq!(result.value, 0.6);
        assert!((result.stderr.unwrap() - 0.244_948_974_278_318_2).abs() < 1e-14);
        assert_eq!(aggregate(Metric::Acc.into(), &numbers(&[1.0])).stderr, None);
    }

    #[test]
    fn perplexity_is_the_exponential_of_the_negative_mean() {
        let items = numbers(&[-1.0, -2.0, -3.0, -4.0, -5.0]);
        let result = aggregate(Metric::Perplexity.into(), &items);
        assert!((result.value - 20.085_536_923_187_668).abs() < 1e-12, "{}", result.value);
        let thousand = standard_error(Aggregation::Perplexity, &items, 1000).unwrap();
        assert!((thousand - 18.122_175_591_558_73).abs() < 1e-9, "{thousand}");
        let stderr = result.stderr.unwrap();
        assert!((stderr - 16.680_682_154_605_307).abs() < 1e-9, "{stderr}");
    }

    #[test]
    fn classes_give_f1_and_correlation() {
        let pairs = parts(&[&[0.0, 0.0], &[1.0, 1.0], &[1.0, 0.0], &[0.0, 0.0], &[1.0, 1.0], &[0.0, 1.0]]);
        let third = 1.0 / 3.0;
        assert!((value(Aggregation::MatthewsCorrcoef, &pairs) - third).abs() < 1e-15);
        assert!((value(Aggregation::F1, &pairs) - 2.0 * third).abs() < 1e-15);
        assert!((value(Aggregation::WeightedF1, &pairs) - 2.0 * third).abs() < 1e-15);
        let one_sided = parts(&[&[1.0, 1.0], &[1.0, 0.0]]);
        assert_eq!(value(Aggregation::MatthewsCorrcoef, &one_sided), 0.0);
        assert!(value(Aggregation::F1, &parts(&[&[2.0, 2.0]])).is_nan(), "F1 of class 1 wants two classes");
        assert!(value(Aggregation::F1, &parts(&[&[0.0, 0.0]])).is_sign_positive());
    }

    #[test]
    fn lengths_weigh_log_likelihoods() {
        let texts = parts(&[&[-10.0, 4.0], &[-6.0, 2.0]]);
        let perplexity = value(Aggregation::WeightedPerplexity, &texts);
        assert!((perplexity - 14.391_916_095_149_892).abs() < 1e-12, "{perplexity}");
        let bits = value(Aggregation::BitsPerByte, &texts);
        assert!((bits - 3.847_186_775_703_902).abs() < 1e-14, "{bits}");
        assert_eq!(aggregate(Metric::WordPerplexity.into(), &texts).stderr, None);
    }

    #[test]
    fn the_brier_score_is_the_distance_from_the_truth() {
        let all: f64 = [-1.0f64, -2.0, -3.0].iter().map(|ll| ll.exp()).sum();
        let mut parts = vec![0.0];
        parts.extend([-1.0f64, -2.0, -3.0].iter().map(|ll| ll.exp() / all));
        let score = value(Aggregation::BrierScore, &[DocumentValue::Parts(parts)]);
        assert!((score - 0.180_061_146_340_760_98).abs() < 1e-15, "{score}");
    }

    #[test]
    fn the_median_of_an_even_number_is_the_upper_one() {
        assert_eq!(value(Aggregation::Median, &numbers(&[4.0, 1.0, 3.0, 2.0])), 3.0);
        assert_eq!(value(Aggregation::Nanmean, &numbers(&[1.0, f64::NAN, 3.0])), 2.0);
    }
}
