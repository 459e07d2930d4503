//! A task file, read and checked against lm_eval's dialect, whether or not it can be scored here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::Row;
use crate::task::dialect::function::{KnownFunction, Modules, Native};
use crate::task::dialect::yaml::{Function, Node};
use crate::task::generation::Generation;
use crate::task::metric::kind::Aggregation;
use crate::task::published::{self, Answered, Recognized};

/// Every key of a task.
const KEYS: &[&str] = &[
    "task",
    "task_alias",
    "tag",
    "custom_dataset",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "process_docs",
    "doc_to_text",
    "doc_to_target",
    "doc_to_image",
    "doc_to_audio",
    "unsafe_code",
    "doc_to_choice",
    "process_results",
    "use_prompt",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "fewshot_config",
    "num_fewshot",
    "metric_list",
    "output_type",
    "generation_kwargs",
    "repeats",
    "filter_list",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "gen_prefix",
    "metadata",
    "group",
    "task_list",
];
/// Metrics of lm_eval by name.
const METRICS: &[&str] = &[
    "acc",
    "acc_norm",
    "acc_bytes",
    "acc_mutual_info",
    "exact_match",
    "f1",
    "mcc",
    "perplexity",
    "word_perplexity",
    "byte_perplexity",
    "bits_per_byte",
    "brier_score",
    "bleu",
    "chrf",
    "chrf++",
    "ter",
    "likelihood",
];
/// Aggregations of lm_eval by name.
const AGGREGATIONS: &[&str] = &[
    "mean",
    "nanmean",
    "median",
    "perplexity",
    "weighted_perplexity",
    "bits_per_byte",
    "f1",
    "matthews_corrcoef",
    "brier_score",
    "bleu",
    "chrf",
    "chrf++",
    "ter",
];
/// Filters of lm_eval by name.
const FILTERS: &[&str] = &[
    "take_first",
    "take_first_k",
    "regex",
    "regex_pos",
    "multi_choice_regex",
    "remove_whitespace",
    "lowercase",
    "uppercase",
    "map",
    "majority_vote",
    "format_span",
];

/// A field computed from a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// A column's name or a template.
    Text(String),
    /// A number.
    Int(i64),
    /// The same list for every document.
    List(Vec<String>),
    /// A reimplemented function.
    Native(crate::task::dialect::function::FieldFunction),
    /// A published function with its constants.
    Published {
        /// The function.
        function: published::FieldFunction,
        /// Its constants by name.
        constants: Row,
    },
}

/// A checked task file.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    /// Its name.
    pub name: String,
    /// Its output type, as written.
    pub output_type: String,
    /// The prompt field.
    pub doc_to_text: Option<Field>,
    /// The target field.
    pub doc_to_target: Option<Field>,
    /// The choices field.
    pub doc_to_choice: Option<Field>,
    /// Preprocessing of rows.
    pub process_docs: Option<KnownFunction>,
    /// Custom scoring that replaces the metrics' own rules.
    pub process_results: Option<KnownFunction>,
    /// Fields specific to examples.
    pub fewshot: FewshotFields,
    /// Other templates: description, gen_prefix.
    pub templates: Vec<(&'static str, String)>,
    /// How answers are generated; none for a task of log-likelihoods.
    pub generation: Option<Generation>,
    /// The whole file.
    pub(in crate::task) node: Node,
}

/// Fields specific to examples.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FewshotFields {
    /// The prompt field.
    pub doc_to_text: Option<Field>,
    /// The target field.
    pub doc_to_target: Option<Field>,
    /// The choices field.
    pub doc_to_choice: Option<Field>,
    /// Preprocessing of rows.
    pub process_docs: Option<KnownFunction>,
    /// Examples that a function lists.
    pub samples: Option<Vec<Row>>,
}

