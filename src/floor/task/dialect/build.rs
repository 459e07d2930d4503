//! Builds a task from a checked file: rejects what cannot be scored, and locates its rows.

use std::path::Path;

use crate::data::{DataError, DataRoots, DataSource};
use crate::task::definition::task::{
    Fields, OutputType, Pool, Published, RowStep, Sampler, Scoring, Shots, Task,
};
use crate::task::dialect::function::{KnownFunction, Modules, Native, ResultsFunction};
use crate::task::dialect::task_file::{Field, Refusal, TaskSpec};
use crate::task::dialect::yaml::Node;
use crate::task::error::TaskError;
use crate::task::metric::kind::{Aggregation, Metric, TaskMetric};
use crate::task::prompt::prompting::Prompting;
use crate::task::published::{Answered, Recognized};

/// Keys of `dataset_kwargs` that are applied, or irrelevant here.
const READ_KWARGS: [&str; 2] = ["data_files", "trust_remote_code"];

/// Filters that do not change a log-likelihood.
const TAKE_FIRST: &str = "take_first";

/// Context for reading a task file.
#[derive(Debug, Clone, Copy)]
pub(in crate::task) struct Surroundings<'a> {
    /// The file's name for errors.
    pub(in crate::task) file: &'a str,
    /// Base folder of `[data_sets]` paths.
    pub(in crate::task) folder: &'a Path,
    /// Local data.
    pub(in crate::task) roots: &'a DataRoots,
    /// Modules with functions.
    pub(in crate::task) modules: &'a Modules,
}

impl Task {
    /// A task from its file's map. Errors: not a task, something unsupported (named).
    pub(in crate::task) fn build(node: Node, around: Surroundings<'_>) -> Result<Self, TaskError> {
        let malformed =
            |reason: &str| TaskError::Malformed { file: around.file.to_owned(), reason: reason.to_owned() };
        let name = node.get("task").and_then(Node::scalar).ok_or_else(|| malformed("task is missing"))?;
        let spec = TaskSpec::check(node, around.modules).map_err(|(what, value)| TaskError::Unsupported {
            file: around.file.to_owned(),
            task: name.clone(),
            what,
            value,
        })?;
        Reader { spec: &spec, around }.task()
    }
}

impl TaskSpec {
    /// Whether its metrics, filters and functions can be scored, wherever its rows are. Error: what cannot.
    pub(in crate::task) fn verify(&self, modules: &Modules) -> Result<(), Refusal> {
        let roots = DataRoots::default();
        let around = Surroundings { file: &self.name, folder: Path::new("."), roots: &roots, modules };
        let reader = Reader { spec: self, around };
        let verified = reader.output_type().and_then(|output_type| {
            reader.scoring(output_type)?;
            reader.metrics(output_type)?;
            reader.step(&self.process_docs)?;
            reader.step(&self.fewshot.process_docs)?;
            if self.generation.is_none() { reader.filters().map(drop) } else { Ok(()) }
        });
        verified.map_err(|error| match error {
            TaskError::Unsupported { what, value, .. } => (what, value),
            other => ("file", other.to_string()),
        })
    }

    /// A key's string; none if it is absent or null.
    fn text(&self, key: &str) -> Option<String> {
        self.node.get(key).and_then(Node::scalar)
    }
}

struct Reader<'a> {
    spec: &'a TaskSpec,
    around: Surroundings<'a>,
}

