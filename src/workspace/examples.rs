//! What a job answered to single documents of a task.

use serde::Serialize;
use serde_json::Value;

use super::error::WorkspaceError;
use crate::job::JobId;
use crate::python::python_str;
use crate::queue::Queue;
use crate::store::Store;
use crate::task::{Document, Gold, RequestScore, ShownAnswer, Task, TaskDocuments, shown_answers};

/// What a job said of a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// The document's number.
    pub document: usize,
    /// The prompt as the model read it; for several contexts the first.
    pub prompt: String,
    /// The target.
    pub target: String,
    /// The generated answers; none for log-likelihoods.
    pub answers: Vec<String>,
    /// What each filter pipeline made of the answers, and its metrics.
    pub filtered: Vec<FilteredAnswer>,
    /// Each choice with its log-likelihood; none for generated answers.
    pub choices: Vec<ChoiceScore>,
}

/// An answer after a filter pipeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FilteredAnswer {
    /// The pipeline.
    pub filter: String,
    /// The answer after it.
    pub answer: Value,
    /// Each metric by name.
    pub metrics: serde_json::Map<String, Value>,
}

/// A choice and what the model said of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChoiceScore {
    /// The scored text.
    pub text: String,
    /// Its log-likelihood.
    pub log_likelihood: f64,
    /// Whether it is the greedy continuation.
    pub is_greedy: bool,
    /// Whether it is correct.
    pub is_right: bool,
}

/// The first documents of a task that a job has scored. Errors: the job has no such task, its documents are no longer in the cache.
pub async fn examples(
    store: &Store,
    job: &JobId,
    task: &str,
    most: usize,
) -> Result<Vec<Example>, WorkspaceError> {
    let orders = store.orders(std::slice::from_ref(job)).await.map_err(WorkspaceError::Queue)?;
    let tasks: Vec<_> = orders.iter().flat_map(|(order, _)| order.tasks()).collect();
    let Some(asked) = tasks.iter().find(|asked| asked.task == task) else {
        let mut known: Vec<String> = tasks.iter().map(|asked| asked.task.clone()).collect();
        known.dedup();
        return Err(WorkspaceError::NoTaskOfJob { job: job.clone(), task: task.to_owned(), known });
    };
    let file = store.results().join("cache").join(&asked.documents);
    let read = TaskDocuments::read(&file).ok_or(WorkspaceError::NoDocuments(file))?;
    let stored = store.documents(asked.key).await?;
    let mut examples = Vec::new();
    for scored in stored.iter().take(most) {
        let Some(document) = read.documents.iter().find(|document| document.id == scored.document) else {
            continue;
        };
        examples.push(Example::of(&read.task, document, &scored.requests, &scored.answers)?);
    }
    Ok(examples)
}

/// The first documents of each task whose answers a job generated, by task; those whose documents are gone are left out.
pub(super) async fn first_examples(
    store: &Store,
    job: &JobId,
    most: usize,
) -> Result<Vec<(String, Example)>, WorkspaceError> {
    let orders = store.orders(std::slice::from_ref(job)).await.map_err(WorkspaceError::Queue)?;
    let mut names: Vec<String> =
        orders.iter().flat_map(|(order, _)| order.tasks()).map(|asked| asked.task.clone()).collect();
    names.sort();
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        match examples(store, job, &name, most).await {
            Ok(examples) => {
                let answered = examples.into_iter().filter(|example| !example.answers.is_empty());
                found.extend(answered.map(|example| (name.clone(), example)));
            }
            Err(WorkspaceError::NoDocuments(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

impl Example {
    /// A document with what was said of it. Error: a filter that cannot be applied any more.
    pub fn of(
        task: &Task,
        document: &Document,
        scores: &[RequestScore],
        answers: &[String],
    ) -> Result<Self, WorkspaceError> {
        let shown = match &task.generation {
            Some(generation) if !answers.is_empty() => shown_answers(task, generation, document, answers)?,
            _ => Vec::new(),
        };
        let choice = |(number, score): (usize, &RequestScore)| ChoiceScore {
            text: document.requests.get(number).map_or("", |request| request.scored()).to_owned(),
            log_likelihood: score.log_likelihood,
            is_greedy: score.is_greedy,
            is_right: is_right(&document.gold, number),
        };
        Ok(Self {
            document: document.id,
            prompt: document.requests.first().map_or("", |request| request.context()).to_owned(),
            target: document.target.clone(),
            answers: answers.to_vec(),
            filtered: shown.into_iter().map(FilteredAnswer::of).collect(),
            choices: scores.iter().enumerate().map(choice).collect(),
        })
    }
}

impl FilteredAnswer {
    fn of(ShownAnswer { filter, filtered, metrics }: ShownAnswer) -> Self {
        let metrics = metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { filter, answer: filtered, metrics }
    }

    /// Its text.
    pub fn text(&self) -> String {
        python_str(&self.answer)
    }
}

/// Whether a choice is correct.
fn is_right(gold: &Gold, number: usize) -> bool {
    match gold {
        Gold::True(labels) => labels.get(number).copied().unwrap_or_default(),
        Gold::Choices(golds) => golds.contains(&number),
        Gold::Target | Gold::Text { .. } | Gold::Answer(_) | Gold::Answers(_) => false,
    }
}
