//! A task file, parsed and checked.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_yaml_ng::Value as Yaml;

use super::error::TaskError;
use super::metric::Metric;
use crate::data::{DataError, DataRoots, DataSource};
use crate::job::{Digest, canonical_json};

/// What a task asks of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    /// The log-likelihood of each choice.
    MultipleChoice,
    /// The log-likelihood of one target and whether it is the greedy continuation.
    Loglikelihood,
}

/// How a document's requests become its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// By each metric's own rule.
    #[default]
    Standard,
    /// TruthfulQA MC2: the part of the choices' total probability that the true ones have.
    TrueProbability,
}

/// A checked task with the place of its documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// What it asks of the model.
    pub output_type: OutputType,
    /// Where its documents are, if they are here.
    pub documents: Option<DataSource>,
    /// What the documents are called where they are published.
    pub documents_name: String,
    /// What stands before every prompt.
    pub description: String,
    /// Prompt: a column's name or a template.
    pub doc_to_text: String,
    /// Target: a column's name, a template, or the number of the right choice.
    pub doc_to_target: String,
    /// Choices: a list, a column's name or a template of a list; none for log-likelihood tasks.
    pub doc_to_choice: Option<Choices>,
    /// How requests become metrics.
    pub scoring: Scoring,
    /// What stands between prompt and choice.
    pub target_delimiter: String,
    /// Metrics, the first being the one that a bare task name means.
    pub metrics: Vec<Metric>,
    /// lm_eval's version of the task, as text.
    pub version: String,
}

/// Where choices come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Choices {
    /// The same for every document.
    List(Vec<String>),
    /// A column's name, or a template of a list.
    Text(String),
}

/// The fields of a task file that are read; any other is refused by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFile {
    task: String,
    #[serde(default, rename = "tag")]
    _tag: Yaml,
    dataset_path: String,
    dataset_name: Option<String>,
    output_type: String,
    #[serde(rename = "training_split")]
    _training_split: Option<String>,
    validation_split: Option<String>,
    test_split: Option<String>,
    doc_to_text: String,
    doc_to_target: Yaml,
    doc_to_choice: Option<Choices>,
    description: Option<String>,
    process_results: Option<Yaml>,
    #[serde(default, rename = "fewshot_split")]
    _fewshot_split: Option<String>,
    #[serde(default, rename = "fewshot_config")]
    _fewshot_config: Yaml,
    #[serde(default, rename = "task_alias")]
    _task_alias: Yaml,
    target_delimiter: Option<String>,
    num_fewshot: Option<u64>,
    metric_list: Option<Vec<MetricEntry>>,
    metadata: Option<Metadata>,
    #[serde(default, rename = "should_decontaminate")]
    _should_decontaminate: bool,
    #[serde(rename = "doc_to_decontamination_query")]
    _query: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricEntry {
    metric: String,
    aggregation: Option<String>,
    higher_is_better: Option<bool>,
}

#[derive(Deserialize)]
struct Metadata {
    version: Option<Yaml>,
}