/// Why a task is rejected, as a countable message.
pub type Refusal = (&'static str, String);

impl TaskSpec {
    /// Checks a file's map. The error names the unknown item and its kind.
    pub(in crate::task) fn check(node: Node, modules: &Modules) -> Result<Self, Refusal> {
        let Node::Map(entries) = &node else { return Err(("file", "no map of keys".to_owned())) };
        if let Some((key, _)) = entries.iter().find(|(key, _)| !KEYS.contains(&key.as_str())) {
            return Err(("key", key.clone()));
        }
        let reader = Reader { node: &node, modules };
        for key in ["class", "custom_dataset", "doc_to_image", "doc_to_audio"] {
            if node.get(key).is_some() {
                return Err(("key", key.to_owned()));
            }
        }
        let output_type = node.get("output_type").and_then(Node::text).unwrap_or("generate_until").to_owned();
        let kinds = ["multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"];
        if !kinds.contains(&output_type.as_str()) {
            return Err(("output_type", output_type));
        }
        reader.metrics()?;
        reader.filters()?;
        let generation = match output_type.as_str() {
            "generate_until" => Some(reader.generation()?),
            _ => None,
        };
        let name = node.get("task").and_then(Node::scalar).ok_or(("key", "task is missing".to_owned()))?;
        Ok(Self {
            name,
            output_type,
            doc_to_text: reader.field("doc_to_text", &node)?,
            doc_to_target: reader.field("doc_to_target", &node)?,
            doc_to_choice: reader.field("doc_to_choice", &node)?,
            process_docs: reader.function("process_docs", &node)?,
            process_results: reader.function("process_results", &node)?,
            fewshot: reader.fewshot()?,
            templates: reader.templates(),
            generation,
            node,
        })
    }
}

pub(super) struct Reader<'a> {
    pub(super) node: &'a Node,
    pub(super) modules: &'a Modules,
}

impl Reader<'_> {
    pub(super) fn recognize(&self, key: &'static str, function: &Function) -> Result<KnownFunction, Refusal> {
        self.modules.recognize(function).ok_or_else(|| (key, function.name.clone()))
    }

    /// A key whose value must be a function.
    fn function(&self, key: &'static str, node: &Node) -> Result<Option<KnownFunction>, Refusal> {
        match node.get(key) {
            None => Ok(None),
            Some(Node::Function(function)) => self.recognize(key, function).map(Some),
            Some(other) => Err((key, other.json().to_string())),
        }
    }

    fn field(&self, key: &'static str, node: &Node) -> Result<Option<Field>, Refusal> {
        Ok(Some(match node.get(key) {
            None => return Ok(None),
            Some(Node::Function(function)) => match self.recognize(key, function)? {
                KnownFunction::Native(Native::Field(native)) => Field::Native(native),
                KnownFunction::Published(Recognized { answered: Answered::Field(function), constants }) => {
                    Field::Published { function, constants }
                }
                KnownFunction::Native(Native::Rows(_) | Native::Results(_))
                | KnownFunction::Published(_)
                | KnownFunction::Filter(_)
                | KnownFunction::WeightedF1 => return Err((key, function.name.clone())),
            },
            Some(Node::Int(number)) => Field::Int(*number),
            Some(Node::List(items)) => {
                Field::List(items.iter().map(|item| crate::python::python_str(&item.json())).collect())
            }
            // A map's values are the choices.
            Some(Node::Map(entries)) => Field::List(
                entries.iter().map(|(_, value)| crate::python::python_str(&value.json())).collect(),
            ),
            Some(other) => Field::Text(other.scalar().unwrap_or_default()),
        }))
    }

    fn metrics(&self) -> Result<(), Refusal> {
        let own_rule = self.node.get("process_results").is_some();
        let Some(Node::List(entries)) = self.node.get("metric_list") else { return Ok(()) };
        for entry in entries {
            match entry.get("metric") {
                Some(Node::Text(name)) if own_rule || METRICS.contains(&name.as_str()) => {}
                Some(Node::Function(function)) => {
                    self.recognize("metric", function)?;
                }
                other => return Err(("metric", other.map_or("none".to_owned(), |n| n.json().to_string()))),
            }
            match entry.get("aggregation") {
                None => {}
                Some(Node::Text(name)) if AGGREGATIONS.contains(&name.as_str()) => {}
                Some(Node::Function(function)) => match self.recognize("aggregation", function)? {
                    KnownFunction::WeightedF1 => {}
                    KnownFunction::Published(Recognized {
                        answered: Answered::Aggregation(known), ..
                    }) if Aggregation::published(known).is_some() => {}
                    _ => return Err(("aggregation", function.name.clone())),
                },
                Some(other) => return Err(("aggregation", other.json().to_string())),
            }
        }
        Ok(())
    }

    fn filters(&self) -> Result<(), Refusal> {
        let Some(Node::List(pipelines)) = self.node.get("filter_list") else { return Ok(()) };
        for pipeline in pipelines {
            let Some(Node::List(filters)) = pipeline.get("filter") else { continue };
            for filter in filters {
                let name = match filter.get("function") {
                    Some(Node::Text(name)) => name.clone(),
                    Some(Node::Function(function)) => {
                        self.filter_function(function)?;
                        continue;
                    }
                    _ => "none".to_owned(),
                };
                if !FILTERS.contains(&name.as_str()) {
                    return Err(("filter", name));
                }
                if let Some(pattern) = filter.get("regex_pattern").and_then(Node::text)
                    && crate::python::PythonRegex::new(pattern).is_err()
                {
                    return Err(("regex", pattern.to_owned()));
                }
            }
        }
        Ok(())
    }

    fn templates(&self) -> Vec<(&'static str, String)> {
        let of = |node: Option<&Node>, key: &'static str| Some((key, node?.get(key)?.scalar()?));
        let texts = ["description", "gen_prefix"].into_iter().filter_map(|key| of(Some(self.node), key));
        texts.chain(of(self.node.get("fewshot_config"), "gen_prefix")).collect()
    }

    /// Fields specific to examples. Error: an unknown function.
    fn fewshot(&self) -> Result<FewshotFields, Refusal> {
        let Some(fewshot) = self.node.get("fewshot_config") else { return Ok(FewshotFields::default()) };
        let samples = match fewshot.get("samples") {
            Some(Node::Function(function)) => Some(self.samples(function)?),
            _ => None,
        };
        Ok(FewshotFields {
            samples,
            doc_to_text: self.field("doc_to_text", fewshot)?,
            doc_to_target: self.field("doc_to_target", fewshot)?,
            doc_to_choice: self.field("doc_to_choice", fewshot)?,
            process_docs: self.function("process_docs", fewshot)?,
        })
    }
}

