//! The gold answer of a document.

use serde_json::Value;

use crate::data::Row;
use crate::python::{pieces, python_str};
use crate::task::definition::document::Gold;

/// A document error, by field.
type Wrong = (&'static str, String);

/// The correct choices: numbers, strings among the choices, or a list of them. Anything else is invalid data.
pub(super) fn golds(target: &Value, choices: &[String]) -> Result<Gold, Wrong> {
    let place = |value: &Value| {
        let number = match value {
            Value::Bool(yes) => Some(i64::from(*yes)),
            Value::Number(number) => {
                number.as_i64().or_else(|| number.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as i64))
            }
            _ => None,
        };
        let by_number = number.and_then(|number| usize::try_from(number).ok());
        let by_text = || value.as_str().and_then(|text| choices.iter().position(|choice| choice == text));
        by_number.or_else(by_text).filter(|number| *number < choices.len())
    };
    let golds: Option<Vec<usize>> = match target {
        Value::Array(items) => items.iter().map(place).collect(),
        value => place(value).map(|number| vec![number]),
    };
    let wrong =
        || ("doc_to_target", format!("'{}' is none of the {} choices", python_str(target), choices.len()));
    golds.filter(|golds| !golds.is_empty()).map(Gold::Choices).ok_or_else(wrong)
}

/// The labels of `mc2_targets`, one per choice.
pub(super) fn true_choices(row: &Row, choices: usize) -> Result<Gold, Wrong> {
    let labels = row.get("mc2_targets").and_then(|targets| targets["labels"].as_array());
    let labels: Option<Vec<bool>> =
        labels.and_then(|labels| labels.iter().map(|label| label.as_u64().map(|label| label == 1)).collect());
    let labels = labels.filter(|labels| labels.len() == choices && labels.contains(&true));
    let reason = || "labels is not one 0 or 1 for each choice with a 1 among them".to_owned();
    labels.map(Gold::True).ok_or_else(|| ("mc2_targets", reason()))
}

/// The divisors of a text's log-likelihood.
pub(super) fn length(text: &str) -> Gold {
    Gold::Text { words: pieces(text), bytes: text.len() }
}
