//! Builds documents from a task and its rows: prompt, continuations and gold answer.

mod documents;
mod field;
mod gold;
pub(in crate::task) mod prompting;
pub(in crate::task) mod request;
pub(in crate::task) mod shots;
pub(in crate::task) mod synthetic;
mod turn;

pub use documents::EncodedDocument;
pub use prompting::{ChatForm, FEWSHOT_SEED, Prompting};
pub use request::{EncodedRequest, Request, RequestEncoder};

use serde_json::Value;

use super::error::TaskError;
use crate::data::{DataError, Row};
use crate::python::python_str;
use crate::task::definition::document::{Document, Gold};
use crate::task::definition::subset::Subset;
use crate::task::definition::task::{OutputType, Pool, Published, RowStep, Scoring, Task};
use crate::task::generation::gold_answer;
use crate::task::metric::kind::Metric;
use crate::task::prompt::shots::Examples;
use field::{Evaluator, whole};
use gold::{golds, length, true_choices};
use turn::{Conversation, QuestionTurn, delimited};

/// The documents of a task in a subset. Errors: a field that cannot be computed (task, document and field named),
/// documents that cannot be read, no documents, more examples than there are.
pub fn build_documents(task: &Task, subset: &Subset) -> Result<Vec<Document>, TaskError> {
    let rows = rows_of(task, &task.documents, task.rows.as_ref())?;
    let pool = match (task.shots.count, &task.shots.pool) {
        (0, _) => Vec::new(),
        (_, Pool::Samples(samples)) => samples.clone(),
        (_, Pool::Split { rows: same, step }) if *same == task.documents && *step == task.rows => {
            rows.clone()
        }
        (_, Pool::Split { rows: others, step }) => rows_of(task, others, step.as_ref())?,
    };
    let builder = Builder::new(task, &rows[0])?;
    let mut examples = Examples::new(&task.shots, &pool, task.prompting.fewshot_seed);
    let documents = subset.of(rows.len()).into_iter().map(|id| {
        let row = &rows[id];
        let shots = examples.of(row).map_err(|reason| builder.values.error(id, "num_fewshot", reason))?;
        builder.document(id, row, &shots)
    });
    documents.collect()
}

/// Number of documents of a task. Errors: documents that cannot be read, none at all.
pub fn count_documents(task: &Task) -> Result<u64, TaskError> {
    Ok(rows_of(task, &task.documents, task.rows.as_ref())?.len() as u64)
}

/// The preprocessed rows of a source. Errors: not found, unreadable, none, a column that is missing.
fn rows_of(task: &Task, source: &Published, step: Option<&RowStep>) -> Result<Vec<Row>, TaskError> {
    let read = |source| TaskError::Documents { task: task.name.clone(), source };
    let here = source.here.as_ref();
    let here = here.ok_or_else(|| read(DataError::NotLocal { name: source.name() }))?;
    let mut rows = here.table().map_err(read)?;
    match step {
        None | Some(RowStep::Published { .. }) => {}
        Some(RowStep::Filter(filter)) => rows.retain(|row| filter.keeps(row)),
        Some(RowStep::Native(native)) => {
            for (document, row) in rows.iter_mut().enumerate() {
                let made = native.row(row);
                *row = made.map_err(|reason| task.field_error(document, "process_docs", reason))?;
            }
        }
    }
    if let Some(RowStep::Published { function, constants }) = step {
        let made = function.rows(constants, &rows);
        rows = made.map_err(|reason| task.field_error(0, "process_docs", reason))?;
    }
    if rows.is_empty() {
        return Err(read(DataError::Empty { name: here.name() }));
    }
    Ok(rows)
}

/// Builds the documents of one task.
struct Builder<'a> {
    task: &'a Task,
    values: Evaluator<'a>,
    conversation: Conversation,
    /// Whether the prompt is the number of the correct choice: each choice is a context of the one target.
    several_contexts: bool,
    /// Whether every document has several targets.
    several_targets: bool,
}

impl<'a> Builder<'a> {
    /// `first` is the first row, which decides for all rows as in lm_eval.
    fn new(task: &'a Task, first: &'a Row) -> Result<Self, TaskError> {
        let values = Evaluator::new(task, first);
        let conversation = Conversation::new(task.prompting.chat.as_ref())
            .map_err(|reason| values.error(0, "chat template", reason))?;
        let several_contexts =
            task.fields.choice.is_some() && whole(&values.text(0, first, &task.fields)?).is_some();
        let several_targets = values.target(0, first, &task.fields)?.is_array();
        Ok(Self { task, values, conversation, several_contexts, several_targets })
    }

