//! The lines of `samples_TASK_*.jsonl`.

use serde_json::{Map, Value, json};

use super::json::pretty;
use super::outcome::TaskResult;
use super::results::place;
use crate::job::Digest;
use crate::protocol::DocumentScore;
use crate::python::python_str;
use crate::task::{
    Document, DocumentValue, Generation, Metric, OutputType, Request, ShownAnswer, TaskError, shown_answers,
};

fn hash(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

/// The three hashes of a document: row, first prompt and target.
fn hashes(document: &Document) -> [String; 3] {
    let prompt = match document.requests.first() {
        Some(Request::Rolling { text }) => text,
        Some(pair) => pair.context(),
        None => "",
    };
    [hash(&pretty(&Value::Object(document.row.clone()))), hash(prompt), hash(&document.target)]
}

/// lm_eval's hash of a task: over the hashes of all its lines.
pub fn task_hash(result: &TaskResult) -> String {
    let joined: String = result.documents.iter().flat_map(hashes).collect();
    hash(&joined.repeat(result.task.filters.len()))
}

/// One line for each filter and document, filters outermost. Error: a filter that cannot be applied to an answer any more.
pub fn samples_jsonl(result: &TaskResult) -> Result<Vec<Value>, TaskError> {
    let pairs = || result.documents.iter().zip(&result.scores);
    if let Some(generation) = &result.task.generation {
        return answered_lines(result, generation);
    }
    let lines = result.task.filters.iter().flat_map(|filter| pairs().map(move |pair| (filter, pair)));
    Ok(lines.map(|(filter, (document, score))| line(result, filter, document, score)).collect())
}

/// The lines of a task whose answers are generated.
fn answered_lines(result: &TaskResult, generation: &Generation) -> Result<Vec<Value>, TaskError> {
    let mut by_filter: Vec<Vec<Value>> = vec![Vec::new(); generation.pipelines.len()];
    for (document, score) in result.documents.iter().zip(&result.scores) {
        let shown = shown_answers(&result.task, generation, document, &score.answers)?;
        let [doc_hash, prompt_hash, target_hash] = hashes(document);
        let context = document.requests.first().map_or("", Request::context);
        for (lines, ShownAnswer { filter, filtered, metrics }) in by_filter.iter_mut().zip(shown) {
            let names: Vec<&str> = metrics.iter().map(|(name, _)| *name).collect();
            let mut line = json!({
                "doc_id": document.id,
                "doc": document.row,
                "target": document.target,
                "arguments": { "gen_args_0": { "arg_0": context, "arg_1": generation.settings.kwargs } },
                "resps": [score.answers],
                "filtered_resps": [spelled(&filtered)],
                "filter": filter,
                "metrics": names,
                "doc_hash": doc_hash,
                "prompt_hash": prompt_hash,
                "target_hash": target_hash,
            });
            for (name, value) in metrics {
                line[name] = value;
            }
            lines.push(line);
        }
    }
    Ok(by_filter.into_iter().flatten().collect())
}

/// Every leaf as Python prints it.
fn spelled(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(spelled).collect(),
        other => python_str(other).into(),
    }
}

fn line(result: &TaskResult, filter: &str, document: &Document, score: &DocumentScore) -> Value {
    let argument = |(number, request): (usize, &Request)| {
        let argument = match request {
            Request::Pair { context, continuation } => json!({ "arg_0": context, "arg_1": continuation }),
            Request::Rolling { text } => json!({ "arg_0": text }),
            Request::Generate { context } => json!({ "arg_0": context }),
        };
        (format!("gen_args_{number}"), argument)
    };
    let arguments: Map<String, Value> = document.requests.iter().enumerate().map(argument).collect();
    let rolling = result.task.output_type == OutputType::LoglikelihoodRolling;
    let answers: Vec<Value> = score
        .requests
        .iter()
        .map(|request| {
            let likelihood = python_str(&json!(request.log_likelihood));
            match rolling {
                true => json!(likelihood),
                false => json!([likelihood, if request.is_greedy { "True" } else { "False" }]),
            }
        })
        .collect();
    let raw: Vec<Value> = answers.iter().map(|answer| json!([answer])).collect();
    let [doc_hash, prompt_hash, target_hash] = hashes(document);
    let mut values: Vec<(Metric, &DocumentValue)> =
        result.task.metrics.iter().map(|metric| metric.metric).zip(&score.metrics).collect();
    values.sort_by_key(|(metric, _)| place(*metric));
    let metrics: Vec<&str> = values.iter().map(|(metric, _)| metric.as_str()).collect();
    let mut line = json!({
        "doc_id": document.id,
        "doc": document.row,
        "target": document.target,
        "arguments": arguments,
        "resps": raw,
        "filtered_resps": answers,
        "filter": filter,
        "metrics": metrics,
        "doc_hash": doc_hash,
        "prompt_hash": prompt_hash,
        "target_hash": target_hash,
    });
    for (metric, value) in values {
        line[metric.as_str()] = value_json(metric, value);
    }
    line
}

/// A value as lm_eval prints it: integers for counts, pairs as lists.
fn value_json(metric: Metric, value: &DocumentValue) -> Value {
    let whole = |number: f64| json!(number as i64);
    match (metric, value) {
        (Metric::ExactMatch, DocumentValue::Number(number)) => whole(*number),
        (_, DocumentValue::Number(number)) => json!(number),
        (Metric::F1 | Metric::Mcc, DocumentValue::Parts(parts)) => parts.iter().map(|p| whole(*p)).collect(),
        (Metric::BrierScore, DocumentValue::Parts(parts)) => match parts.split_first() {
            Some((gold, probabilities)) => json!([whole(*gold), probabilities]),
            None => Value::Null,
        },
        (_, DocumentValue::Parts(parts)) => match parts.as_slice() {
            [likelihood, length] => json!([likelihood, whole(*length)]),
            other => json!(other),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_pythons_json() {
        let doc = json!({ "q": "Question number 0?", "choices": ["alpha", "be ta", "gamma é"], "label": 0, "s": "doc0" });
        assert!(hash(&pretty(&doc)).starts_with("1f3bc8979b29e1c8"));
        assert!(hash("0").starts_with("5feceb66ffc8"));
        assert!(hash(&python_str(&json!(["a0", "The b."]))).starts_with("630eb1d53d71"));
    }
}
