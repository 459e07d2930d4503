//! A task that can be scored: its file, checked, with the place of its documents.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::TaskError;
use super::function::{Known, Modules, Native, RowFilter};
use super::metric::Metric;
use super::spec::{Field, TaskSpec};
use super::yaml::Node;
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

/// What rows go through before they are documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowStep {
    /// Only these stay.
    Filter(RowFilter),
    /// A published function.
    Native(Native),
}

/// How examples are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// At random, by one generator for the whole task.
    Random,
    /// The first ones.
    FirstN,
}

/// Examples before each document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shots {
    /// How many.
    pub count: u64,
    /// How many the file itself says.
    pub of_file: Option<u64>,
    /// How they are chosen.
    pub sampler: Sampler,
    /// Whether a document is never its own example.
    pub excludes_own: bool,
    /// Where they are, if they are here.
    pub documents: Option<DataSource>,
    /// What they are called where they are published.
    pub documents_name: String,
    /// What stands after each.
    pub delimiter: String,
    /// A key of the file's examples that is not carried out: the task has no examples here.
    pub not_carried_out: Option<String>,
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
    /// What rows go through first.
    pub rows: Option<RowStep>,
    /// What stands before every prompt.
    pub description: String,
    /// What makes the prompt.
    pub doc_to_text: Field,
    /// What makes the target.
    pub doc_to_target: Field,
    /// What makes the choices; none for log-likelihood tasks.
    pub doc_to_choice: Option<Field>,
    /// How requests become metrics.
    pub scoring: Scoring,
    /// What stands between prompt and choice.
    pub target_delimiter: String,
    /// Examples before each document.
    pub shots: Shots,
    /// Metrics, the first being the one that a bare task name means.
    pub metrics: Vec<Metric>,
    /// lm_eval's version of the task, as text.
    pub version: String,
}

impl Task {
    /// A task from its file's map. `file` is its name for errors; `folder` is where `[data_sets]` paths start. Errors: not
    /// a task, something unsupported (named).
    pub(super) fn build(
        file: &str,
        node: Node,
        folder: &Path,
        roots: &DataRoots,
        modules: &Modules,
    ) -> Result<Self, TaskError> {
        let malformed =
            |reason: &str| TaskError::Malformed { file: file.to_owned(), reason: reason.to_owned() };
        let name = node.get("task").and_then(Node::scalar).ok_or_else(|| malformed("task is missing"))?;
        let unsupported =
            |what, value: &str| TaskError::Unsupported { task: name.clone(), what, value: value.to_owned() };
        let spec = TaskSpec::check(node, modules).map_err(|(what, value)| unsupported(what, &value))?;
        let output_type = match spec.output_type.as_str() {
            "multiple_choice" => OutputType::MultipleChoice,
            "loglikelihood" => OutputType::Loglikelihood,
            other => return Err(unsupported("output_type", other)),
        };
        let reader = Reader { spec: &spec, file, folder, roots };
        if output_type == OutputType::MultipleChoice && spec.doc_to_choice.is_none() {
            return Err(malformed("a multiple_choice task needs doc_to_choice"));
        }
        let scoring = match &spec.process_results {
            None => Scoring::Standard,
            Some(Known::Native(Native::TruthfulQaMc2)) => Scoring::TrueProbability,
            Some(_) => return Err(unsupported("process_results", "of another kind")),
        };
        let rows = match &spec.process_docs {
            None => None,
            Some(Known::Filter(filter)) => Some(RowStep::Filter(filter.clone())),
            Some(Known::Native(native)) => Some(RowStep::Native(*native)),
            Some(Known::WeightedF1) => return Err(unsupported("process_docs", "a metric")),
        };
        for key in ["gen_prefix", "filter_list"] {
            if spec.node.get(key).is_some() {
                return Err(unsupported("key", key));
            }
        }
        let split = spec.text("test_split").or_else(|| spec.text("validation_split"));
        let split = split.ok_or_else(|| malformed("it has neither test_split nor validation_split"))?;
        let (documents, documents_name) = reader.source(&split, true)?;
        let shots = reader.shots()?;
        let metrics = read_metrics(&name, output_type, spec.node.get("metric_list"))?;
        let field = |field: &Option<Field>, key: &'static str| {
            field.clone().ok_or_else(|| malformed(&format!("{key} is missing")))
        };
        let version =
            spec.node.get("metadata").and_then(|metadata| metadata.get("version")).and_then(Node::scalar);
        Ok(Self {
            output_type,
            documents,
            documents_name,
            rows,
            description: spec.text("description").unwrap_or_default(),
            doc_to_text: field(&spec.doc_to_text, "doc_to_text")?,
            doc_to_target: field(&spec.doc_to_target, "doc_to_target")?,
            doc_to_choice: spec.doc_to_choice.clone(),
            scoring,
            target_delimiter: spec.text("target_delimiter").unwrap_or_else(|| " ".to_owned()),
            shots,
            metrics,
            version: version.unwrap_or_else(|| "Yaml".to_owned()),
            name,
        })
    }

    /// The task with this many examples before each document, unless its file says 0.
    pub fn with_shots(mut self, count: Option<u64>) -> Self {
        if self.shots.of_file != Some(0) {
            self.shots.count = count.or(self.shots.of_file).unwrap_or(0);
        }
        self
    }

    /// The version that a score key holds: the definition without the place of its documents, and their content.
    pub fn version_digest(&self, documents: Digest) -> Digest {
        let shots = (self.shots.count > 0).then(|| {
            let Shots { count, sampler, excludes_own, documents_name, delimiter, .. } = &self.shots;
            (*count, *sampler, *excludes_own, documents_name.clone(), delimiter.clone())
        });
        let definition = (
            &self.name,
            self.output_type,
            (&self.doc_to_text, &self.doc_to_target, &self.doc_to_choice, &self.target_delimiter),
            (&self.metrics, self.scoring, &self.description, &self.rows, shots),
            &self.version,
            documents,
        );
        Digest::of(canonical_json(&definition).as_bytes())
    }
}

