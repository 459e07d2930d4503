//! A document's answers through every pipeline, and their metrics, as in lm_eval.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::filter::AnswerFilter;
use super::settings::{GenerationSettings, MatchOptions};
use crate::python::{PythonRegex, python_repr, python_str};
use crate::task::definition::document::{Document, Gold};
use crate::task::definition::task::{Scoring, Task};
use crate::task::error::TaskError;
use crate::task::metric::aggregate::DocumentValue;
use crate::task::metric::kind::Metric;
use crate::task::published::{self, ResultsFunction, Scores, TextScores};
use crate::task::text_score::rouge::{Rouge, rouge};
use crate::task::text_score::{bleu, chrf, ter};

/// What a task does to generate answers and to score them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// How answers are generated.
    pub settings: GenerationSettings,
    /// Answers per document.
    pub repeats: u64,
    /// What is done to them; at least one pipeline.
    pub pipelines: Vec<AnswerFilter>,
    /// How `exact_match` compares.
    pub matching: MatchOptions,
}

/// A document's answers, scored.
#[derive(Debug, Clone, PartialEq)]
pub struct AnsweredDocument {
    /// What each pipeline made of the answers.
    pub filtered: Vec<Value>,
    /// Value of each of the task's metrics, in their order.
    pub metrics: Vec<DocumentValue>,
}

/// Scores the answers of a document; one for each repetition. Error: a filter or metric that cannot be applied, with the document.
pub fn score_answers(
    task: &Task,
    generation: &Generation,
    document: &Document,
    answers: &[String],
) -> Result<AnsweredDocument, TaskError> {
    let fail = |reason: String| task.field_error(document.id, "filter_list", reason);
    let filtered = generation
        .pipelines
        .iter()
        .map(|pipeline| pipeline.apply(answers, &document.row))
        .collect::<Result<Vec<Value>, String>>()
        .map_err(fail)?;
    if let Scoring::Published(function) = task.scoring {
        let metrics = by_function(function, task, generation, document, &filtered)?;
        return Ok(AnsweredDocument { filtered, metrics });
    }
    let mut metrics = Vec::with_capacity(task.metrics.len());
    for wanted in &task.metrics {
        let filter = wanted.metric.filter();
        let place = generation.pipelines.iter().position(|pipeline| pipeline.name == filter).unwrap_or(0);
        let value = value(wanted.metric.base(), &document.gold, &filtered[place], &generation.matching);
        metrics.push(value.map_err(|reason| {
            task.field_error(document.id, "metric_list", format!("{}: {reason}", wanted.metric.as_str()))
        })?);
    }
    Ok(AnsweredDocument { filtered, metrics })
}

/// What a pipeline made of a document's answers, as in lm_eval's samples.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownAnswer {
    /// The pipeline.
    pub filter: String,
    /// The answer after it.
    pub filtered: Value,
    /// Each metric by name, as lm_eval prints it.
    pub metrics: Vec<(&'static str, Value)>,
}

/// A document's answers through each pipeline. Error: as [`score_answers`].
pub fn shown_answers(
    task: &Task,
    generation: &Generation,
    document: &Document,
    answers: &[String],
) -> Result<Vec<ShownAnswer>, TaskError> {
    let fail = |reason: String| task.field_error(document.id, "filter_list", reason);
    let AnsweredDocument { filtered, metrics } = score_answers(task, generation, document, answers)?;
    let mut shown = Vec::with_capacity(filtered.len());
    for (pipeline, filtered) in generation.pipelines.iter().zip(filtered) {
        let metrics = match task.scoring {
            Scoring::Published(function) => {
                let found = function.scores(&document.row, std::slice::from_ref(&filtered), &TEXT_SCORES);
                found.map_err(fail)?
            }
            _ => {
                let scored = task.metrics.iter().zip(&metrics);
                let of_pipeline = scored.filter(|(metric, _)| metric.metric.filter() == pipeline.name);
                of_pipeline
                    .map(|(metric, value)| {
                        (metric.metric.base().as_str(), shown_value(value, &document.gold, &filtered))
                    })
                    .collect()
            }
        };
        shown.push(ShownAnswer { filter: pipeline.name.clone(), filtered, metrics });
    }
    Ok(shown)
}

/// A number; for metrics of all answers together, the target and the answer.
fn shown_value(value: &DocumentValue, gold: &Gold, filtered: &Value) -> Value {
    match (value, gold) {
        (DocumentValue::Number(number), _) => (*number).into(),
        (DocumentValue::Parts(_), Gold::Answer(gold)) => vec![python_str(gold), python_str(filtered)].into(),
        (DocumentValue::Parts(parts), _) => parts.clone().into(),
    }
}

