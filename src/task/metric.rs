//! Metrics and how documents' values become a task's.

use serde::{Deserialize, Serialize};

use super::python::PythonRandom;

/// A metric of a document, by lm_eval's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The right choice has the highest log-likelihood, or the continuation is the greedy one.
    Acc,
    /// `acc` with log-likelihoods divided by the length of the choice in characters.
    AccNorm,
    /// `acc` with log-likelihoods divided by the length of the choice in bytes of UTF-8.
    AccBytes,
    /// The log-likelihood, aggregated as exp(−mean).
    Perplexity,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 4] = [Self::Acc, Self::AccNorm, Self::AccBytes, Self::Perplexity];

    /// lm_eval's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::AccBytes => "acc_bytes",
            Self::Perplexity => "perplexity",
        }
    }

    /// The metric of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == name)
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        !matches!(self, Self::Perplexity)
    }
}

/// A task's value of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// The metric.
    pub metric: Metric,
    /// Its value over all documents.
    pub value: f64,
    /// Standard error: of the mean for means, absent otherwise and for one document.
    pub stderr: Option<f64>,
    /// Number of documents.
    pub documents: u64,
}

/// The aggregate of documents' values: the mean with standard error √(Σ(x−μ)²/(n−1))/√n as lm_eval computes it, or
/// exp(−mean) for perplexity. `values` is not empty.
pub fn aggregate(metric: Metric, values: &[f64]) -> Aggregate {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let documents = values.len() as u64;
    match metric {
        Metric::Perplexity => {
            let perplexity = |items: &mut dyn Iterator<Item = f64>| (-items.sum::<f64>() / n).exp();
            let stderr = (values.len() > 1).then(|| bootstrap(values, RESAMPLES, perplexity));
            Aggregate { metric, value: (-mean).exp(), stderr, documents }
        }
        Metric::Acc | Metric::AccNorm | Metric::AccBytes => {
            let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
            let stderr = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt() / n.sqrt());
            Aggregate { metric, value: mean, stderr, documents }
        }
    }
}

/// Resamples of a bootstrap, and how many of them one generator draws.
const RESAMPLES: usize = 100_000;
const CHUNK: usize = 1_000;

/// Standard error by resampling, as lm_eval draws: chunk i by `Random(i).choices`, then the sample standard deviation of
/// all.
fn bootstrap(
    values: &[f64],
    resamples: usize,
    statistic: impl Fn(&mut dyn Iterator<Item = f64>) -> f64,
) -> f64 {
    let mut drawn = Vec::with_capacity(resamples);
    for chunk in 0..resamples.div_ceil(CHUNK) {
        let mut random = PythonRandom::new(chunk as u64);
        for _ in 0..CHUNK {
            let mut resample =
                (0..values.len()).map(|_| values[(random.random() * values.len() as f64) as usize]);
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

    #[test]
    fn the_standard_error_of_a_mean_is_lm_evals() {
        let result = aggregate(Metric::Acc, &[1.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(result.value, 0.6);
        assert!((result.stderr.unwrap() - 0.244_948_974_278_318_2).abs() < 1e-14);
        assert_eq!(aggregate(Metric::Acc, &[1.0]).stderr, None);
    }

    #[test]
    fn perplexity_is_the_exponential_of_the_negative_mean() {
        let items: Vec<f64> = (1..=5).map(|n| -f64::from(n)).collect();
        let value = aggregate(Metric::Perplexity, &items).value;
        assert!((value - 20.085_536_923_187_668).abs() < 1e-12, "{value}");
        let perplexity = |items: &mut dyn Iterator<Item = f64>| (-items.sum::<f64>() / 5.0).exp();
        let thousand = bootstrap(&items, 1000, perplexity);
        assert!((thousand - 18.122_175_591_558_73).abs() < 1e-9, "{thousand}");
        let stderr = aggregate(Metric::Perplexity, &items).stderr.unwrap();
        assert!((stderr - 16.680_682_154_605_307).abs() < 1e-9, "{stderr}");
    }
}