    fn document(&self, id: usize, row: &Row, shots: &[&Row]) -> Result<Document, TaskError> {
        let task = self.task;
        let target = self.values.target(id, row, &task.fields)?;
        let spelled = python_str(&target);
        let made = Document { id, row: row.clone(), target: spelled.clone(), ..Document::default() };
        if task.output_type == OutputType::LoglikelihoodRolling {
            let length = match task.scoring {
                Scoring::PageLength => row.get("page").and_then(Value::as_str),
                Scoring::Standard | Scoring::TrueProbability | Scoring::Published(_) => {
                    Some(spelled.as_str())
                }
            };
            let length = length.ok_or_else(|| {
                self.values.error(id, "process_results", "'page' must be a string".to_owned())
            })?;
            let gold = self::length(length);
            return Ok(Document { requests: vec![Request::Rolling { text: spelled }], gold, ..made });
        }
        let prefix = self.values.prefix(id, row, &task.fields)?;
        let prompt = self.values.text(id, row, &task.fields)?;
        let (before, is_shown) = self.before(id, row, (shots, prompt.as_str()))?;
        let made = Document { is_shown, ..made };
        let context = |question: &str, delimiter: &str| {
            let turn =
                QuestionTurn { question, answer: None, prefix: prefix.as_deref(), delimiter, after: "" };
            let text = self.conversation.context(&before, &turn);
            text.map_err(|reason| self.values.error(id, "chat template", reason))
        };
        let delimiter = &task.fields.target_delimiter;
        if task.output_type == OutputType::Loglikelihood {
            let question = self.question(id, &prompt)?;
            let request = Request::Pair { context: context(question, delimiter)?, continuation: spelled };
            return Ok(Document { requests: vec![request], ..made });
        }
        if task.output_type == OutputType::GenerateUntil {
            let request = Request::Generate { context: context(self.question(id, &prompt)?, delimiter)? };
            let gold = self.answer(id, row, &target)?;
            return Ok(Document { requests: vec![request], gold, ..made });
        }
        let choices = self.values.choices(id, row, task.fields.choice.as_ref())?;
        let between = self.between();
        let pair = |context: String, answer: &str| Request::Pair {
            context,
            continuation: format!("{between}{answer}"),
        };
        let (mut requests, gold) = if self.several_contexts {
            let requests: Result<Vec<Request>, TaskError> =
                choices.iter().map(|choice| Ok(pair(context(choice, "")?, &spelled))).collect();
            (requests?, golds(&prompt, &choices))
        } else {
            let context = context(self.question(id, &prompt)?, delimiter)?;
            let requests = choices.iter().map(|choice| pair(context.clone(), choice)).collect();
            let gold = match task.scoring {
                Scoring::TrueProbability => true_choices(row, choices.len()),
                // A published function reads the golds from the row.
                Scoring::Published(_) => Ok(golds(&target, &choices).unwrap_or(Gold::Target)),
                Scoring::Standard | Scoring::PageLength => golds(&target, &choices),
            };
            (requests, gold)
        };
        let gold = gold.map_err(|(field, reason)| self.values.error(id, field, reason))?;
        self.one_gold(id, &gold)?;
        if task.metrics.iter().any(|metric| metric.metric == Metric::AccMutualInfo) {
            requests.extend(choices.iter().map(|choice| pair(String::new(), choice)));
        }
        Ok(Document { requests, choices, gold, ..made })
    }

    /// The gold answer of a generation task.
    fn answer(&self, id: usize, row: &Row, target: &Value) -> Result<Gold, TaskError> {
        let field = self.task.fields.choice.as_ref();
        let choices = field.map(|field| self.values.choices(id, row, Some(field))).transpose()?;
        let gold = gold_answer(target, choices.as_deref(), self.several_targets);
        gold.map_err(|reason| self.values.error(id, "doc_to_target", reason))
    }

