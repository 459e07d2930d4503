//! DROP: golds of several kinds, and scores over bags of tokens.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::assignment::best_matching;
use super::text::{object, parse_float, shown, squeezed, strip, value, without_words, words};
use super::{Row, Scores};
use crate::python::{python_float, python_str};

/// The row with the columns `id` and `answers`, which are the distinct golds.
pub(super) fn document(row: &Row) -> Result<Row, String> {
    let mut made = row.clone();
    let mut golds: Vec<Value> = vec![gold(value(row, "answer")?)?];
    let validated = object(row, "validated_answers")?;
    let columns: Option<Vec<&Vec<Value>>> =
        ["number", "date", "spans"].iter().map(|key| validated.get(*key)?.as_array()).collect();
    let columns = columns.ok_or("'validated_answers' must have lists 'number', 'date' and 'spans'")?;
    for at in 0..columns[0].len() {
        let part = |column: usize| {
            columns[column].get(at).cloned().ok_or("'validated_answers' has lists of different lengths")
        };
        let candidate = json!({ "number": part(0)?, "date": part(1)?, "spans": part(2)? });
        let gold = gold(&candidate)?;
        if !golds.contains(&gold) {
            golds.push(gold);
        }
    }
    made.insert("id".to_owned(), value(row, "query_id")?.clone());
    for column in ["passage", "question"] {
        made.insert(column.to_owned(), value(row, column)?.clone());
    }
    made.insert("answers".to_owned(), golds.into());
    Ok(made)
}

/// An answer's spans: its number, else its spans, else its date.
fn gold(answer: &Value) -> Result<Value, String> {
    let answer = answer.as_object().ok_or("'answer' must be a mapping")?;
    if *value(answer, "number")? != json!("") {
        return Ok(json!([shown(answer, "number")?]));
    }
    let spans = value(answer, "spans")?;
    if *spans != json!([]) {
        return Ok(spans.clone());
    }
    let date = object(answer, "date")?;
    let parts: Result<Vec<String>, String> =
        ["day", "month", "year"].iter().map(|part| shown(date, part)).collect();
    Ok(json!([strip(&parts?.join(" "))]))
}

/// The best exact match and F1 over the golds; golds that start with a blank span do not count.
pub(super) fn scores(row: &Row, answers: &[Value]) -> Result<Scores, String> {
    let golds = super::text::list(row, "answers")?;
    let spans = |value: &Value| -> Result<Vec<String>, String> {
        let spans = value.as_array().ok_or("'answers' must be a list of lists")?;
        Ok(spans.iter().map(python_str).collect())
    };
    let predicted: Vec<String> = answers.iter().map(python_str).collect();
    let predicted = Bags::new(&predicted);
    let (mut em, mut f1) = (json!(0), json!(0));
    for gold in golds {
        let spans = spans(gold)?;
        let first = spans.first().ok_or("a gold of 'answers' has no spans")?;
        if strip(first).is_empty() {
            continue;
        }
        let bags = Bags::new(&spans);
        for (best, score) in [(&mut em, bags.exact(&predicted)), (&mut f1, bags.f1(&predicted))] {
            if score > best.as_f64().unwrap_or_default() {
                *best = json!(score);
            }
        }
    }
    Ok(vec![("em", em), ("f1", f1)])
}

/// The normalized spans of an answer and the tokens of each.
struct Bags {
    spans: Vec<String>,
    tokens: Vec<BTreeSet<String>>,
}

impl Bags {
    fn new(spans: &[String]) -> Self {
        let spans: Vec<String> = spans.iter().map(|span| normalized(span)).collect();
        let tokens = spans.iter().map(|span| words(span).map(str::to_owned).collect()).collect();
        Self { spans, tokens }
    }

    fn exact(&self, other: &Self) -> f64 {
        let distinct = |bags: &Self| bags.spans.iter().cloned().collect::<BTreeSet<_>>();
        let equal = self.spans.len() == other.spans.len() && distinct(self) == distinct(other);
        f64::from(u8::from(equal))
    }

    /// The mean F1 of the best matching of spans, unmatched ones counting 0, rounded to 2 decimals.
    fn f1(&self, predicted: &Self) -> f64 {
        let scores: Vec<Vec<f64>> = self
            .tokens
            .iter()
            .map(|gold| predicted.tokens.iter().map(|bag| bag_f1(gold, bag)).collect())
            .collect();
        let count = self.tokens.len().max(predicted.tokens.len());
        let mut aligned = vec![0.0; count];
        for (row, column) in best_matching(&scores) {
            aligned[row] = scores[row][column];
        }
        rounded(pairwise_sum(&aligned) / count as f64)
    }
}