/// The metrics of a published function, pipeline by pipeline.
fn by_function(
    function: ResultsFunction,
    task: &Task,
    generation: &Generation,
    document: &Document,
    filtered: &[Value],
) -> Result<Vec<DocumentValue>, TaskError> {
    let fail = |reason: String| task.field_error(document.id, "process_results", reason);
    let mut scores = Vec::with_capacity(filtered.len());
    for answer in filtered {
        let found =
            function.scores(&document.row, std::slice::from_ref(answer), &TEXT_SCORES).map_err(fail)?;
        scores.push(found);
    }
    let value = |wanted: Metric| {
        let place =
            generation.pipelines.iter().position(|pipeline| pipeline.name == wanted.filter()).unwrap_or(0);
        published_value(&scores[place], wanted.base()).map_err(fail)
    };
    task.metrics.iter().map(|wanted| value(wanted.metric)).collect()
}

/// BLEU and ROUGE for published functions, in percent.
const TEXT_SCORES: TextScores<'static> = TextScores {
    bleu: &|reference, response| bleu::sentence(response, reference),
    rouge: &|kind, reference, response| {
        let kind = match kind {
            published::Rouge::One => Rouge::One,
            published::Rouge::Two => Rouge::Two,
            published::Rouge::Lsum => Rouge::Lsum,
        };
        100.0 * rouge(kind, reference, response)
    },
};

/// A metric of a published function's scores. Error: it does not compute the metric, or its value is of another kind.
pub(in crate::task) fn published_value(scores: &Scores, metric: Metric) -> Result<DocumentValue, String> {
    let name = metric.as_str();
    let (_, value) = scores
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| format!("it does not compute {name}"))?;
    let number = |value: &Value| match value {
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        other => other.as_f64(),
    };
    let found = match value {
        Value::Array(items) => {
            items.iter().map(number).collect::<Option<Vec<f64>>>().map(DocumentValue::Parts)
        }
        other => number(other).map(DocumentValue::Number),
    };
    found.ok_or_else(|| format!("{name} is {}", python_repr(value)))
}

/// The value of a metric for a filtered answer.
fn value(
    metric: Metric,
    gold: &Gold,
    answer: &Value,
    matching: &MatchOptions,
) -> Result<DocumentValue, String> {
    let yes = |yes: bool| DocumentValue::Number(f64::from(u8::from(yes)));
    match (metric, gold) {
        (Metric::ExactMatch, Gold::Answers(golds)) => {
            let Value::String(text) = answer else {
                return Err(format!(
                    "{} is not a string, and there are several targets",
                    python_repr(answer)
                ));
            };
            let text = matching.normalized(text)?;
            let equal = |gold: &Value| {
                Ok(gold.as_str().map(|gold| matching.normalized(gold)).transpose()? == Some(text.clone()))
            };
            let equal: Vec<bool> = golds.iter().map(equal).collect::<Result<_, String>>()?;
            Ok(yes(equal.contains(&true)))
        }
        (Metric::ExactMatch, Gold::Answer(gold)) => {
            exact_match(gold, answer, matching).map(DocumentValue::Number)
        }
        (_, Gold::Answer(gold)) => {
            let Value::String(answer) = answer else {
                return Err(format!("{} is not a string", python_repr(answer)));
            };
            let gold = python_str(gold);
            Ok(DocumentValue::Parts(match metric {
                Metric::Bleu => bleu::statistics(answer, &[&gold], bleu::Tokenizer::Mteval13a),
                Metric::Chrf => chrf::statistics(answer, &[&gold], chrf::Chrf::Characters),
                Metric::ChrfPlusPlus => chrf::statistics(answer, &[&gold], chrf::Chrf::CharactersAndWords),
                Metric::Ter => ter::statistics(answer, &[&gold]),
                other => return Err(format!("{} is no metric of an answer", other.as_str())),
            }))
        }
        (other, _) => Err(format!("{} of several targets", other.as_str())),
    }
}

/// 1 if an answer is the target; of a list of answers their mean.
fn exact_match(gold: &Value, answer: &Value, matching: &MatchOptions) -> Result<f64, String> {
    let equals = |answer: &Value| match answer {
        // The target is converted to the answer's type.
        Value::String(text) => Ok(matching.normalized(text)? == matching.normalized(&python_str(gold))?),
        Value::Number(number) => {
            let value = match gold {
                Value::Number(gold) => gold.as_f64(),
                other => python_str(other).trim().parse::<i64>().ok().map(|n| n as f64),
            };
            let value = value.ok_or_else(|| format!("the target {} is not a number", python_repr(gold)))?;
            Ok(Some(value) == number.as_f64())
        }
        other => Err(format!("the answer {} is neither a string nor a number", python_repr(other))),
    };
    match answer {
        Value::Array(_) if !matching.regexes_to_ignore.is_empty() => {
            Err("regexes_to_ignore of a list of answers".to_owned())
        }
        Value::Array(answers) if answers.is_empty() => Err("there is no answer".to_owned()),
        Value::Array(answers) => {
            let equal: Vec<bool> = answers.iter().map(equals).collect::<Result<_, String>>()?;
            Ok(equal.iter().filter(|equal| **equal).count() as f64 / equal.len() as f64)
        }
        answer => Ok(f64::from(u8::from(equals(answer)?))),
    }
}

