//! A task that can be scored, whole: what it asks, of which documents, with which examples, and what becomes of it.

use serde::{Deserialize, Serialize};

use crate::data::{DataSource, DatasetLocation, Row};
use crate::job::{Digest, canonical_json};
use crate::task::dialect::function::{RowFilter, RowFunction};
use crate::task::dialect::task_file::Field;
use crate::task::error::TaskError;
use crate::task::metric::kind::TaskMetric;
use crate::task::prompt::prompting::Prompting;

/// What a task asks of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    /// The log-likelihood of each choice.
    MultipleChoice,
    /// The log-likelihood of one target and whether it is the greedy continuation.
    Loglikelihood,
    /// The log-likelihood of a whole text.
    LoglikelihoodRolling,
}

impl OutputType {
    /// lm_eval's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MultipleChoice => "multiple_choice",
            Self::Loglikelihood => "loglikelihood",
            Self::LoglikelihoodRolling => "loglikelihood_rolling",
        }
    }
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
    /// WikiText: a text's words and bytes are those of the column `page`, before it was cleaned.
    PageLength,
}

/// What rows go through before they are documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowStep {
    /// Only these stay.
    Filter(RowFilter),
    /// A published function.
    Native(RowFunction),
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

/// Rows that are published under a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    /// The data set.
    pub path: String,
    /// The address of a file of a data set's repository, where the split is one.
    pub file: Option<String>,
    /// Its configuration.
    pub config: Option<String>,
    /// The split.
    pub split: String,
    /// Whether it is the split that is scored.
    pub evaluated: bool,
    /// Where they are here, if they are.
    pub here: Option<DataSource>,
}

impl Published {
    /// The split's place.
    pub fn place(&self) -> DatasetLocation<'_> {
        let Self { path, file, config, split, evaluated, .. } = self;
        let (file, config) = (file.as_deref(), config.as_deref());
        DatasetLocation { path, file, config, split, evaluated: *evaluated }
    }

    /// What they are called, the split included where it is not the one that is scored.
    pub fn name(&self) -> String {
        let name = self.place().name();
        if self.evaluated { name } else { format!("{name}, {}", self.split) }
    }
}

/// Where examples come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// A split of the data set, through these steps.
    Split {
        /// Its rows.
        rows: Published,
        /// What they go through first.
        step: Option<RowStep>,
    },
    /// The file has them.
    Samples(Vec<Row>),
}

/// What makes a document's turn: of the document that is scored, or of an example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fields {
    /// What makes the prompt.
    pub text: Field,
    /// What makes the target.
    pub target: Field,
    /// What makes the choices, where there are any.
    pub choice: Option<Field>,
    /// What the answer begins with: a column or a template.
    pub gen_prefix: Option<String>,
    /// What stands between prompt and answer.
    pub target_delimiter: String,
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
    /// Where they come from.
    pub pool: Pool,
    /// What makes their turns.
    pub fields: Fields,
    /// What stands after each.
    pub delimiter: String,
}

/// A checked task with the place of its documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// Its name in tables.
    pub alias: String,
    /// The file that says so, for errors.
    pub file: String,
    /// What it asks of the model.
    pub output_type: OutputType,
    /// Its documents.
    pub documents: Published,
    /// What rows go through first.
    pub rows: Option<RowStep>,
    /// What stands before every prompt: a column or a template.
    pub description: String,
    /// What stands between instruction and description.
    pub delimiter: String,
    /// What makes a document's turn.
    pub fields: Fields,
    /// How requests become metrics.
    pub scoring: Scoring,
    /// Examples before each document.
    pub shots: Shots,
    /// Metrics, the first being the one that a bare task name means.
    pub metrics: Vec<TaskMetric>,
    /// Names of the filter pipelines, each of which takes the first answer; `none` where the file has none.
    pub filters: Vec<String>,
    /// lm_eval's version of the task, as text.
    pub version: String,
    /// How prompts are put together beside what the file says.
    pub prompting: Prompting,
    /// The file as lm_eval shows it in results; not sent to engines.
    #[serde(skip)]
    pub config: serde_json::Value,
}

impl Task {
    /// The task with this many examples before each document, unless its file says 0.
    pub fn with_shots(mut self, count: Option<u64>) -> Self {
        if self.shots.of_file != Some(0) {
            self.shots.count = count.or(self.shots.of_file).unwrap_or(0);
        }
        self
    }

    /// The task with its prompts put together so.
    pub fn with_prompting(mut self, prompting: &Prompting) -> Self {
        self.prompting = prompting.clone();
        self
    }

    /// What is wrong with a field of a document.
    pub fn field_error(&self, document: usize, field: &'static str, reason: String) -> TaskError {
        let rows = self.documents.here.as_ref().map_or_else(|| self.documents.name(), DataSource::name);
        TaskError::Field { file: self.file.clone(), task: self.name.clone(), document, rows, field, reason }
    }

    /// The rows that are read: its documents, and those of its examples where they are others.
    pub fn sources(&self) -> Vec<&Published> {
        let mut sources = vec![&self.documents];
        if let (1.., Pool::Split { rows, .. }) = (self.shots.count, &self.shots.pool)
            && *rows != self.documents
        {
            sources.push(rows);
        }
        sources
    }

    /// The version that a score key holds: the definition without the place of its documents, and their content.
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
        Digest::of(canonical_json(&definition).as_bytes())
    }
}