impl TaskSpec {
    /// A key's text; none where the file has none, or null.
    fn text(&self, key: &str) -> Option<String> {
        self.node.get(key).and_then(Node::scalar)
    }
}

struct Reader<'a> {
    spec: &'a TaskSpec,
    file: &'a str,
    folder: &'a Path,
    roots: &'a DataRoots,
}

impl Reader<'_> {
    /// The rows of a split, if they are here, and their published name. Errors: unknown.
    fn source(&self, split: &str, evaluated: bool) -> Result<(Option<DataSource>, String), TaskError> {
        let path = self.spec.text("dataset_path").ok_or_else(|| TaskError::Malformed {
            file: self.file.to_owned(),
            reason: "dataset_path is missing".to_owned(),
        })?;
        let config = self.spec.text("dataset_name");
        let mut name = config.as_ref().map_or_else(|| path.clone(), |config| format!("{path} ({config})"));
        if !evaluated {
            name += &format!(", {split}");
        }
        if matches!(path.as_str(), "json" | "csv" | "parquet") {
            return Ok((self.data_file(split), name));
        }
        let other = (!evaluated).then_some(split);
        match DataSource::documents(&path, config.as_deref(), other, self.folder, self.roots) {
            Ok(documents) => Ok((Some(documents), name)),
            Err(DataError::NotLocal { .. }) => Ok((None, name)),
            Err(source) => Err(TaskError::Documents { task: self.spec.name.clone(), source }),
        }
    }

    /// The file that `dataset_kwargs` name for a split, beside the task file or from where the program runs.
    fn data_file(&self, split: &str) -> Option<DataSource> {
        let files = self.spec.node.get("dataset_kwargs")?.get("data_files")?;
        let name = match files {
            Node::Map(_) => files.get(split)?,
            other => other,
        };
        let name = match name {
            Node::List(names) => names.first()?.text()?,
            other => other.text()?,
        };
        let beside = Path::new(self.file).parent().map(|folder| folder.join(name));
        let path = beside.filter(|path| path.is_file()).unwrap_or_else(|| self.folder.join(name));
        path.is_file().then_some(DataSource::File { path })
    }

    fn shots(&self) -> Result<Shots, TaskError> {
        let spec = self.spec;
        let unsupported = |value: &str| TaskError::Unsupported {
            task: spec.name.clone(),
            what: "fewshot_config",
            value: value.to_owned(),
        };
        let config = spec.node.get("fewshot_config");
        let sampler = match config.and_then(|config| config.get("sampler")).and_then(Node::text) {
            None | Some("default") => Sampler::Random,
            Some("first_n") => Sampler::FirstN,
            Some(other) => return Err(unsupported(other)),
        };
        let of_file = spec.text("num_fewshot").and_then(|text| text.parse().ok());
        let own = ["fewshot_split", "training_split", "validation_split", "test_split"];
        let split = own.iter().find_map(|key| spec.text(key)).unwrap_or_default();
        let evaluated = spec.text("test_split").or_else(|| spec.text("validation_split"));
        let (documents, documents_name) = self.source(&split, Some(&split) == evaluated.as_ref())?;
        Ok(Shots {
            count: of_file.unwrap_or(0),
            of_file,
            sampler,
            // lm_eval compares the names as the file has them, also where both are unsaid.
            excludes_own: spec.text("fewshot_split") == spec.text("test_split"),
            documents,
            documents_name,
            delimiter: spec.text("fewshot_delimiter").unwrap_or_else(|| "\n\n".to_owned()),
            not_carried_out: match config {
                Some(Node::Map(entries)) => {
                    entries.iter().map(|(key, _)| key).find(|key| *key != "sampler").cloned()
                }
                _ => None,
            },
        })
    }
}

/// The metrics of a file, or lm_eval's defaults for the output type.
fn read_metrics(task: &str, output_type: OutputType, list: Option<&Node>) -> Result<Vec<Metric>, TaskError> {
    let unsupported =
        |what, value: &str| TaskError::Unsupported { task: task.to_owned(), what, value: value.to_owned() };
    let Some(Node::List(entries)) = list else {
        return Ok(match output_type {
            OutputType::MultipleChoice => vec![Metric::Acc, Metric::AccNorm],
            OutputType::Loglikelihood => vec![Metric::Perplexity, Metric::Acc],
        });
    };
    let mut metrics = Vec::new();
    for entry in entries {
        let name = entry.get("metric").and_then(Node::scalar).unwrap_or_default();
        let metric = Metric::named(&name).ok_or_else(|| unsupported("metric", &name))?;
        let natural = if metric == Metric::Perplexity { "perplexity" } else { "mean" };
        let aggregation = entry.get("aggregation").map(|aggregation| aggregation.json().to_string());
        if aggregation.as_ref().is_some_and(|aggregation| aggregation.trim_matches('"') != natural) {
            return Err(unsupported("aggregation", &aggregation.unwrap_or_default()));
        }
        if let Some(Node::Bool(higher)) = entry.get("higher_is_better")
            && *higher != metric.higher_is_better()
        {
            return Err(unsupported("higher_is_better of", &name));
        }
        if output_type == OutputType::Loglikelihood && matches!(metric, Metric::AccNorm | Metric::AccBytes)
            || output_type == OutputType::MultipleChoice && metric == Metric::Perplexity
        {
            return Err(unsupported("metric", &name));
        }
        metrics.push(metric);
    }
    Ok(metrics)
}
