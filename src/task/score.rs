//! From log-likelihoods to a document's metrics.

use serde::{Deserialize, Serialize};

use super::metric::Metric;
use super::prompt::{Document, Gold};

/// What the model says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RequestScore {
    /// Sum of the continuation's log-probabilities, natural logarithm.
    pub log_likelihood: f64,
    /// Whether every token of it is the likeliest one.
    pub is_greedy: bool,
}

/// A document's value of a metric; `scores` are in the order of its requests, one for each.
pub fn score_document(metric: Metric, document: &Document, scores: &[RequestScore]) -> f64 {
    let likelihoods = scores.iter().map(|score| score.log_likelihood);
    match (&document.gold, metric) {
        (Gold::True(labels), Metric::Acc | Metric::AccNorm | Metric::AccBytes) => {
            true_probability(labels, scores)
        }
        (Gold::Target, Metric::Acc | Metric::AccNorm | Metric::AccBytes) => {
            f64::from(u8::from(scores[0].is_greedy))
        }
        (_, Metric::Perplexity) => scores[0].log_likelihood,
        (Gold::Choices(golds), Metric::Acc) => {
            f64::from(u8::from(golds.contains(&first_maximum(likelihoods))))
        }
        (Gold::Choices(golds), Metric::AccNorm | Metric::AccBytes) => {
            let length = |choice: &String| match metric {
                Metric::AccBytes => choice.len() as f64,
                _ => choice.chars().count() as f64,
            };
            let lengths = document.choices.iter().map(length);
            let normalised = likelihoods.zip(lengths).map(|(log_likelihood, length)| log_likelihood / length);
            f64::from(u8::from(golds.contains(&first_maximum(normalised))))
        }
    }
}

/// TruthfulQA MC2 (Lin et al. 2022): the probability of the true choices over that of all, as numpy computes it.
fn true_probability(labels: &[bool], scores: &[RequestScore]) -> f64 {
    let probabilities: Vec<f64> = scores.iter().map(|score| score.log_likelihood.exp()).collect();
    let all: f64 = probabilities.iter().sum();
    probabilities
        .iter()
        .zip(labels)
        .filter(|(_, label)| **label)
        .map(|(probability, _)| probability / all)
        .sum()
}

/// The place of the largest value; the first of equal ones, as numpy's argmax.
fn first_maximum(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, value) in values.enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(choices: &[&str]) -> Document {
        let choices = choices.iter().map(|choice| (*choice).to_owned()).collect();
        Document {
            id: 0,
            requests: Vec::new(),
            choices,
            gold: Gold::Choices(vec![2]),
            row: Default::default(),
            target: String::new(),
        }
    }

    #[test]
    fn acc_norm_divides_by_characters() {
        let scores =
            [-4.0, -5.0, -6.1].map(|log_likelihood| RequestScore { log_likelihood, is_greedy: false });
        let document = document(&["a", "éé", "abcdef"]);
        assert_eq!(score_document(Metric::Acc, &document, &scores), 0.0);
        assert_eq!(score_document(Metric::AccNorm, &document, &scores), 1.0);
        assert_eq!(score_document(Metric::AccBytes, &document, &scores), 1.0);
    }

    #[test]
    fn true_choices_share_the_total_probability() {
        let scores = [0.2f64, 0.3, 0.5].map(|p| RequestScore { log_likelihood: p.ln(), is_greedy: false });
        let document = Document { gold: Gold::True(vec![true, false, true]), ..document(&["a", "b", "c"]) };
        assert!((score_document(Metric::Acc, &document, &scores) - 0.7).abs() < 1e-12);
    }

    #[test]
    fn the_first_of_equal_choices_wins() {
        assert_eq!(first_maximum([-2.0, -1.0, -1.0].into_iter()), 1);
    }
}
