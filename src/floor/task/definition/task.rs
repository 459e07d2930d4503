//! A complete scorable task: requests, documents, examples and metrics.

use serde::{Deserialize, Serialize};

use crate::data::{DataSource, DatasetLocation, Row};
use crate::job::{Digest, canonical_json};
use crate::task::dialect::function::{RowFilter, RowFunction};
use crate::task::dialect::task_file::Field;
use crate::task::error::TaskError;
use crate::task::generation::Generation;
use crate::task::metric::kind::TaskMetric;
use crate::task::prompt::prompting::Prompting;
use crate::task::published;

/// Output type of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    /// The log-likelihood of each choice.
    MultipleChoice,
    /// The log-likelihood of one target and whether it is the greedy continuation.
    Loglikelihood,
    /// The log-likelihood of a whole text.
    LoglikelihoodRolling,
    /// A generated answer.
    GenerateUntil,
}

impl OutputType {
    /// lm_eval's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MultipleChoice => "multiple_choice",
            Self::Loglikelihood => "loglikelihood",
            Self::LoglikelihoodRolling => "loglikelihood_rolling",
            Self::GenerateUntil => "generate_until",
        }
    }
}

/// How metrics are computed from a document's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// By each metric's own rule.
    #[default]
    Standard,
    /// TruthfulQA MC2: the true choices' fraction of the choices' total probability.
    TrueProbability,
    /// WikiText: words and bytes are counted in the column `page`, before cleaning.
    PageLength,
    /// By a published function.
    Published(published::ResultsFunction),
}

/// A preprocessing step on rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowStep {
    /// A filter of rows.
    Filter(RowFilter),
    /// A published function.
    Native(RowFunction),
    /// A published function with its constants, of all rows.
    Published {
        /// The function.
        function: published::RowsFunction,
        /// Its constants by name.
        constants: Row,
    },
}

/// How examples are selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// At random, with one generator for the whole task.
    Random,
    /// The first ones.
    FirstN,
}

/// Published rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    /// The data set.
    pub path: String,
    /// The address of a file in a data set repository, if the split is one.
    pub file: Option<String>,
    /// Its configuration.
    pub config: Option<String>,
    /// The split.
    pub split: String,
    /// Whether it is the scored split.
    pub evaluated: bool,
    /// Their local location, if available.
    pub here: Option<DataSource>,
}

impl Published {
    /// The split's location.
    pub fn place(&self) -> DatasetLocation<'_> {
        let Self { path, file, config, split, evaluated, .. } = self;
        let (file, config) = (file.as_deref(), config.as_deref());
        DatasetLocation { path, file, config, split, evaluated: *evaluated }
    }

    /// Their display name, including the split if it is not the scored one.
    pub fn name(&self) -> String {
        let name = self.place().name();
        if self.evaluated { name } else { format!("{name}, {}", self.split) }
    }
}

/// The source of examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// A split of the data set, after these steps.
    Split {
        /// Its rows.
        rows: Published,
        /// Preprocessing steps.
        step: Option<RowStep>,
    },
    /// Listed in the file.
    Samples(Vec<Row>),
}

/// The fields of a turn: of the scored document, or of an example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fields {
    /// The prompt field.
    pub text: Field,
    /// The target field.
    pub target: Field,
    /// The choices field, if any.
    pub choice: Option<Field>,
    /// The prefix of the answer: a column or a template.
    pub gen_prefix: Option<String>,
    /// The delimiter between prompt and answer.
    pub target_delimiter: String,
}

/// Few-shot examples before each document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shots {
    /// Number of examples.
    pub count: u64,
    /// Number in the file itself.
    pub of_file: Option<u64>,
    /// How they are selected.
    pub sampler: Sampler,
    /// Whether a document is excluded from its own examples.
    pub excludes_own: bool,
    /// Their source.
    pub pool: Pool,
    /// The fields of their turns.
    pub fields: Fields,
    /// The delimiter after each.
    pub delimiter: String,
}

