//! The results of an evaluation.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::protocol::DocumentScore;
use crate::python::python_repr;
use crate::task::{Aggregate, DocumentValue, Metric};
use crate::task::{Document, Group, GroupValue, Leaf, Member, Task, aggregate};

/// The results of a task.
#[derive(Debug, Clone)]
pub struct TaskResult {
    /// The task.
    pub task: Task,
    /// Number of documents of the task, scored or not.
    pub original: u64,
    /// Its documents, by number.
    pub documents: Vec<Document>,
    /// Their scores, in the same order.
    pub scores: Vec<DocumentScore>,
    /// Its metrics over all documents.
    pub aggregates: Vec<Aggregate>,
}

impl TaskResult {
    /// Results from documents and their scores, both by number. `documents` is not empty.
    pub fn new(task: Task, original: u64, documents: Vec<Document>, scores: Vec<DocumentScore>) -> Self {
        let of = |index: usize| -> Vec<DocumentValue> {
            scores.iter().filter_map(|score| score.metrics.get(index).cloned()).collect()
        };
        let metrics = task.metrics.iter().enumerate();
        let aggregates = metrics.map(|(index, metric)| aggregate(*metric, &of(index))).collect();
        Self { task, original, documents, scores, aggregates }
    }
}

/// The model, settings and results of an evaluation.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The model's name.
    pub model: String,
    /// The adapter's folder.
    pub adapter: Option<String>,
    /// Compute dtype.
    pub dtype: String,
    /// Storage of the block matrices, if it differs.
    pub quantize: Option<String>,
    /// Dtype in which log-likelihoods are computed.
    pub softmax: String,
    /// The prompt profile.
    pub profile: String,
    /// Parameters of the base model.
    pub parameters: u64,
    /// As given.
    pub limit: Option<f64>,
    /// As given.
    pub num_fewshot: Option<u64>,
    /// Settings of generation as given, over those of the task files.
    pub gen_kwargs: Map<String, Value>,
    /// Seed of the few-shot examples.
    pub fewshot_seed: u64,
    /// The system instruction, if prompts use a chat template.
    pub system: Option<String>,
    /// The chat template.
    pub chat_template: Option<String>,
    /// Whether examples are turns of the chat, if there is one.
    pub multiturn: Option<bool>,
    /// Longest sequence in tokens.
    pub max_length: u64,
    /// Special tokens with their strings, if the tokenizer has them: BOS, EOS.
    pub special: [Option<(String, u32)>; 2],
    /// Seconds since 1970.
    pub date: f64,
    /// Duration in seconds.
    pub seconds: f64,
    /// Seconds of it in which the engine scored, without start and loading; 0 if all scores existed.
    pub scoring: f64,
    /// The requested tasks and groups; tasks by their index in `results`.
    pub roots: Vec<Member>,
    /// The results of each task.
    pub results: Vec<TaskResult>,
}

/// A task or a group in the order of lm_eval's tables.
#[derive(Debug, Clone, Copy)]
pub(super) enum Row<'a> {
    Task(&'a TaskResult),
    Group(&'a Group),
}

impl<'a> Row<'a> {
    pub(super) fn name(&self) -> &'a str {
        match self {
            Self::Task(result) => &result.task.name,
            Self::Group(group) => &group.name,
        }
    }
}

impl Evaluation {
    /// `pretrained`, `peft` and `dtype`, as lm_eval's own model arguments.
    pub fn model_args(&self) -> Map<String, Value> {
        let mut arguments = Map::new();
        let mut put = |name: &str, value: &str| arguments.insert(name.to_owned(), value.into());
        put("pretrained", &self.model);
        if let Some(adapter) = &self.adapter {
            put("peft", adapter);
        }
        put("dtype", &self.dtype);
        if let Some(quantize) = &self.quantize {
            put("quantize", quantize);
        }
        put("softmax_dtype", &self.softmax);
        arguments
    }

