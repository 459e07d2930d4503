//! lm_eval's files.

use serde_json::{Map, Value, json};

use crate::job::Digest;
use crate::protocol::DocumentScore;
use crate::task::{Aggregate, Document, Task};

/// The results of a task.
#[derive(Debug, Clone)]
pub struct TaskResult {
    /// The task.
    pub task: Task,
    /// Its documents.
    pub documents: Vec<Document>,
    /// Their scores, in the same order.
    pub scores: Vec<DocumentScore>,
    /// Its metrics over all documents.
    pub aggregates: Vec<Aggregate>,
}

/// What was evaluated and how.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The model's name.
    pub model: String,
    /// The adapter's folder.
    pub adapter: Option<String>,
    /// Compute dtype.
    pub dtype: String,
    /// Parameters of the base model.
    pub parameters: u64,
    /// First documents only.
    pub limit: Option<u64>,
    /// Longest sequence in tokens.
    pub max_length: u64,
    /// Seconds since 1970.
    pub date: f64,
    /// Seconds that it took.
    pub seconds: f64,
}

/// The content of `results_*.json`.
pub fn results_json(evaluation: &Evaluation, results: &[TaskResult]) -> Value {
    let mut by_task = Map::new();
    for result in results {
        let mut own = Map::new();
        own.insert("name".into(), json!(result.task.name));
        own.insert("alias".into(), json!(result.task.name));
        own.insert("sample_len".into(), json!(result.documents.len()));
        for aggregate in &result.aggregates {
            let metric = aggregate.metric.as_str();
            own.insert(format!("{metric},none"), json!(aggregate.value));
            let stderr = aggregate.stderr.map_or_else(|| json!("N/A"), |stderr| json!(stderr));
            own.insert(format!("{metric}_stderr,none"), stderr);
        }
        by_task.insert(result.task.name.clone(), Value::Object(own));
    }
    let each = |value: &dyn Fn(&TaskResult) -> Value| {
        Value::Object(results.iter().map(|result| (result.task.name.clone(), value(result))).collect())
    };
    let better = |result: &TaskResult| {
        let metrics = result
            .aggregates
            .iter()
            .map(|a| (a.metric.as_str().to_owned(), a.metric.higher_is_better().into()));
        Value::Object(metrics.collect())
    };
    let peft = evaluation.adapter.as_ref().map(|adapter| format!(",peft={adapter}")).unwrap_or_default();
    let named = evaluation.adapter.as_ref().unwrap_or(&evaluation.model);
    json!({
        "results": by_task,
        "group_subtasks": each(&|_| json!([])),
        "configs": each(&|result| json!({
            "task": result.task.name, "dataset_path": result.task.documents_name,
            "doc_to_text": result.task.doc_to_text, "doc_to_target": result.task.doc_to_target,
            "doc_to_choice": result.task.doc_to_choice, "target_delimiter": result.task.target_delimiter,
            "fewshot_delimiter": result.task.shots.delimiter, "num_fewshot": result.task.shots.count,
            "output_type": result.task.output_type, "metadata": { "version": result.task.version },
        })),
        "versions": each(&|result| json!(result.task.version)),
        "n-shot": each(&|result| json!(result.task.shots.count)),
        "higher_is_better": each(&better),
        "n-samples": each(&|result| json!({
            "original": result.documents.len(), "effective": result.documents.len(),
        })),
        "config": {
            "model": "loragrid",
            "model_args": format!("pretrained={}{peft},dtype={}", evaluation.model, evaluation.dtype),
            "model_num_parameters": evaluation.parameters,
            "model_dtype": evaluation.dtype,
            "batch_size": Value::Null,
            "limit": evaluation.limit,
            "random_seed": 0, "numpy_seed": 1234, "torch_seed": 1234, "fewshot_seed": 1234,
        },
        "date": evaluation.date,
        "loragrid_version": env!("CARGO_PKG_VERSION"),
        "max_length": evaluation.max_length,
        "model_source": "loragrid",
        "model_name": named,
        "model_name_sanitized": sanitised(named),
        "total_evaluation_time_seconds": evaluation.seconds.to_string(),
    })
}

/// A name as lm_eval makes a folder of it: each run of `<>:/|\?*[]` and quotes is `__`.
pub(super) fn sanitised(name: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in name.chars() {
        let bad = "\"<>:/|\\?*[]".contains(c);
        if bad && !inside {
            out += "__";
        } else if !bad {
            out.push(c);
        }
        inside = bad;
    }
    out
}

impl Evaluation {
    /// The folder of its files under the output's.
    pub fn folder(&self) -> String {
        sanitised(self.adapter.as_ref().unwrap_or(&self.model))
    }
}

/// The lines of `samples_TASK_*.jsonl`.
pub fn samples_jsonl(result: &TaskResult) -> Vec<Value> {
    let hash = |text: &str| Digest::of(text.as_bytes()).to_string();
    let sample = |(document, score): (&Document, &DocumentScore)| {
        let arguments: Map<String, Value> = document
            .requests
            .iter()
            .enumerate()
            .map(|(n, r)| (format!("gen_args_{n}"), json!({ "arg_0": r.context, "arg_1": r.continuation })))
            .collect();
        let spelled = |greedy: bool| if greedy { "True" } else { "False" };
        let answers: Vec<Value> = score
            .requests
            .iter()
            .map(|r| json!([crate::task::python::python_str(&json!(r.log_likelihood)), spelled(r.is_greedy)]))
            .collect();
        let raw: Vec<Value> = answers.iter().map(|answer| json!([answer])).collect();
        let doc = serde_json::to_string_pretty(&document.row).unwrap_or_default();
        let mut line = json!({
            "doc_id": document.id,
            "doc": document.row,
            "target": document.target,
            "arguments": arguments,
            "resps": raw,
            "filtered_resps": answers,
            "filter": "none",
            "metrics": result.aggregates.iter().map(|a| a.metric.as_str()).collect::<Vec<_>>(),
            "doc_hash": hash(&doc),
            "prompt_hash": hash(document.requests.first().map_or("", |request| &request.context)),
            "target_hash": hash(&document.target),
        });
        for (aggregate, value) in result.aggregates.iter().zip(&score.metrics) {
            line[aggregate.metric.as_str()] = json!(value);
        }
        line
    };
    result.documents.iter().zip(&result.scores).map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_becomes_a_folder_as_in_lm_eval() {
        assert_eq!(sanitised("/data/m:x//y[1]"), "__data__m__x__y__1__");
    }

    #[test]
    fn hashes_are_those_of_pythons_json() {
        let doc = json!({ "q": "Question number 0?", "choices": ["alpha", "be ta", "gamma é"], "label": 0, "s": "doc0" });
        let text = serde_json::to_string_pretty(&doc).unwrap();
        assert!(Digest::of(text.as_bytes()).to_string().starts_with("1f3bc8979b29e1c8"));
        assert!(Digest::of(b"0").to_string().starts_with("5feceb66ffc8"));
        let list = crate::task::python::python_str(&json!(["a0", "The b."]));
        assert!(Digest::of(list.as_bytes()).to_string().starts_with("630eb1d53d71"));
    }
}