impl Reader<'_> {
    fn malformed(&self, reason: String) -> TaskError {
        TaskError::Malformed { file: self.around.file.to_owned(), reason }
    }

    fn unsupported(&self, what: &'static str, value: &str) -> TaskError {
        let (file, task) = (self.around.file.to_owned(), self.spec.name.clone());
        TaskError::Unsupported { file, task, what, value: value.to_owned() }
    }

    fn output_type(&self) -> Result<OutputType, TaskError> {
        match self.spec.output_type.as_str() {
            "multiple_choice" => Ok(OutputType::MultipleChoice),
            "loglikelihood" => Ok(OutputType::Loglikelihood),
            "loglikelihood_rolling" => Ok(OutputType::LoglikelihoodRolling),
            "generate_until" => Ok(OutputType::GenerateUntil),
            other => Err(self.unsupported("output_type", other)),
        }
    }

    fn task(&self) -> Result<Task, TaskError> {
        let spec = self.spec;
        let output_type = self.output_type()?;
        if output_type == OutputType::MultipleChoice && spec.doc_to_choice.is_none() {
            return Err(self.malformed("a multiple_choice task needs doc_to_choice".to_owned()));
        }
        if let Some(prompt) = spec.text("use_prompt") {
            return Err(self.unsupported("use_prompt", &prompt));
        }
        let split = spec.text("test_split").or_else(|| spec.text("validation_split"));
        let split = split
            .ok_or_else(|| self.malformed("it has neither test_split nor validation_split".to_owned()))?;
        let documents = self.rows(&split, true)?;
        let field = |field: &Option<Field>, key: &str| {
            field.clone().ok_or_else(|| self.malformed(format!("{key} is missing")))
        };
        let fields = Fields {
            text: field(&spec.doc_to_text, "doc_to_text")?,
            target: field(&spec.doc_to_target, "doc_to_target")?,
            choice: spec.doc_to_choice.clone(),
            gen_prefix: spec.text("gen_prefix"),
            target_delimiter: spec.text("target_delimiter").unwrap_or_else(|| " ".to_owned()),
        };
        let version =
            spec.node.get("metadata").and_then(|metadata| metadata.get("version")).and_then(Node::scalar);
        Ok(Task {
            alias: spec.text("task_alias").unwrap_or_else(|| spec.name.clone()),
            file: self.around.file.to_owned(),
            output_type,
            rows: self.step(&spec.process_docs)?,
            description: spec.text("description").unwrap_or_default(),
            delimiter: spec.text("fewshot_delimiter").unwrap_or_else(|| "\n\n".to_owned()),
            scoring: self.scoring(output_type)?,
            shots: self.shots(&fields)?,
            metrics: self.metrics(output_type)?,
            filters: match &spec.generation {
                None => self.filters()?,
                Some(generation) => {
                    generation.pipelines.iter().map(|pipeline| pipeline.name.clone()).collect()
                }
            },
            generation: spec.generation.clone(),
            left_out: self.left_out(),
            version: version.unwrap_or_else(|| "Yaml".to_owned()),
            prompting: Prompting::default(),
            config: spec.shown(self.around.file),
            name: spec.name.clone(),
            documents,
            fields,
        })
    }

    fn scoring(&self, output_type: OutputType) -> Result<Scoring, TaskError> {
        let function = match &self.spec.process_results {
            None => return Ok(Scoring::Standard),
            Some(KnownFunction::Native(Native::Results(function))) => *function,
            Some(KnownFunction::Published(Recognized { answered: Answered::Results(function), .. })) => {
                return Ok(Scoring::Published(*function));
            }
            Some(_) => return Err(self.unsupported("process_results", "of another kind")),
        };
        match (function, output_type) {
            (ResultsFunction::TruthfulQaMc2, OutputType::MultipleChoice) => Ok(Scoring::TrueProbability),
            (ResultsFunction::WikitextLengths, OutputType::LoglikelihoodRolling) => Ok(Scoring::PageLength),
            (ResultsFunction::TruthfulQaMc2 | ResultsFunction::WikitextLengths, _) => {
                Err(self.unsupported("process_results for output_type", output_type.as_str()))
            }
        }
    }

    fn step(&self, known: &Option<KnownFunction>) -> Result<Option<RowStep>, TaskError> {
        match known {
            None => Ok(None),
            Some(KnownFunction::Filter(filter)) => Ok(Some(RowStep::Filter(filter.clone()))),
            Some(KnownFunction::Native(Native::Rows(function))) => Ok(Some(RowStep::Native(*function))),
            Some(KnownFunction::Published(Recognized { answered: Answered::Rows(function), constants })) => {
                Ok(Some(RowStep::Published { function: *function, constants: constants.clone() }))
            }
            Some(
                KnownFunction::Native(Native::Field(_) | Native::Results(_)) | KnownFunction::Published(_),
            ) => Err(self.unsupported("process_docs", "of another kind")),
            Some(KnownFunction::WeightedF1) => Err(self.unsupported("process_docs", "a metric")),
        }
    }

    /// The rows of a split, if available locally, and their published name. Errors: no data set, an invalid one.
    fn rows(&self, split: &str, evaluated: bool) -> Result<Published, TaskError> {
        let path = self.spec.text("dataset_path");
        let path = path.ok_or_else(|| self.malformed("dataset_path is missing".to_owned()))?;
        let kwargs = self.spec.node.get("dataset_kwargs");
        let files = kwargs.and_then(|kwargs| kwargs.get("data_files"));
        // A delimiter or column names would change the rows.
        if let (Some(Node::Map(entries)), "csv") = (kwargs, path.as_str())
            && let Some((other, _)) = entries.iter().find(|(key, _)| !READ_KWARGS.contains(&key.as_str()))
        {
            return Err(self.unsupported("dataset_kwargs of csv", other));
        }
        let local = matches!(path.as_str(), "json" | "csv" | "parquet" | "text");
        let named = if files.is_some() { self.file_of(files, split)? } else { None };
        // A file in a data set repository is requested by its address.
        let file = named.clone().filter(|name| name.starts_with("hf://"));
        let config = self.spec.text("dataset_name");
        if let (true, None) = (local, &file) {
            let path = named.unwrap_or(path);
            let here = self.local(&path);
            return Ok(Published { path, file, config: None, split: split.to_owned(), evaluated, here });
        }
        let path = if local { file.clone().unwrap_or(path) } else { path };
        let rows = Published { path, file, config, split: split.to_owned(), evaluated, here: None };
        match DataSource::documents(rows.place(), self.around.folder, self.around.roots) {
            Ok(documents) => Ok(Published { here: Some(documents), ..rows }),
            Err(DataError::NotLocal { .. }) => Ok(rows),
            Err(source) => Err(TaskError::Documents { task: self.spec.name.clone(), source }),
        }
    }

    /// The file in `dataset_kwargs` for a split. Error: several files for one split.
    fn file_of(&self, files: Option<&Node>, split: &str) -> Result<Option<String>, TaskError> {
        let named = match files {
            Some(Node::Map(entries)) => match files.and_then(|files| files.get(split)) {
                None => {
                    let known: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
                    return Err(self
                        .malformed(format!("data_files has no split '{split}', only {}", known.join(", "))));
                }
                file => file,
            },
            other => other,
        };
        match named {
            Some(Node::List(names)) if names.len() > 1 => {
                Err(self.unsupported("dataset_kwargs", "several files for one split"))
            }
            Some(Node::List(names)) => Ok(names.first().and_then(Node::scalar)),
            other => Ok(other.and_then(Node::scalar)),
        }
    }

    /// A file relative to the task file, the sweep file or the working directory.
    fn local(&self, name: &str) -> Option<DataSource> {
        let beside = Path::new(self.around.file).parent().map(|folder| folder.join(name));
        let places = [beside, Some(self.around.folder.join(name)), Some(name.into())];
        let path = places.into_iter().flatten().find(|path| path.is_file());
        path.map(|path| DataSource::File { path })
    }

    fn shots(&self, task_fields: &Fields) -> Result<Shots, TaskError> {
        let spec = self.spec;
        let config = spec.node.get("fewshot_config");
        let text = |key: &str| config.and_then(|config| config.get(key)).and_then(Node::scalar);
        let sampler = match text("sampler").as_deref() {
            None | Some("default") => Sampler::Random,
            Some("first_n") => Sampler::FirstN,
            Some(other) => return Err(self.unsupported("fewshot_config", other)),
        };
        let of_file = spec.text("num_fewshot").and_then(|text| text.parse().ok());
        let split = text("split").or_else(|| spec.text("fewshot_split"));
        // lm_eval compares the names as written, also if both are missing.
        let excludes_own = split == spec.text("test_split");
        let listed = spec.fewshot.samples.clone();
        let pool = match (&split, config.and_then(|config| config.get("samples"))) {
            (None, Some(_)) if listed.is_some() => Pool::Samples(listed.unwrap_or_default()),
            (None, Some(samples)) => Pool::Samples(self.samples(samples)?),
            (Some(split), _) => {
                let known = spec.fewshot.process_docs.as_ref().or(spec.process_docs.as_ref());
                self.pool(split, known)?
            }
            (None, None) => {
                let others = ["training_split", "validation_split", "test_split"];
                let split = others.iter().find_map(|key| spec.text(key)).unwrap_or_default();
                self.pool(&split, spec.process_docs.as_ref())?
            }
        };
        let field_or =
            |field: &Option<Field>, default: &Field| field.clone().unwrap_or_else(|| default.clone());
        let fields = Fields {
            text: field_or(&spec.fewshot.doc_to_text, &task_fields.text),
            target: field_or(&spec.fewshot.doc_to_target, &task_fields.target),
            choice: spec.fewshot.doc_to_choice.clone().or_else(|| task_fields.choice.clone()),
            gen_prefix: text("gen_prefix").or_else(|| task_fields.gen_prefix.clone()),
            target_delimiter: text("target_delimiter")
                .unwrap_or_else(|| task_fields.target_delimiter.clone()),
        };
        let delimiter = text("fewshot_delimiter").or_else(|| spec.text("fewshot_delimiter"));
        Ok(Shots {
            count: of_file.unwrap_or(0),
            of_file,
            sampler,
            excludes_own,
            pool,
            fields,
            delimiter: delimiter.unwrap_or_else(|| "\n\n".to_owned()),
        })
    }

    fn pool(&self, split: &str, known: Option<&KnownFunction>) -> Result<Pool, TaskError> {
        let evaluated = self.spec.text("test_split").or_else(|| self.spec.text("validation_split"));
        let rows = self.rows(split, evaluated.as_deref() == Some(split))?;
        Ok(Pool::Split { rows, step: self.step(&known.cloned())? })
    }

    /// Examples listed in the file. Error: not a list of maps.
    fn samples(&self, node: &Node) -> Result<Vec<crate::data::Row>, TaskError> {
        let json = node.json();
        let rows = json.as_array().map(|items| items.iter().map(|item| item.as_object().cloned()));
        let rows: Option<Vec<_>> = rows.and_then(|rows| rows.collect());
        rows.ok_or_else(|| self.malformed("fewshot_config.samples must be a list of mappings".to_owned()))
    }

    /// The metrics of a file, or lm_eval's defaults for the output type. Errors: an unsupported one, or one that the
    /// output type does not have.
    fn metrics(&self, output_type: OutputType) -> Result<Vec<TaskMetric>, TaskError> {
        let Some(Node::List(entries)) = self.spec.node.get("metric_list") else {
            let defaults: &[Metric] = match output_type {
                OutputType::GenerateUntil => &[Metric::ExactMatch],
                OutputType::MultipleChoice => &[Metric::Acc, Metric::AccNorm],
                OutputType::Loglikelihood => &[Metric::Perplexity, Metric::Acc],
                OutputType::LoglikelihoodRolling => {
                    &[Metric::WordPerplexity, Metric::BytePerplexity, Metric::BitsPerByte]
                }
            };
            let defaults = defaults.iter().map(|metric| TaskMetric::from(*metric)).collect();
            return Ok(self.after_pipelines(defaults));
        };
        let is_kept = |entry: &&Node| !self.needs_algebra(entry);
        let kept = entries.iter().filter(is_kept).map(|entry| self.metric(entry, output_type));
        let mut metrics: Vec<TaskMetric> = Vec::new();
        for metric in kept {
            let metric = metric?;
            match metrics.iter_mut().find(|known| known.metric == metric.metric) {
                Some(known) => *known = metric,
                None => metrics.push(metric),
            }
        }
        Ok(self.after_pipelines(metrics))
    }

    /// Whether a metric compares formulas by computer algebra.
    fn needs_algebra(&self, entry: &Node) -> bool {
        let name = entry.get("metric").and_then(Node::text).unwrap_or_default();
        match &self.spec.process_results {
            Some(KnownFunction::Published(Recognized { answered: Answered::Results(function), .. })) => {
                function.algebra().contains(&name)
            }
            _ => false,
        }
    }

    /// The names of the metrics that are left out.
    fn left_out(&self) -> Vec<String> {
        let Some(Node::List(entries)) = self.spec.node.get("metric_list") else { return Vec::new() };
        let names = entries.iter().filter(|entry| self.needs_algebra(entry));
        names.filter_map(|entry| entry.get("metric").and_then(Node::scalar)).collect()
    }

    /// Each metric after each of the file's pipelines, if answers are generated.
    fn after_pipelines(&self, metrics: Vec<TaskMetric>) -> Vec<TaskMetric> {
        let Some(generation) = &self.spec.generation else { return metrics };
        let after = |filter: &str| {
            let metrics = metrics.iter().map(|m| TaskMetric { metric: m.metric.after(filter), ..*m });
            metrics.collect::<Vec<_>>()
        };
        generation.pipelines.iter().flat_map(|pipeline| after(&pipeline.name)).collect()
    }

    fn metric(&self, entry: &Node, output_type: OutputType) -> Result<TaskMetric, TaskError> {
        let name = match entry.get("metric") {
            Some(Node::Function(function)) => function.name.clone(),
            other => other.and_then(Node::scalar).unwrap_or_default(),
        };
        let by_function = matches!(self.scoring(output_type)?, Scoring::Published(_));
        let metric =
            Metric::named(&name).filter(|metric| by_function || asked_of(output_type).contains(metric));
        let metric = metric.ok_or_else(|| self.unsupported("metric", &name))?;
        let aggregation = match entry.get("aggregation") {
            None => metric.natural(),
            Some(Node::Function(function)) => match self.around.modules.recognize(function) {
                Some(KnownFunction::Published(Recognized {
                    answered: Answered::Aggregation(known), ..
                })) => {
                    let aggregation = Aggregation::published(known);
                    aggregation.ok_or_else(|| self.unsupported("aggregation", &function.name))?
                }
                // The file's check rejects every other function.
                _ => Aggregation::WeightedF1,
            },
            Some(other) => {
                let text = other.scalar().unwrap_or_default();
                Aggregation::named(&text).ok_or_else(|| self.unsupported("aggregation", &text))?
            }
        };
        if !aggregation.fits(metric) {
            let pair = format!("{} of {name}", aggregation.as_str());
            return Err(self.unsupported("aggregation", &pair));
        }
        if let Some(Node::Bool(higher)) = entry.get("higher_is_better")
            && *higher != metric.higher_is_better()
        {
            return Err(self.unsupported("higher_is_better of", &name));
        }
        Ok(TaskMetric { metric, aggregation })
    }

    /// Names of the pipelines. Error: one that does more than take the first answer.
    fn filters(&self) -> Result<Vec<String>, TaskError> {
        let Some(Node::List(pipelines)) = self.spec.node.get("filter_list") else {
            return Ok(vec!["none".to_owned()]);
        };
        let name = |pipeline: &Node| {
            let steps = match pipeline.get("filter") {
                Some(Node::List(steps)) => steps.as_slice(),
                _ => &[],
            };
            let function = |step: &Node| step.get("function").and_then(Node::scalar).unwrap_or_default();
            if let Some(other) = steps.iter().map(function).find(|name| name != TAKE_FIRST) {
                return Err(self.unsupported("filter of log-likelihoods", &other));
            }
            let name = pipeline.get("name").and_then(Node::scalar);
            name.filter(|_| !steps.is_empty())
                .ok_or_else(|| self.malformed("an entry of filter_list has no name or no filter".to_owned()))
        };
        pipelines.iter().map(name).collect()
    }
}

/// The metrics of an output type.
fn asked_of(output_type: OutputType) -> &'static [Metric] {
    use Metric::*;
    match output_type {
        OutputType::MultipleChoice => {
            &[Acc, AccNorm, AccBytes, AccMutualInfo, ExactMatch, F1, Mcc, BrierScore]
        }
        OutputType::Loglikelihood => &[Perplexity, Acc],
        OutputType::LoglikelihoodRolling => &[WordPerplexity, BytePerplexity, BitsPerByte],
        OutputType::GenerateUntil => &[ExactMatch, Bleu, Chrf, ChrfPlusPlus, Ter],
    }
}