impl MatchOptions {
    /// A text as it is compared.
    fn normalized(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_owned();
        for pattern in &self.regexes_to_ignore {
            text = PythonRegex::new(pattern)?.removed(&text)?;
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        Ok(text)
    }
}

/// The gold answer of a document: its target, or the choice that the target numbers. A list is several targets if the first
/// document's target is one: then a text stands for the list of its characters. Error: a target that is no choice.
pub(in crate::task) fn gold_answer(
    target: &Value,
    choices: Option<&[String]>,
    several: bool,
) -> Result<Gold, String> {
    if let Some(choices) = choices {
        let number = target.as_i64().or_else(|| target.as_bool().map(i64::from));
        let number = number.map(|n| if n < 0 { n + choices.len() as i64 } else { n });
        let choice = number.and_then(|n| choices.get(usize::try_from(n).ok()?));
        let wrong =
            || format!("{} is not the number of one of the {} choices", python_repr(target), choices.len());
        return Ok(Gold::Answer(choice.ok_or_else(wrong)?.clone().into()));
    }
    Ok(match target {
        Value::Array(items) if several && items.iter().any(Value::is_array) => {
            return Err(format!("{} is a list of lists", python_repr(target)));
        }
        // In an array with a string everything is one.
        Value::Array(items) if several && items.iter().any(Value::is_string) => {
            Gold::Answers(items.iter().map(|item| python_str(item).into()).collect())
        }
        Value::Array(items) if several => Gold::Answers(items.clone()),
        Value::String(text) if several => Gold::Answers(text.chars().map(|c| c.to_string().into()).collect()),
        other if several => return Err(format!("{} is not a list of targets", python_repr(other))),
        other => Gold::Answer(other.clone()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn equal(gold: Value, answer: Value, matching: &MatchOptions) -> Result<f64, String> {
        exact_match(&gold, &answer, matching)
    }

    #[test]
    fn what_is_ignored_is_taken_out_of_both() {
        let matching = MatchOptions {
            ignore_case: true,
            regexes_to_ignore: [",", r"\$", r"(?s).*#### ", r"\.$"].map(str::to_owned).to_vec(),
            ..MatchOptions::default()
        };
        assert_eq!(equal(json!("blah #### 1234.50"), json!("$1,234.50."), &matching), Ok(1.0));
        assert_eq!(equal(json!("x"), json!("x "), &MatchOptions::default()), Ok(0.0));
    }

    #[test]
    fn each_thing_is_ignored_on_its_own() {
        let case = MatchOptions { ignore_case: true, ..MatchOptions::default() };
        let punctuation = MatchOptions { ignore_punctuation: true, ..MatchOptions::default() };
        let numbers = MatchOptions { ignore_numbers: true, ..MatchOptions::default() };
        for (answer, scores) in [("A1!", [1.0, 0.0, 0.0]), ("a.1", [0.0, 1.0, 0.0]), ("2a!", [0.0, 0.0, 1.0])]
        {
            let found = [&case, &punctuation, &numbers].map(|one| equal(json!("a1!"), json!(answer), one));
            assert_eq!(found, scores.map(Ok), "{answer}");
        }
    }

    #[test]
    fn the_target_takes_the_answers_type() {
        let plain = MatchOptions::default();
        assert_eq!(equal(json!(5), json!("5"), &plain), Ok(1.0));
        assert_eq!(equal(json!(["a"]), json!("['a']"), &plain), Ok(1.0));
        assert_eq!(equal(json!("12"), json!(["12", "7"]), &plain), Ok(0.5));
        assert!(
            equal(json!("a"), json!(5), &plain).is_err() && equal(json!("a"), Value::Null, &plain).is_err()
        );
    }

    #[test]
    fn a_text_among_lists_of_targets_is_its_characters() {
        assert_eq!(gold_answer(&json!("ab"), None, true), Ok(Gold::Answers(vec![json!("a"), json!("b")])));
        assert_eq!(gold_answer(&json!("ab"), None, false), Ok(Gold::Answer(json!("ab"))));
        let choices = ["x".to_owned(), "y".to_owned()];
        assert_eq!(gold_answer(&json!(1), Some(&choices), false), Ok(Gold::Answer(json!("y"))));
        assert!(gold_answer(&json!(2), Some(&choices), false).is_err());
        assert_eq!(gold_answer(&json!(true), Some(&choices), false), Ok(Gold::Answer(json!("y"))));
        assert_eq!(
            gold_answer(&json!([3, "yes"]), None, true),
            Ok(Gold::Answers(vec![json!("3"), json!("yes")]))
        );
        assert!(gold_answer(&json!([["yes"]]), None, true).is_err());
    }
}
