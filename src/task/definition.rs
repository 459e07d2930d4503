//! A task file, parsed and checked.

use serde::{Deserialize, Serialize};
use serde_yaml_ng::Value as Yaml;

use super::error::TaskError;
use super::metric::Metric;
use crate::data::{DataRoots, DataSource};
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

/// A checked task with the place of its documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// What it asks of the model.
    pub output_type: OutputType,
    /// Where its documents are.
    pub documents: DataSource,
    /// Prompt: a column's name or a template.
    pub doc_to_text: String,
    /// Target: a column's name, a template, or the number of the right choice.
    pub doc_to_target: String,
    /// Choices: a column's name or a template of a list; none for log-likelihood tasks.
    pub doc_to_choice: Option<String>,
    /// What stands between prompt and choice.
    pub target_delimiter: String,
    /// Metrics, the first being the one that a bare task name means.
    pub metrics: Vec<Metric>,
    /// lm_eval's version of the task, as text.
    pub version: String,
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
    doc_to_choice: Option<String>,
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
    /// Parses a task file. `file` is its name for errors. Errors: not a task, something unsupported (named), no
    /// documents here.
    pub fn parse(file: &str, text: &str, roots: &DataRoots) -> Result<Self, TaskError> {
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
        let documents = DataSource::documents(&parsed.dataset_path, parsed.dataset_name.as_deref(), roots)
            .map_err(|source| TaskError::Documents { task: task.clone(), source })?;
        Ok(Self {
            name: parsed.task,
            output_type,
            documents,
            doc_to_text: parsed.doc_to_text,
            doc_to_target,
            doc_to_choice: parsed.doc_to_choice,
            target_delimiter: parsed.target_delimiter.unwrap_or_else(|| " ".to_owned()),
            metrics,
            version: version_text(parsed.metadata.and_then(|metadata| metadata.version)),
        })
    }

    /// The version that a score key holds: the definition without the place of its documents, and their content.
    pub fn version_digest(&self, documents: &Digest) -> Digest {
        let definition = (
            &self.name,
            self.output_type,
            (&self.doc_to_text, &self.doc_to_target, &self.doc_to_choice, &self.target_delimiter),
            &self.metrics,
            &self.version,
            documents,
        );
        Digest::of(canonical_json(&definition).as_bytes())
    }
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