/// F1 over two sets of tokens; 0 if the gold has numbers and shares none.
fn bag_f1(gold: &BTreeSet<String>, predicted: &BTreeSet<String>) -> f64 {
    let mut numbers = gold.iter().filter(|token| parse_float(token).is_some()).peekable();
    if numbers.peek().is_some() && !numbers.any(|number| predicted.contains(number)) {
        return 0.0;
    }
    let common = gold.intersection(predicted).count() as f64;
    let fraction = |bag: &BTreeSet<String>| if bag.is_empty() { 1.0 } else { common / bag.len() as f64 };
    let (precision, recall) = (fraction(predicted), fraction(gold));
    if precision == 0.0 && recall == 0.0 {
        return 0.0;
    }
    (2.0 * precision * recall) / (precision + recall)
}

/// Normalizes a span: its tokens in lower case, numbers as Python prints floats, without punctuation and articles.
fn normalized(span: &str) -> String {
    let token = |token: &str| {
        let lower = token.to_lowercase();
        let plain = match parse_float(&lower) {
            Some(_) => lower,
            None => lower.chars().filter(|c| !c.is_ascii_punctuation()).collect(),
        };
        let number = parse_float(&plain).map_or(plain, python_float);
        squeezed(&without_words(&number, &["a", "an", "the"]))
    };
    let tokens: Vec<String> = span.split([' ', '-']).map(token).filter(|token| !token.is_empty()).collect();
    tokens.join(" ")
}

/// Rounds to 2 decimals as `numpy.round`: the nearest integer to 100 times the value, ties to even.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round_ties_even() / 100.0
}

/// The sum in the order of `numpy.mean`: plainly up to 7 terms, in 8 interleaved sums up to 128, in halves beyond.
fn pairwise_sum(terms: &[f64]) -> f64 {
    if terms.len() < 8 {
        return terms.iter().fold(0.0, |sum, term| sum + term);
    }
    if terms.len() > 128 {
        let half = terms.len() / 2;
        let middle = half - half % 8;
        return pairwise_sum(&terms[..middle]) + pairwise_sum(&terms[middle..]);
    }
    let mut sums = [0.0; 8];
    let blocks = terms.chunks_exact(8);
    let rest = blocks.remainder();
    for block in blocks {
        for (sum, term) in sums.iter_mut().zip(block) {
            *sum += term;
        }
    }
    let total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    rest.iter().fold(total, |sum, term| sum + term)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(golds: Value, answer: &str) -> (f64, f64) {
        let row = json!({ "answers": golds });
        let scores = scores(row.as_object().unwrap(), &[json!(answer)]).unwrap();
        (scores[0].1.as_f64().unwrap(), scores[1].1.as_f64().unwrap())
    }

    #[test]
    fn a_number_is_its_value_and_must_be_shared() {
        assert_eq!(score(json!([["7"]]), "7.0"), (1.0, 1.0));
        assert_eq!(score(json!([["7 yards"]]), "8 yards"), (0.0, 0.0));
        assert_eq!(score(json!([["the red dog"]]), "red dog-house"), (0.0, 0.8));
    }

    #[test]
    fn spans_without_a_partner_count_zero() {
        assert_eq!(score(json!([["red", "blue", "green"]]), "blue"), (0.0, 0.33));
    }

    #[test]
    fn the_best_gold_counts_and_blank_ones_do_not() {
        assert_eq!(score(json!([[""], ["cat"], ["dog"]]), "dog"), (1.0, 1.0));
        assert_eq!(score(json!([[" "]]), ""), (0.0, 0.0));
    }

    #[test]
    fn golds_are_a_number_or_spans_or_a_date_and_each_once() {
        let date = json!({ "day": "3", "month": "May", "year": "" });
        let none = json!({ "day": "", "month": "", "year": "" });
        let row = json!({
            "query_id": "q", "passage": "p", "question": "?",
            "answer": { "number": "", "spans": [], "date": date },
            "validated_answers": {
                "number": ["4", "", "4"], "date": [none, none, none], "spans": [[], ["x", "y"], []],
            },
        });
        let made = document(row.as_object().unwrap()).unwrap();
        assert_eq!(made["answers"], json!([["3 May"], ["4"], ["x", "y"]]));
        assert_eq!(made["id"], "q");
    }
}
