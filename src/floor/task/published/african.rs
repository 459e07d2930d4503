//! Suites of African languages: AfriMMLU, AfriXNLI, MAFAND, MasakhaNER and MasakhaPOS.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::Row;
use super::expression::constant;
use super::text::{list, object, shown, strings, strip, text, value, without_words};
use crate::python::{is_space, parse_literal, python_str};

/// AfriMMLU: the choices, a Python list in a string.
pub(super) fn choices(row: &Row) -> Result<Value, String> {
    let choices = parse_literal(text(row, "choices")?).filter(Value::is_array);
    choices.ok_or_else(|| "'choices' must be a Python list".to_owned())
}

/// The prompt of AfriMMLU and AfriXNLI: the constant `template`, filled in from the row's columns and its choices.
pub(super) fn template_prompt(constants: &Row, row: &Row) -> Result<Value, String> {
    let mut out = String::new();
    let mut rest = text(constants, "template")?;
    while let Some((before, from)) = rest.split_once('{') {
        let (name, after) = from.split_once('}').ok_or("the template has an open brace")?;
        out += before;
        out += &match name.strip_prefix("choice").and_then(|number| number.parse::<usize>().ok()) {
            Some(number) => {
                let choices = choices(row)?;
                let choice = number.checked_sub(1).and_then(|at| choices.get(at));
                choice.map(python_str).ok_or("'choices' has fewer than 4 choices")?
            }
            None => shown(row, name)?,
        };
        rest = after;
    }
    Ok(json!(out + rest))
}

/// AfriXNLI: the name of the label, from the constant `labels`.
pub(super) fn label(constants: &Row, row: &Row) -> Result<Value, String> {
    let labels = list(constants, "labels")?;
    let label = value(row, "label")?.as_u64().and_then(|label| labels.get(label as usize));
    label.cloned().ok_or_else(|| "'label' must be 0, 1 or 2".to_owned())
}

/// A pair of sentences of MAFAND.
struct Pair<'a> {
    /// English or French.
    european: &'a str,
    european_name: &'static str,
    african: &'a str,
    african_name: &'a str,
}

impl<'a> Pair<'a> {
    fn new(constants: &'a Row, row: &'a Row) -> Result<Self, String> {
        let sentences = object(row, "translation")?;
        let (key, name) = if sentences.contains_key("en") { ("en", "English") } else { ("fr", "French") };
        let african = sentences.keys().find(|key| !matches!(key.as_str(), "en" | "fr"));
        let african = african.ok_or("'translation' has one language")?;
        Ok(Self {
            european: text(sentences, key)?,
            european_name: name,
            african: text(sentences, african)?,
            african_name: text(object(constants, "languages")?, african)?,
        })
    }
}

/// MAFAND: the European sentence.
pub(super) fn european(constants: &Row, row: &Row) -> Result<Value, String> {
    Ok(json!(Pair::new(constants, row)?.european))
}

/// MAFAND: the African sentence.
pub(super) fn african(constants: &Row, row: &Row) -> Result<Value, String> {
    Ok(json!(Pair::new(constants, row)?.african))
}

/// MAFAND: the prompt for a translation into the European or the African language, in the published wordings 1 and 3.
pub(super) fn translation_prompt(
    constants: &Row,
    row: &Row,
    to_african: bool,
    wording: u8,
) -> Result<Value, String> {
    let pair = Pair::new(constants, row)?;
    let (from, to, sentence) = if to_african {
        (pair.european_name, pair.african_name, pair.european)
    } else {
        (pair.african_name, pair.european_name, pair.african)
    };
    Ok(json!(match (wording, to_african) {
        (1, _) => format!(
            "You are an advanced Translator, a specialized assistant designed to translate documents from {from} \
             into {to}. \nYour main goal is to ensure translations are grammatically correct and human-oriented. \
             \n{from}: {sentence} \n{to}: "
        ),
        (_, false) => format!(
            "You are a translation expert. Translate the following {from} sentences to {to}. \n{from} sentence: \
             {sentence}\n{to} sentence: "
        ),
        (_, true) => format!(
            "You are a translation expert. Translate the following {from} sentence into {to}\n{from} sentence: \
             {sentence}\n{to} sentence: "
        ),
    }))
}

/// MasakhaPOS: the names of a sentence's tags.
pub(super) fn tags(row: &Row) -> Result<Value, String> {
    const TAGS: [&str; 18] = [
        "NOUN", "PUNCT", "ADP", "NUM", "SYM", "SCONJ", "ADJ", "PART", "DET", "CCONJ", "PROPN", "PRON", "X",
        "_", "ADV", "INTJ", "VERB", "AUX",
    ];
    let name = |tag: &Value| TAGS.get(usize::try_from(tag.as_u64()?).ok()?).copied();
    let names: Option<Vec<&str>> = list(row, "upos")?.iter().map(name).collect();
    names.map(|names| json!(names)).ok_or_else(|| "'upos' must be a list of tags from 0 to 17".to_owned())
}