impl Task {
    /// Parses a task file. `file` is its name for errors; `folder` is where `[data_sets]` paths start. Errors: not a
    /// task, something unsupported (named).
    pub fn parse(file: &str, text: &str, folder: &Path, roots: &DataRoots) -> Result<Self, TaskError> {
        let malformed = |reason: String| TaskError::Malformed { file: file.to_owned(), reason };
        let parsed: TaskFile = serde_yaml_ng::from_str(text).map_err(|error| malformed(error.to_string()))?;
        let task = parsed.task.clone();
        let unsupported =
            |what, value: &str| TaskError::Unsupported { task: task.clone(), what, value: value.to_owned() };
        let output_type = match parsed.output_type.as_str() {
            "multiple_choice" => OutputType::MultipleChoice,
            "loglikelihood" => OutputType::Loglikelihood,
            other => return Err(unsupported("output_type", other)),
        };
        if parsed.num_fewshot.unwrap_or(0) > 0 {
            return Err(unsupported("num_fewshot", &parsed.num_fewshot.unwrap_or(0).to_string()));
        }
        if parsed.test_split.is_none() && parsed.validation_split.is_none() {
            return Err(malformed("it has neither test_split nor validation_split".to_owned()));
        }
        if output_type == OutputType::MultipleChoice && parsed.doc_to_choice.is_none() {
            return Err(malformed("a multiple_choice task needs doc_to_choice".to_owned()));
        }
        let doc_to_target = match parsed.doc_to_target {
            Yaml::String(text) => text,
            Yaml::Number(number) => number.to_string(),
            _ => return Err(malformed("doc_to_target is neither a text nor a number".to_owned())),
        };
        let metrics = read_metrics(&task, output_type, parsed.metric_list)?;
        let scoring = read_scoring(&task, parsed.process_results)?;
        let config = parsed.dataset_name.as_deref();
        let documents = match DataSource::documents(&parsed.dataset_path, config, folder, roots) {
            Ok(documents) => Some(documents),
            Err(DataError::NotLocal { .. }) => None,
            Err(source) => return Err(TaskError::Documents { task, source }),
        };
        let documents_name = config.map_or_else(
            || parsed.dataset_path.clone(),
            |config| format!("{} ({config})", parsed.dataset_path),
        );
        Ok(Self {
            name: parsed.task,
            output_type,
            documents,
            documents_name,
            description: parsed.description.unwrap_or_default(),
            scoring,
            doc_to_text: parsed.doc_to_text,
            doc_to_target,
            doc_to_choice: parsed.doc_to_choice,
            target_delimiter: parsed.target_delimiter.unwrap_or_else(|| " ".to_owned()),
            metrics,
            version: version_text(parsed.metadata.and_then(|metadata| metadata.version)),
        })
    }

    /// The version that a score key holds: the definition without the place of its documents, and their content.
    pub fn version_digest(&self, documents: Digest) -> Digest {
        let definition = (
            &self.name,
            self.output_type,
            (&self.doc_to_text, &self.doc_to_target, &self.doc_to_choice, &self.target_delimiter),
            (&self.metrics, self.scoring, &self.description),
            &self.version,
            documents,
        );
        Digest::of(canonical_json(&definition).as_bytes())
    }
}

/// The one function that is known by name; it is the published task's own.
fn read_scoring(task: &str, function: Option<Yaml>) -> Result<Scoring, TaskError> {
    let name = match function {
        None => return Ok(Scoring::Standard),
        Some(Yaml::Tagged(tagged)) => tagged.value.as_str().unwrap_or_default().to_owned(),
        Some(_) => "no function".to_owned(),
    };
    if task == "truthfulqa_mc2" && name == "utils.process_results_mc2" {
        return Ok(Scoring::TrueProbability);
    }
    Err(TaskError::Unsupported { task: task.to_owned(), what: "process_results", value: name })
}

/// The metrics of a file, or lm_eval's defaults for the output type.
fn read_metrics(
    task: &str,
    output_type: OutputType,
    list: Option<Vec<MetricEntry>>,
) -> Result<Vec<Metric>, TaskError> {
    let unsupported =
        |what, value: &str| TaskError::Unsupported { task: task.to_owned(), what, value: value.to_owned() };
    let Some(entries) = list else {
        return Ok(match output_type {
            OutputType::MultipleChoice => vec![Metric::Acc, Metric::AccNorm],
            OutputType::Loglikelihood => vec![Metric::Perplexity, Metric::Acc],
        });
    };
    let mut metrics = Vec::new();
    for entry in entries {
        let metric = Metric::named(&entry.metric).ok_or_else(|| unsupported("metric", &entry.metric))?;
        let natural = if metric == Metric::Perplexity { "perplexity" } else { "mean" };
        if let Some(aggregation) = entry.aggregation.filter(|aggregation| aggregation != natural) {
            return Err(unsupported("aggregation", &aggregation));
        }
        if entry.higher_is_better.is_some_and(|higher| higher != metric.higher_is_better()) {
            return Err(unsupported("higher_is_better of", &entry.metric));
        }
        if output_type == OutputType::Loglikelihood && metric == Metric::AccNorm
            || output_type == OutputType::MultipleChoice && metric == Metric::Perplexity
        {
            return Err(unsupported("metric", &entry.metric));
        }
        metrics.push(metric);
    }
    Ok(metrics)
}

fn version_text(version: Option<Yaml>) -> String {
    match version {
        Some(Yaml::Number(number)) => number.to_string(),
        Some(Yaml::String(text)) => text,
        _ => "Yaml".to_owned(),
    }
}
