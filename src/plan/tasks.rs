//! The tasks of a sweep.

use std::sync::Arc;

use super::context::{PlanContext, PlanStage};
use super::error::PlanError;
use super::models::{LocalModel, PlannedModel};
use crate::job::{Digest, EvalConfig, ScoreFacts, ScoreKey, SubjectKey};
use crate::pretrained::ModelConfig;
use crate::task::{
    Document, EncodedDocument, Group, Metric, RequestEncoder, Subset, Task, TaskDocuments, TaskError,
    build_documents,
};
use crate::trie::{Query, Trie};

/// Longest run of a pass assumed by estimates; it changes no token count.
const RUN: usize = 1024;

/// A task of the sweep, on a subset of its documents.
#[derive(Debug, Clone)]
pub struct PlannedTask {
    /// Its definition.
    pub task: Task,
    /// Digest of definition and documents; of the name only, if the documents are not on this machine.
    pub version: Digest,
    /// How many documents are scored, and how.
    pub facts: ScoreFacts,
    /// Documents to score; none if they are not on this machine.
    pub documents: Option<u64>,
    /// The documents to score; none if they are not on this machine.
    pub built: Option<Arc<Vec<Document>>>,
    /// Remarks about its documents that may not be intended.
    pub notes: Vec<String>,
    /// Tokens of its requests, each shared prefix once, encoded with the first model on this machine, and of answers of full length; 0
    /// if unknown.
    pub tokens: u64,
}

/// A group of tasks with its own leaderboard column.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PlannedGroup {
    /// Its name.
    pub name: String,
    /// Names of all tasks in it.
    pub tasks: Vec<String>,
    /// The metrics that it aggregates, each with whether tasks are weighted by their documents.
    pub metrics: Vec<(Metric, bool)>,
}

impl PlannedGroup {
    /// A group that aggregates a metric over its tasks, none for one that only lists them; and remarks about it. A metric that no task
    /// has gets no column.
    pub(super) fn of(group: &Group, tasks: &[Task]) -> (Option<Self>, Vec<String>) {
        let (mut metrics, mut notes, name) = (Vec::new(), Vec::new(), &group.name);
        let members = group.tasks();
        for wanted in &group.metrics {
            let metric = Metric::named(&wanted.metric);
            let mut found: Vec<Metric> = Vec::new();
            for task_metric in members.iter().flat_map(|number| &tasks[*number].metrics) {
                let is_wanted = Some(task_metric.metric.base()) == metric
                    && wanted.filters.as_ref().is_none_or(|filters| {
                        task_metric.metric.base() == task_metric.metric
                            || filters.iter().any(|filter| filter == task_metric.metric.filter())
                    });
                if is_wanted && !found.contains(&task_metric.metric) {
                    found.push(task_metric.metric);
                }
            }
            if found.is_empty() {
                notes.push(format!("group {name}: none of its tasks has the metric {}", wanted.metric));
            }
            metrics.extend(found.into_iter().map(|metric| (metric, wanted.weight_by_size)));
        }
        let mut seen = std::collections::BTreeSet::new();
        let twice: std::collections::BTreeSet<&str> =
            members.iter().filter(|at| !seen.insert(**at)).map(|at| tasks[*at].name.as_str()).collect();
        notes.extend(twice.into_iter().map(|task| format!("group {name}: it counts {task} more than once")));
        let tasks = members.into_iter().map(|number| tasks[number].name.clone()).collect();
        ((!metrics.is_empty()).then(|| Self { name: name.clone(), tasks, metrics }), notes)
    }
}

impl PlannedTask {
    /// The file name of its documents in the cache.
    pub fn documents_file(&self) -> String {
        TaskDocuments::file_name(self.version, &Subset::from(self.facts.limit))
    }

    /// The key of a subject's scores on it.
    pub fn key(&self, subject: SubjectKey) -> ScoreKey {
        ScoreKey::of(subject, self.version, self.facts)
    }

    /// A task with every document built and, if a model is on this machine, encoded. Error: a document that cannot be built.
    pub(super) fn of(
        task: Task,
        eval: &EvalConfig,
        models: &[PlannedModel],
        context: &mut PlanContext<'_>,
    ) -> Result<Self, PlanError> {
        (context.watch)(PlanStage::Documents { name: task.name.clone() });
        let facts = eval.facts;
        let mut contents = Vec::new();
        for rows in task.sources() {
            let Some(here) = &rows.here else {
                let version = task.version_digest(Digest::of(rows.name().as_bytes()));
                let notes = Vec::new();
                return Ok(Self { task, version, facts, documents: None, built: None, notes, tokens: 0 });
            };
            let digest = here.identity(context.digests);
            let read = |source| TaskError::Documents { task: task.name.clone(), source };
            contents.push(digest.map_err(read)?);
        }
        let content = Digest::all(&contents);
        let documents = build_documents(&task, &Subset::from(facts.limit))?;
        let notes = task_notes(&task, &documents);
        let local = models.iter().find_map(|model| Some((model.local.as_ref()?, &model.config)));
        let encode = |(local, config): (&LocalModel, &ModelConfig)| {
            let (most, rows) = (config.max_positions as usize, config.vocab_size);
            let encoder = RequestEncoder::new(&local.tokenizer, most, rows, facts.prompt_profile);
            encoder.documents(&task, &documents)
        };
        let encoded = local.map(encode).transpose()?.unwrap_or_default();
        let encoded: Vec<_> = encoded.into_iter().flat_map(EncodedDocument::into_sequences).collect();
        let queries: Vec<Query<'_>> =
            encoded.iter().map(|r| Query { input: &r.input, targets: &r.targets }).collect();
        let answers = task.generation.as_ref().map_or(0, |generation| {
            let longest = documents.len() as u64 * generation.settings.max_tokens;
            longest.saturating_mul(if generation.settings.sampling.is_some() {
                generation.repeats
            } else {
                1
            })
        });
        let tokens = Trie::new(&queries, RUN).tokens() as u64 + answers;
        let (version, count) = (task.version_digest(content), Some(documents.len() as u64));
        let built = Some(Arc::new(documents));
        Ok(Self { task, version, facts, documents: count, built, notes, tokens })
    }
}

/// Remarks about a task's documents that may not be intended.
pub fn task_notes(task: &Task, documents: &[Document]) -> Vec<String> {
    let shown = documents.iter().filter(|document| document.is_shown).count();
    let note = || {
        let (count, name) = (documents.len(), &task.name);
        format!("task {name}: {shown} of {count} documents appear among their own few-shot examples")
    };
    let left_out = task.left_out.iter().map(|metric| {
        format!("task {}: {metric} compares formulas by computer algebra and is not computed", task.name)
    });
    (shown > 0).then(note).into_iter().chain(left_out).collect()
}