/// A checked task with the location of its documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// Its display name.
    pub alias: String,
    /// Its source file, for errors.
    pub file: String,
    /// Its output type.
    pub output_type: OutputType,
    /// Its documents.
    pub documents: Published,
    /// Preprocessing steps.
    pub rows: Option<RowStep>,
    /// Prefix of every prompt: a column or a template.
    pub description: String,
    /// The delimiter between instruction and description.
    pub delimiter: String,
    /// The fields of a document's turn.
    pub fields: Fields,
    /// How metrics are computed from requests.
    pub scoring: Scoring,
    /// Examples before each document.
    pub shots: Shots,
    /// Metrics; the first is the default for a bare task name.
    pub metrics: Vec<TaskMetric>,
    /// Names of the filter pipelines, each of which takes the first answer; `none` if the file has none.
    pub filters: Vec<String>,
    /// How answers are generated; none for a task of log-likelihoods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// Metrics of the file that need computer algebra, which loragrid does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// lm_eval's version of the task, as a string.
    pub version: String,
    /// Prompt settings besides the file's.
    pub prompting: Prompting,
    /// The file as shown in lm_eval's results; not sent to engines.
    #[serde(skip)]
    pub config: serde_json::Value,
}

impl Task {
    /// The task with this many examples per document, unless its file says 0.
    pub fn with_shots(mut self, count: Option<u64>) -> Self {
        if self.shots.of_file != Some(0) {
            self.shots.count = count.or(self.shots.of_file).unwrap_or(0);
        }
        self
    }

    /// The task with these settings of generation over its file's; unchanged if it generates nothing. Error: an unsupported setting.
    pub fn with_generation(
        mut self,
        changes: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Self, TaskError> {
        if let Some(generation) = &mut self.generation {
            let settings = generation.settings.with(changes);
            generation.settings = settings.map_err(|(what, value)| TaskError::Unsupported {
                file: self.file.clone(),
                task: self.name.clone(),
                what,
                value,
            })?;
        }
        Ok(self)
    }

    /// The task with these prompt settings.
    pub fn with_prompting(mut self, prompting: &Prompting) -> Self {
        self.prompting = prompting.clone();
        self
    }

    /// An error in a field of a document.
    pub fn field_error(&self, document: usize, field: &'static str, reason: String) -> TaskError {
        let rows = self.documents.here.as_ref().map_or_else(|| self.documents.name(), DataSource::name);
        TaskError::Field { file: self.file.clone(), task: self.name.clone(), document, rows, field, reason }
    }

    /// The source rows: its documents, and those of its examples if different.
    pub fn sources(&self) -> Vec<&Published> {
        let mut sources = vec![&self.documents];
        if let (1.., Pool::Split { rows, .. }) = (self.shots.count, &self.shots.pool)
            && *rows != self.documents
        {
            sources.push(rows);
        }
        sources
    }

    /// The version in a score key: the definition without the documents' location, and their content.
    pub fn version_digest(&self, documents: Digest) -> Digest {
        let shots = (self.shots.count > 0).then(|| {
            let Shots { count, sampler, excludes_own, pool, fields, delimiter, .. } = &self.shots;
            let pool = match pool {
                Pool::Split { rows, step } => serde_json::json!([rows.name(), step]),
                Pool::Samples(samples) => serde_json::json!(samples),
            };
            (*count, *sampler, *excludes_own, pool, fields.clone(), delimiter.clone())
        });
        let definition = (
            (&self.name, self.output_type, &self.fields),
            (&self.metrics, self.scoring, &self.description, &self.delimiter, &self.rows, shots),
            (&self.version, &self.prompting),
            documents,
        );
        match &self.generation {
            None => Digest::of(canonical_json(&definition).as_bytes()),
            Some(generation) => Digest::of(canonical_json(&(definition, generation)).as_bytes()),
        }
    }
}