    /// lm_eval's line above its tables.
    pub fn heading(&self) -> String {
        let spelled = |value: Value| python_repr(&value);
        format!(
            "loragrid ({}), gen_kwargs: ({}), limit: {}, num_fewshot: {}, batch_size: auto",
            spelled(self.model_args().into()),
            spelled(self.gen_kwargs.clone().into()),
            spelled(self.limit.into()),
            spelled(self.num_fewshot.into()),
        )
    }

    /// The name that results are filed under: the adapter, or the model.
    pub fn name(&self) -> &str {
        self.adapter.as_ref().unwrap_or(&self.model)
    }

    /// All groups, each before its members.
    pub(super) fn groups(&self) -> Vec<&Group> {
        let groups = self.roots.iter().filter_map(|root| match root {
            Member::Group(group) => Some(group.groups()),
            Member::Task(_) => None,
        });
        let mut all: Vec<&Group> = groups.flatten().collect();
        let mut known = std::collections::HashSet::new();
        all.retain(|group| known.insert(&group.name));
        all
    }

    /// The aggregated metrics of a group.
    pub(super) fn values(&self, group: &Group) -> Vec<GroupValue> {
        group.values(|number| {
            let result = &self.results[number];
            Leaf { aggregates: &result.aggregates, filters: &result.task.filters }
        })
    }

    /// Names of a group's direct members.
    pub(super) fn children<'a>(&'a self, group: &'a Group) -> Vec<&'a str> {
        let name = |member: &'a Member| match member {
            Member::Task(number) => self.results[*number].task.name.as_str(),
            Member::Group(group) => group.name.as_str(),
        };
        group.members.iter().map(name).collect()
    }

    /// The number of examples shared by all of a group's direct tasks; none if they differ, or if the group has only groups.
    pub(super) fn shots(&self, group: &Group) -> Option<u64> {
        let mut counts = group.members.iter().filter_map(|member| match member {
            Member::Task(number) => Some(self.results[*number].task.shots.count),
            Member::Group(_) => None,
        });
        let first = counts.next()?;
        counts.all(|count| count == first).then_some(first)
    }

    /// Whether one of a group's direct tasks defines which direction of a metric is better.
    pub(super) fn direction_known(&self, group: &Group, metric: Metric) -> bool {
        group.members.iter().any(|member| match member {
            Member::Task(number) => {
                self.results[*number].task.metrics.iter().any(|known| known.metric.base() == metric.base())
            }
            Member::Group(_) => false,
        })
    }

    /// All tasks and groups once, with their depth: groups by name with their members by name, then the other tasks by name.
    pub(super) fn rows(&self) -> Vec<(usize, Row<'_>)> {
        let mut depths: HashMap<&str, usize> = HashMap::new();
        let mut rows = Vec::new();
        let mut roots: Vec<&Group> = self
            .roots
            .iter()
            .filter_map(|root| match root {
                Member::Group(group) => Some(group),
                Member::Task(_) => None,
            })
            .collect();
        roots.sort_by(|a, b| a.name.cmp(&b.name));
        for group in roots {
            self.visit(Row::Group(group), 0, &mut depths, &mut rows);
        }
        let mut others: Vec<&TaskResult> =
            self.results.iter().filter(|result| !depths.contains_key(result.task.name.as_str())).collect();
        others.sort_by(|a, b| a.task.name.cmp(&b.task.name));
        rows.extend(others.into_iter().map(|result| (0, Row::Task(result))));
        rows
    }

    fn visit<'a>(
        &'a self,
        row: Row<'a>,
        depth: usize,
        depths: &mut HashMap<&'a str, usize>,
        rows: &mut Vec<(usize, Row<'a>)>,
    ) {
        depths.insert(row.name(), depth);
        rows.push((depth, row));
        let Row::Group(group) = row else { return };
        let member = |member: &'a Member| match member {
            Member::Task(number) => Row::Task(&self.results[*number]),
            Member::Group(group) => Row::Group(group),
        };
        let mut members: Vec<Row<'a>> = group.members.iter().map(member).collect();
        members.sort_by(|a, b| a.name().cmp(b.name()));
        for row in members {
            self.visit(row, depth + 1, depths, rows);
        }
    }
}
