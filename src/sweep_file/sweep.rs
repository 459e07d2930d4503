//! A checked sweep file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{Problem, SpecError};
use super::expression::Expression;
use super::slurm::Slurm;
use super::source::SourceText;
use crate::job::{Bytes, Key, Settings, SweepName, Value};

/// An axis: a key and the values that it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The key.
    pub key: &'static Key,
    /// Its values, checked and distinct, at least one.
    pub values: Vec<Value>,
    /// Its byte range in the file.
    pub span: Range<usize>,
}

/// Keys that vary together: one axis whose values are rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Zip {
    /// Its name.
    pub name: Arc<str>,
    /// Each key with its values, all equally many.
    pub columns: Vec<(&'static Key, Vec<Value>)>,
    /// Its byte range in the file.
    pub span: Range<usize>,
}

impl Zip {
    /// Its number of rows.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, |(_, values)| values.len())
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A key computed from others.
#[derive(Debug, Clone, PartialEq)]
pub struct Derive {
    /// The key.
    pub key: &'static Key,
    /// Its expression.
    pub expression: Expression,
    /// The expression as written.
    pub text: Arc<str>,
    /// Its byte range in the file.
    pub span: Range<usize>,
}

/// A boolean expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The expression.
    pub expression: Expression,
    /// As written.
    pub text: String,
    /// Its byte range in the file.
    pub span: Range<usize>,
}

/// Values for the cells that meet a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct When {
    /// The condition.
    pub condition: Condition,
    /// The keys and their values.
    pub set: Vec<(&'static Key, Value)>,
    /// Line of the rule, counted from 1.
    pub line: usize,
}

/// Which adapters stay on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAdapters {
    /// All of them.
    All,
    /// Those of the best n cells by the objective.
    Best(u64),
    /// None, once scored.
    None,
}

/// The `[keep]` rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Which adapters.
    pub adapters: KeepAdapters,
    /// Disk limit of the whole sweep.
    pub max_disk: Option<Bytes>,
}

impl Default for Keep {
    fn default() -> Self {
        Self { adapters: KeepAdapters::All, max_disk: None }
    }
}

/// Tasks that only `best --final` scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalEval {
    /// Their names.
    pub eval: Vec<String>,
}

/// Prompts that the base model and every job answer by greedy decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleSpec {
    /// The prompts.
    pub prompts: Vec<String>,
    /// Number of validation rows.
    pub rows: u64,
    /// Most tokens per answer.
    pub max_tokens: u64,
}

/// Notifications. Secrets are referenced by name, never written in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// A command that reads the event as JSON on its standard input.
    pub command: Option<String>,
    /// The environment variable that holds a webhook URL.
    pub webhook_env: Option<String>,
    /// The events; all if none is listed.
    pub on: Vec<String>,
}

/// Trackers that are told what jobs do. Secrets come from the environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Track {
    /// The address of an MLflow server.
    pub mlflow: Option<String>,
    /// A folder for TensorBoard's event files.
    pub tensorboard: Option<String>,
    /// A project of Trackio.
    pub trackio: Option<String>,
}

impl Notify {
    /// The first of `on` that is not an event.
    pub fn unknown_event(&self) -> Option<&str> {
        let known = super::parse::EVENTS;
        self.on.iter().map(String::as_str).find(|event| !known.contains(event))
    }
}

/// A checked sweep file.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepSpec {
    /// The sweep's name.
    pub name: SweepName,
    /// The file's content.
    pub source: SourceText,
    /// Valid constructs that should be written differently.
    pub notes: Vec<String>,
    /// Settings of the root and the sections.
    pub settings: Settings,
    /// Whether adapters are trained; `train = false` only evaluates.
    pub trains: bool,
    /// The axes, in the file's order; the last varies fastest.
    pub axes: Vec<Axis>,
    /// Paired axes, after the plain ones.
    pub zips: Vec<Zip>,
    /// Rules that set keys, in the file's order.
    pub when: Vec<When>,
    /// Derived keys, each after its dependencies.
    pub derive: Vec<Derive>,
    /// Excluded cells.
    pub exclude: Vec<Condition>,
    /// The `[keep]` rules.
    pub keep: Keep,
    /// Tasks for the winner.
    pub final_eval: Option<FinalEval>,
    /// Prompts to answer.
    pub samples: Option<SampleSpec>,
    /// Notifications.
    pub notify: Option<Notify>,
    /// Trackers.
    pub track: Option<Track>,
    /// What it asks of a Slurm cluster.
    pub slurm: Option<Slurm>,
    /// Local files of data sets, by the name in the file or in a task; relative to the file's folder.
    pub data_sets: BTreeMap<String, PathBuf>,
}

impl SweepSpec {
    /// The folder for resolving relative paths of the file.
    pub fn folder(&self) -> PathBuf {
        let folder = self.source.path().parent().map(std::path::Path::to_owned).unwrap_or_default();
        if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder }
    }

    /// A problem of this file, as an error.
    pub fn error(&self, problem: Problem, span: Range<usize>) -> SpecError {
        SpecError::Problems { source_text: Box::new(self.source.clone()), problems: vec![(problem, span)] }
    }

    /// Keys varied by axes and pairs, in the order of the grid: the last varies fastest.
    pub fn varied(&self) -> Vec<&'static str> {
        let paired = self.zips.iter().flat_map(|zip| zip.columns.iter().map(|(key, _)| key.path));
        self.axes.iter().map(|axis| axis.key.path).chain(paired).collect()
    }
}