/// Task keys shown in lm_eval's results, in its order.
const SHOWN: &[&str] = &[
    "task",
    "task_alias",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "process_docs",
    "doc_to_text",
    "doc_to_target",
    "unsafe_code",
    "doc_to_choice",
    "process_results",
    "use_prompt",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "fewshot_config",
    "num_fewshot",
    "metric_list",
    "output_type",
    "generation_kwargs",
    "repeats",
    "filter_list",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "gen_prefix",
    "metadata",
];
/// Example keys, in lm_eval's order; missing ones default to the task's.
const SHOWN_OF_EXAMPLES: &[&str] = &[
    "sampler",
    "split",
    "process_docs",
    "fewshot_indices",
    "samples",
    "doc_to_text",
    "doc_to_choice",
    "doc_to_target",
    "gen_prefix",
    "fewshot_delimiter",
    "target_delimiter",
];

impl TaskSpec {
    /// The file as shown in lm_eval's results, from the file `source`. A function is printed as its name.
    pub(in crate::task) fn shown(&self, source: &str) -> Value {
        let value = |node: &Node, key: &str| node.get(key).map(Node::json);
        let default = |key: &str| match key {
            "unsafe_code" | "should_decontaminate" => Some(Value::Bool(false)),
            "description" => Some("".into()),
            "target_delimiter" => Some(" ".into()),
            "fewshot_delimiter" => Some("\n\n".into()),
            "num_fewshot" => Some(0.into()),
            "output_type" => Some(self.output_type.clone().into()),
            "repeats" => Some(1.into()),
            _ => None,
        };
        let of_task = |key: &str| value(&self.node, key).or_else(|| default(key));
        let nothing = Node::Map(Vec::new());
        let examples = self.node.get("fewshot_config").unwrap_or(&nothing);
        let of_examples = |key: &&str| {
            let inherited = match *key {
                "sampler" => Some("default".into()),
                "split" => value(&self.node, "fewshot_split"),
                "samples" | "fewshot_indices" => None,
                key => of_task(key),
            };
            ((*key).to_owned(), value(examples, key).or(inherited).unwrap_or(Value::Null))
        };
        let mut shown = serde_json::Map::new();
        for key in SHOWN {
            let value = match *key {
                "fewshot_config" => Some(Value::Object(SHOWN_OF_EXAMPLES.iter().map(of_examples).collect())),
                "metadata" => {
                    let mut metadata = value(&self.node, key).unwrap_or_else(|| serde_json::json!({}));
                    metadata["config_source"] = source.into();
                    Some(metadata)
                }
                key => of_task(key),
            };
            shown.extend(value.map(|value| ((*key).to_owned(), value)));
        }
        Value::Object(shown)
    }
}