/// MasakhaPOS: the mean over sentences of the fraction of equal tags, up to the shorter of gold and prediction.
pub(super) fn tag_accuracy(items: &[Value]) -> Result<f64, String> {
    let mut sum = 0.0;
    for item in items {
        let wrong = || "an item of acc must be a list of gold tags and lists of predicted ones".to_owned();
        let gold = item.get(0).and_then(Value::as_array).ok_or_else(wrong)?;
        let mut predicted: Vec<Value> = Vec::new();
        for part in item.get(1).and_then(Value::as_array).ok_or_else(wrong)? {
            match part {
                Value::Array(tags) => predicted.extend(tags.iter().cloned()),
                // Python iterates over a string's characters.
                Value::String(text) => predicted.extend(text.chars().map(|c| json!(c.to_string()))),
                _ => return Err(wrong()),
            }
        }
        let count = gold.len().min(predicted.len());
        if count == 0 {
            return Err("a sentence has no tags".to_owned());
        }
        let equal = gold.iter().zip(&predicted).filter(|(gold, predicted)| gold == predicted).count();
        sum += equal as f64 / count as f64;
    }
    Ok(if items.is_empty() { 0.0 } else { sum / items.len() as f64 })
}

/// MasakhaNER: F1 over the labeled spans of all documents.
pub(super) fn span_f1(items: &[Value]) -> Result<f64, String> {
    let (mut correct, mut wrong, mut missed) = (0usize, 0usize, 0usize);
    for item in items {
        let mut golds: HashMap<(String, String), usize> = HashMap::new();
        for span in spans(item.get(0))? {
            *golds.entry(span).or_default() += 1;
        }
        for span in spans(item.get(1))? {
            match golds.get_mut(&span).filter(|left| **left > 0) {
                Some(left) => {
                    *left -= 1;
                    correct += 1;
                }
                None => wrong += 1,
            }
        }
        missed += golds.values().sum::<usize>();
    }
    let correct = correct as f64;
    let precision = correct / (correct + wrong as f64 + 1e-13);
    let recall = correct / (correct + missed as f64 + 1e-13);
    Ok(2.0 * ((precision * recall) / (precision + recall + 1e-13)))
}

/// The pairs of label and entity in an answer.
fn spans(answer: Option<&Value>) -> Result<Vec<(String, String)>, String> {
    let whole = match answer {
        Some(Value::String(text)) => text.clone(),
        list => {
            let parts = strings(list).ok_or("an item of F1 must be two strings or lists of strings")?;
            parts.iter().map(|part| strip(part)).collect::<Vec<_>>().join(" ")
        }
    };
    // Two dollar signs end a span; so does one. Empty parts are dropped at this step only.
    let parts = strip(&whole).split('$').filter(|part| !part.is_empty()).map(strip);
    let parts = parts.flat_map(|part| part.split(". ").flat_map(|part| part.split(", ")).map(strip));
    let pair = |part: &str| {
        let pieces: Vec<&str> = part.split(": ").collect();
        let [label, entity] = pieces[..] else { return None };
        Some((simplified(strip(label)), simplified(strip(entity))))
    };
    Ok(parts.filter_map(pair).collect())
}

/// A label or entity in lower case, without punctuation, articles and long whitespace.
fn simplified(text: &str) -> String {
    static PUNCTUATION: LazyLock<Regex> =
        LazyLock::new(|| constant("[!\"#$%&'()*+,\\-./:;<=>?\\[\\]^_`{|}~•@]+"));
    static LONG: LazyLock<Regex> = LazyLock::new(|| constant(r"[\s\x1c-\x1f]{3,}|\t"));
    let text = without_words(&PUNCTUATION.replace_all(text, " "), &["a", "an", "the"]);
    let text = LONG.replace_all(&text, "");
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_space(c) {
            out.push(c);
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    out.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_template_takes_columns_and_choices() {
        let constants = row(json!({ "template": "On {subject}: {question}\nA: {choice1}\nD: {choice4}" }));
        let document =
            row(json!({ "subject": "math", "question": "1+1?", "choices": "['1', '2', '3', 'four']" }));
        assert_eq!(template_prompt(&constants, &document), Ok(json!("On math: 1+1?\nA: 1\nD: four")));
        let error = template_prompt(&constants, &row(json!({ "subject": "math" })));
        assert_eq!(error, Err("'question' is missing".to_owned()));
    }

    #[test]
    fn translations_name_both_languages() {
        let constants = row(json!({ "languages": { "wol": "Wolof" } }));
        let pair = row(json!({ "translation": { "fr": "Oui", "wol": "Waaw" } }));
        let prompt = translation_prompt(&constants, &pair, false, 3).unwrap();
        assert_eq!(
            prompt,
            "You are a translation expert. Translate the following Wolof sentences to French. \nWolof sentence: Waaw\nFrench sentence: "
        );
        assert_eq!(european(&constants, &pair), Ok(json!("Oui")));
        assert_eq!(african(&constants, &pair), Ok(json!("Waaw")));
    }

    #[test]
    fn tags_are_compared_up_to_the_shorter_list() {
        assert_eq!(tags(&row(json!({ "upos": [0, 16] }))), Ok(json!(["NOUN", "VERB"])));
        let items = [json!([["NOUN", "VERB"], [["NOUN"]]]), json!([["NOUN"], [["invalid"]]])];
        assert_eq!(tag_accuracy(&items), Ok(0.5));
    }

    #[test]
    fn spans_match_by_label_and_entity() {
        let items = [json!(["PER: Ada $$ LOC: the Oyo.", "PER: ada $ LOC: Ife, ORG: x"])];
        let (precision, recall) = (1.0 / 3.0, 0.5);
        let expected = 2.0 * precision * recall / (precision + recall);
        assert!((span_f1(&items).unwrap() - expected).abs() < 1e-9);
    }
}
