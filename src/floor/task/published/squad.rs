//! SQuAD scores: normalized exact match and F1 over tokens.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::text::{answer, object, squeezed, strings, without_words, words};
use super::{Row, Scores};

/// An answer in lower case, without ASCII punctuation, articles and repeated whitespace.
pub fn normalized(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    squeezed(&without_words(&plain, &["a", "an", "the"]))
}

/// 1 if the normalized answers are equal, else 0.
pub fn exact(gold: &str, predicted: &str) -> i64 {
    i64::from(normalized(gold) == normalized(predicted))
}

/// F1 over the tokens of the normalized answers. If either has none: 1 if neither has, else 0.
pub fn f1(gold: &str, predicted: &str) -> f64 {
    let (gold, predicted) = (normalized(gold), normalized(predicted));
    if gold.is_empty() || predicted.is_empty() {
        return f64::from(u8::from(gold == predicted));
    }
    token_f1(words(&gold), words(&predicted))
}

/// F1 over two multisets of tokens; 0 if they share none.
pub(super) fn token_f1<'a>(
    gold: impl Iterator<Item = &'a str>,
    predicted: impl Iterator<Item = &'a str>,
) -> f64 {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut golds = 0usize;
    for token in gold {
        *counts.entry(token).or_default() += 1;
        golds += 1;
    }
    let (mut common, mut predictions) = (0usize, 0usize);
    for token in predicted {
        predictions += 1;
        if let Some(left) = counts.get_mut(token).filter(|left| **left > 0) {
            *left -= 1;
            common += 1;
        }
    }
    if common == 0 {
        return 0.0;
    }
    let precision = common as f64 / predictions as f64;
    let recall = common as f64 / golds as f64;
    (2.0 * precision * recall) / (precision + recall)
}

/// XQuAD: the answer against the first gold answer.
pub(super) fn first_answer(row: &Row, answers: &[Value]) -> Result<Scores, String> {
    let golds = strings(object(row, "answers")?.get("text"));
    let golds = golds.ok_or("'answers' must have a list of strings 'text'")?;
    let gold = golds.first().ok_or("'answers' has an empty 'text'")?;
    let predicted = answer(answers)?;
    Ok(vec![("f1", json!(f1(gold, predicted))), ("exact_match", json!(exact(gold, predicted)))])
}

/// AfriQA: the mean over (gold, answer) pairs of the token F1, 0 where either has no tokens.
pub(super) fn mean_token_f1(items: &[Value]) -> Result<f64, String> {
    let mut sum = 0.0;
    for item in items {
        let pair = strings(Some(item)).filter(|pair| pair.len() == 2);
        let pair = pair.ok_or("an item of F1 must be a gold and an answer, both strings")?;
        let (gold, predicted) = (normalized(pair[0]), normalized(pair[1]));
        sum += token_f1(words(&gold), words(&predicted));
    }
    Ok(sum / items.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_punctuation_and_case_do_not_count() {
        assert_eq!(normalized("The  Cat's  a-hat, An Óbest"), "cats ahat óbest");
        assert_eq!(exact("the cat", "Cat."), 1);
        assert_eq!(exact("cat", "dog"), 0);
    }

    #[test]
    fn f1_counts_each_token_as_often_as_both_have_it() {
        assert_eq!(f1("big red red dog", "red dog dog"), 2.0 * (2.0 / 3.0) * 0.5 / (2.0 / 3.0 + 0.5));
        assert_eq!((f1("the", "a"), f1("the", "x"), f1("x", "y")), (1.0, 0.0, 0.0));
    }

    #[test]
    fn only_the_first_gold_answer_counts() {
        let row = json!({ "answers": { "text": ["Paris", "Rome"] } });
        let scores = first_answer(row.as_object().unwrap(), &[json!("in Rome")]).unwrap();
        assert_eq!(scores, [("f1", json!(0.0)), ("exact_match", json!(0))]);
        let error = first_answer(&Row::new(), &[json!("x")]).unwrap_err();
        assert_eq!(error, "'answers' must be a mapping");
    }
}
