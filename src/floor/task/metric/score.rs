//! From log-likelihoods to a document's metrics.

use serde::{Deserialize, Serialize};

use crate::task::definition::document::{Document, Gold};
use serde_json::{Value, json};

use crate::task::definition::task::{Scoring, Task};
use crate::task::error::TaskError;
use crate::task::generation::published_value;
use crate::task::metric::aggregate::DocumentValue;
use crate::task::metric::kind::Metric;
use crate::task::published::TextScores;

/// The model's result for a request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RequestScore {
    /// Sum of the continuation's log-probabilities, natural logarithm.
    #[serde(with = "crate::job::real")]
    pub log_likelihood: f64,
    /// Whether every one of its tokens is the most likely one.
    pub is_greedy: bool,
}

/// The values of a task's metrics for a document, from the model's results on its requests. Error: a published function that cannot be
/// applied.
pub fn score_requests_of(
    task: &Task,
    document: &Document,
    scores: &[RequestScore],
) -> Result<Vec<DocumentValue>, TaskError> {
    let Scoring::Published(function) = task.scoring else {
        return Ok(task.metrics.iter().map(|m| score_document(m.metric, document, scores)).collect());
    };
    let fail = |reason: String| task.field_error(document.id, "process_results", reason);
    let pairs: Vec<Value> =
        scores.iter().map(|score| json!([score.log_likelihood, score.is_greedy])).collect();
    let none = TextScores { bleu: &|_, _| f64::NAN, rouge: &|_, _, _| f64::NAN };
    let found = function.scores(&document.row, &pairs, &none).map_err(fail)?;
    task.metrics.iter().map(|m| published_value(&found, m.metric).map_err(fail)).collect()
}

/// The value of one metric of a document by its own rule.
pub fn score_document(metric: Metric, document: &Document, scores: &[RequestScore]) -> DocumentValue {
    let yes = |yes: bool| DocumentValue::Number(f64::from(u8::from(yes)));
    match &document.gold {
        Gold::Target => match metric {
            Metric::Perplexity | Metric::WordPerplexity | Metric::BytePerplexity | Metric::BitsPerByte => {
                DocumentValue::Number(scores[0].log_likelihood)
            }
            _ => yes(scores[0].is_greedy),
        },
        // Answers have no log-likelihoods.
        Gold::Answer(_) | Gold::Answers(_) => DocumentValue::Number(f64::NAN),
        Gold::Text { words, bytes } => {
            let length = if metric == Metric::WordPerplexity { words } else { bytes };
            DocumentValue::Parts(vec![scores[0].log_likelihood, *length as f64])
        }
        Gold::True(labels) => DocumentValue::Number(true_probability(labels, scores)),
        Gold::Choices(golds) => of_choices(metric, golds, &document.choices, scores),
    }
}

/// The value with choices. Their scores may be followed by those without a context.
fn of_choices(metric: Metric, golds: &[usize], choices: &[String], scores: &[RequestScore]) -> DocumentValue {
    let yes = |yes: bool| DocumentValue::Number(f64::from(u8::from(yes)));
    let (choice_scores, alone) = scores.split_at(choices.len().min(scores.len()));
    let likelihoods = || choice_scores.iter().map(|score| score.log_likelihood);
    let right = |chosen: usize| yes(golds.contains(&chosen));
    let by_length = |length: &dyn Fn(&String) -> usize| {
        let lengths = choices.iter().map(|choice| length(choice) as f64);
        first_maximum(likelihoods().zip(lengths).map(|(likelihood, length)| likelihood / length))
    };
    let gold = golds.first().map_or(f64::NAN, |gold| *gold as f64);
    match metric {
        Metric::AccNorm => right(by_length(&|choice| choice.chars().count())),
        Metric::AccBytes => right(by_length(&|choice| choice.len())),
        Metric::AccMutualInfo => {
            let alone = alone.iter().map(|score| score.log_likelihood);
            right(first_maximum(likelihoods().zip(alone).map(|(with, without)| with - without)))
        }
        Metric::ExactMatch => yes(golds.iter().any(|gold| choice_scores[*gold].is_greedy)),
        Metric::F1 | Metric::Mcc => DocumentValue::Parts(vec![gold, first_maximum(likelihoods()) as f64]),
        Metric::BrierScore => {
            let largest = likelihoods().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = likelihoods().map(|likelihood| (likelihood - largest).exp()).collect();
            let all: f64 = weights.iter().sum();
            DocumentValue::Parts(
                [gold].into_iter().chain(weights.iter().map(|weight| weight / all)).collect(),
            )
        }
        // Perplexities and metrics of answers have no choices: a task with choices is rejected.
        _ => right(first_maximum(likelihoods())),
    }
}

/// TruthfulQA MC2 (Lin et al. 2022): the probability of the true choices over that of all, computed as in numpy.
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

/// The index of the largest value; the first of equal ones, as in numpy's argmax, where NaN is the largest.
fn first_maximum(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, value) in values.enumerate() {
        if value.is_nan() {
            return index;
        }
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
        Document { choices, gold: Gold::Choices(vec![2]), ..Document::default() }
    }

    fn said(likelihoods: &[f64]) -> Vec<RequestScore> {
        likelihoods.iter().map(|ll| RequestScore { log_likelihood: *ll, is_greedy: *ll > -5.5 }).collect()
    }

    fn number(metric: Metric, document: &Document, likelihoods: &[f64]) -> f64 {
        score_document(metric, document, &said(likelihoods)).part(0)
    }

    #[test]
    fn acc_norm_divides_by_characters_and_acc_bytes_by_bytes() {
        let document = document(&["a", "éé", "abcdef"]);
        let likelihoods = [-4.0, -5.0, -6.1];
        assert_eq!(number(Metric::Acc, &document, &likelihoods), 0.0);
        assert_eq!(number(Metric::AccNorm, &document, &likelihoods), 1.0);
        assert_eq!(number(Metric::AccBytes, &document, &likelihoods), 1.0);
        assert_eq!(number(Metric::ExactMatch, &document, &likelihoods), 0.0);
    }

    #[test]
    fn mutual_information_takes_off_what_is_likely_anyway() {
        let document = document(&["a", "b", "c"]);
        assert_eq!(number(Metric::AccMutualInfo, &document, &[-4.0, -5.0, -6.0, -1.0, -2.0, -9.0]), 1.0);
        assert_eq!(number(Metric::Acc, &document, &[-4.0, -5.0, -6.0, -1.0, -2.0, -9.0]), 0.0);
    }

    #[test]
    fn classes_and_probabilities_keep_the_right_one_first() {
        let document = document(&["a", "b", "c"]);
        let of = |metric| score_document(metric, &document, &said(&[-1.0, -2.0, -3.0]));
        assert_eq!(of(Metric::Mcc), DocumentValue::Parts(vec![2.0, 0.0]));
        let DocumentValue::Parts(parts) = of(Metric::BrierScore) else { panic!("one number") };
        assert_eq!(parts[0], 2.0);
        assert!((parts[1..].iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }

    #[test]
    fn true_choices_share_the_total_probability() {
        let scores = [0.2f64, 0.3, 0.5].map(|p| RequestScore { log_likelihood: p.ln(), is_greedy: false });
        let document = Document { gold: Gold::True(vec![true, false, true]), ..document(&["a", "b", "c"]) };
        assert!((score_document(Metric::Acc, &document, &scores).part(0) - 0.7).abs() < 1e-12);
    }

    #[test]
    fn the_first_of_equal_choices_wins() {
        assert_eq!(first_maximum([-2.0, -1.0, -1.0].into_iter()), 1);
    }
}