    /// The delimiter between context and choice: none for a chat turn, unless the answer's prefix needs one.
    fn between(&self) -> &str {
        let fields = &self.task.fields;
        let wants = |prefix: &String| !prefix.is_empty() && !prefix.ends_with(crate::python::is_space);
        match self.task.prompting.chat {
            Some(_) if !fields.gen_prefix.as_ref().is_some_and(wants) => "",
            _ => &fields.target_delimiter,
        }
    }

    /// Metrics of classes compare with one gold class.
    fn one_gold(&self, id: usize, gold: &Gold) -> Result<(), TaskError> {
        let classes = [Metric::F1, Metric::Mcc, Metric::BrierScore, Metric::AccMutualInfo];
        let metric = self.task.metrics.iter().find(|metric| classes.contains(&metric.metric));
        match (gold, metric) {
            (Gold::Choices(golds), Some(metric)) if golds.len() != 1 => {
                let reason = format!("{} needs exactly one correct choice", metric.metric.as_str());
                Err(self.values.error(id, "doc_to_target", reason))
            }
            _ => Ok(()),
        }
    }

    fn question<'b>(&self, id: usize, prompt: &'b Value) -> Result<&'b str, TaskError> {
        let wrong = || {
            let reason = format!("the prompt must be a string, not {}", crate::python::python_repr(prompt));
            self.values.error(id, "doc_to_text", reason)
        };
        prompt.as_str().ok_or_else(wrong)
    }

    /// The prefix of the question: instruction, description and examples; and whether an example has the same question.
    fn before(
        &self,
        id: usize,
        row: &Row,
        (shots, document_question): (&[&Row], Option<&str>),
    ) -> Result<(Vec<turn::PromptMessage>, bool), TaskError> {
        let task = self.task;
        let description = self.values.resolved(id, row, "description", &task.description)?;
        let system = task.prompting.system.as_deref().unwrap_or_default();
        // The file's delimiter, not the examples' own.
        let system = delimited(system, &description, &task.delimiter);
        let (mut messages, mut is_shown) = (Vec::new(), false);
        if !system.is_empty() {
            messages.push(turn::PromptMessage::system(system));
        }
        for shot in shots {
            let (example, question) = self.example(id, shot)?;
            is_shown |= *shot == row || document_question.is_some_and(|text| text.trim() == question.trim());
            messages.extend(example);
        }
        Ok((messages, is_shown))
    }

    /// An example with its answer and delimiter, and its question.
    fn example(&self, id: usize, row: &Row) -> Result<(Vec<turn::PromptMessage>, String), TaskError> {
        let (shots, values) = (&self.task.shots, &self.values);
        let fail = |field, reason: String| values.error(id, field, format!("an example: {reason}"));
        let prompt = values.text(id, row, &shots.fields)?;
        let target = values.target(id, row, &shots.fields)?;
        let prefix = values.prefix(id, row, &shots.fields)?;
        let choices = match &shots.fields.choice {
            Some(field) => values.choices(id, row, Some(field))?,
            None => Vec::new(),
        };
        let choice = |number: i64| {
            let place = if number < 0 { number + choices.len() as i64 } else { number };
            let found = usize::try_from(place).ok().and_then(|place| choices.get(place));
            found.cloned().ok_or_else(|| fail("doc_to_target", format!("choice {number} does not exist")))
        };
        let question = match (self.several_contexts, whole(&prompt)) {
            (true, Some(number)) => choice(number)?,
            (true, None) => {
                return Err(fail("doc_to_text", "the prompt is not the number of a choice".to_owned()));
            }
            (false, _) => self.question(id, &prompt)?.to_owned(),
        };
        let first = target.as_array().and_then(|items| items.first()).unwrap_or(&target);
        let answer = match (whole(first), first) {
            (Some(number), _) if !self.several_contexts && !target.is_array() => Some(choice(number)?),
            (_, Value::String(text)) if text.is_empty() && !target.is_array() => None,
            (_, Value::String(text)) => Some(text.clone()),
            (_, Value::Null) => None,
            (_, other) => {
                let reason =
                    format!("the answer must be a string, not {}", crate::python::python_repr(other));
                return Err(fail("doc_to_target", reason));
            }
        };
        let turn = QuestionTurn {
            question: &question,
            answer: answer.as_deref(),
            prefix: prefix.as_deref(),
            delimiter: &shots.fields.target_delimiter,
            after: &shots.delimiter,
        };
        let messages = turn.said();
        Ok((messages, question))
    }
}

#[cfg(test)]
mod tests;
