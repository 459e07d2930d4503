//! From a task and its rows to documents: prompt, continuations and gold answer.

use minijinja::value::{Value as Rendered, ValueKind};
use minijinja::{Environment, UndefinedBehavior};

use super::definition::{Choices, OutputType, Scoring, Task};
use super::error::TaskError;
use super::request::Request;
use crate::data::{DataError, Row};

/// The right answer of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gold {
    /// The number of the right choice, counted from 0.
    Choice(usize),
    /// The one continuation that there is.
    Target,
    /// Which choices are true.
    True(Vec<bool>),
}

/// A document ready to be scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its number in the task, counted from 0.
    pub id: usize,
    /// One request for each choice, or one for the target.
    pub requests: Vec<Request>,
    /// The choices as they stand in the document, without delimiter; empty without choices.
    pub choices: Vec<String>,
    /// The right answer.
    pub gold: Gold,
}

/// The documents of a task's first `limit` rows. Errors: a field that a row cannot fill (task, document and field
/// named), documents that cannot be read, none at all.
pub fn build_documents(task: &Task, limit: Option<u64>) -> Result<Vec<Document>, TaskError> {
    let read = |source| TaskError::Documents { task: task.name.clone(), source };
    let not_local = || read(DataError::NotLocal { name: task.documents_name.clone() });
    let source = task.documents.as_ref().ok_or_else(not_local)?;
    let rows = source.rows().map_err(read)?;
    if rows.is_empty() {
        return Err(read(DataError::Empty { name: source.name() }));
    }
    let environment = environment();
    let fields = Fields { task, environment: &environment };
    let wanted = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    rows.iter().take(wanted).enumerate().map(|(id, row)| fields.document(id, row)).collect()
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment
}

struct Fields<'a> {
    task: &'a Task,
    environment: &'a Environment<'static>,
}

impl Fields<'_> {
    fn document(&self, id: usize, row: &Row) -> Result<Document, TaskError> {
        let description = self.text(id, row, "description", &self.task.description)?;
        let context = description + &self.text(id, row, "doc_to_text", &self.task.doc_to_text)?;
        let target = self.text(id, row, "doc_to_target", &self.task.doc_to_target)?;
        match self.task.output_type {
            OutputType::Loglikelihood => {
                let requests = vec![Request { context, continuation: target }];
                Ok(Document { id, requests, choices: Vec::new(), gold: Gold::Target })
            }
            OutputType::MultipleChoice => {
                let choices = match &self.task.doc_to_choice {
                    Some(Choices::List(choices)) => choices.clone(),
                    Some(Choices::Text(template)) => self.choices(id, row, template)?,
                    None => return Err(self.error(id, "doc_to_choice", "it is missing".to_owned())),
                };
                let gold = match self.task.scoring {
                    Scoring::Standard => Gold::Choice(gold_choice(&target, &choices).ok_or_else(|| {
                        self.error(id, "doc_to_target", format!("'{target}' is none of the choices"))
                    })?),
                    Scoring::TrueProbability => self.true_choices(id, row, choices.len())?,
                };
                let delimiter = &self.task.target_delimiter;
                let request = |choice: &String| Request {
                    context: context.clone(),
                    continuation: format!("{delimiter}{choice}"),
                };
                let requests = choices.iter().map(request).collect();
                Ok(Document { id, requests, choices, gold })
            }
        }
    }

    /// A column's value where the field is a column's name, else the rendered template.
    fn text(&self, id: usize, row: &Row, field: &'static str, template: &str) -> Result<String, TaskError> {
        match row.get(template) {
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            Some(other) => Ok(other.to_string()),
            None => {
                self.environment.render_str(template, row).map_err(|e| self.error(id, field, e.to_string()))
            }
        }
    }

    /// A list: a column that holds one, or a template that is one expression.
    fn choices(&self, id: usize, row: &Row, template: &str) -> Result<Vec<String>, TaskError> {
        let fail = |reason: String| self.error(id, "doc_to_choice", reason);
        let value = match row.get(template) {
            Some(column) => Rendered::from_serialize(column),
            None => {
                let inside = template.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
                let expression = inside.ok_or_else(|| fail("it is not one {{ expression }}".to_owned()))?;
                let compiled =
                    self.environment.compile_expression(expression).map_err(|e| fail(e.to_string()))?;
                compiled.eval(row).map_err(|e| fail(e.to_string()))?
            }
        };
        if value.kind() != ValueKind::Seq {
            return Err(fail(format!("it is no list but {}", value.kind())));
        }
        let items: Vec<Rendered> = value.try_iter().map_err(|e| fail(e.to_string()))?.collect();
        // A name that the row lacks stands in a list as an undefined value and would print as an empty text.
        if items.is_empty() || items.iter().any(Rendered::is_undefined) {
            return Err(fail("a choice is missing from the document".to_owned()));
        }
        Ok(items.iter().map(ToString::to_string).collect())
    }

    /// The labels of `mc2_targets`, one for each choice.
    fn true_choices(&self, id: usize, row: &Row, choices: usize) -> Result<Gold, TaskError> {
        let labels = row.get("mc2_targets").and_then(|targets| targets["labels"].as_array());
        let labels: Option<Vec<bool>> = labels
            .and_then(|labels| labels.iter().map(|label| label.as_u64().map(|label| label == 1)).collect());
        let labels = labels.filter(|labels| labels.len() == choices && labels.contains(&true));
        let reason = || "mc2_targets.labels is not one 0 or 1 for each choice with a 1 among them".to_owned();
        labels.map(Gold::True).ok_or_else(|| self.error(id, "mc2_targets", reason()))
    }

    fn error(&self, document: usize, field: &'static str, reason: String) -> TaskError {
        TaskError::Field { task: self.task.name.clone(), document, field, reason }
    }
}

/// The number of the right choice: the target as a number, or its place among the choices.
fn gold_choice(target: &str, choices: &[String]) -> Option<usize> {
    let number = target.parse::<usize>().ok();
    number.or_else(|| choices.iter().position(|choice| choice == target)).filter(|n| *n < choices.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataRoots, DataSource};

    fn task(extra: &str) -> Task {
        let text = format!(
            "task: t\ndataset_path: loragrid/arithmetic\ndataset_name: two_digit_addition\ntest_split: test\n{extra}"
        );
        Task::parse("t.yaml", &text, std::path::Path::new("."), &DataRoots::default()).unwrap()
    }

    fn on_rows(mut task: Task, json: &str) -> Result<Vec<Document>, TaskError> {
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        std::fs::write(file.path(), json).unwrap();
        task.documents = Some(DataSource::File { path: file.path().to_owned() });
        build_documents(&task, None)
    }

    #[test]
    fn a_choice_is_joined_by_the_delimiter_and_a_target_is_not() {
        let choice = task(
            "output_type: multiple_choice\ndoc_to_text: ''\ndoc_to_target: 0\ndoc_to_choice: '{{ [a, b] }}'",
        );
        let documents = on_rows(choice, r#"{"a":"x","b":"y"}"#).unwrap();
        assert_eq!(documents[0].requests[1], Request { context: String::new(), continuation: " y".into() });
        let target = task("output_type: loglikelihood\ndoc_to_text: a\ndoc_to_target: '{{b}}'");
        let documents = on_rows(target, r#"{"a":"x","b":"y"}"#).unwrap();
        assert_eq!(documents[0].requests, [Request { context: "x".into(), continuation: "y".into() }]);
    }

    #[test]
    fn a_missing_column_names_task_document_and_field() {
        let choice = || {
            task(
                "output_type: multiple_choice\ndoc_to_text: ''\ndoc_to_target: 0\ndoc_to_choice: '{{ [a, b] }}'",
            )
        };
        let error = on_rows(choice(), "{\"a\":\"x\",\"b\":\"y\"}\n{\"a\":\"x\"}").unwrap_err().to_string();
        assert!(error.starts_with("task 't', document 1, doc_to_choice: "), "{error}");
        let target = task("output_type: loglikelihood\ndoc_to_text: '{{nothing}}'\ndoc_to_target: b");
        let error = on_rows(target, r#"{"b":"y"}"#).unwrap_err().to_string();
        assert!(error.starts_with("task 't', document 0, doc_to_text: "), "{error}");
    }

    #[test]
    fn templates_know_pythons_string_methods() {
        let target = task(
            "output_type: loglikelihood\ndoc_to_text: \"{{ a.strip()|replace('Q:', 'Question:') }}\"\ndoc_to_target: b",
        );
        let documents = on_rows(target, r#"{"a":" Q: x ","b":"y"}"#).unwrap();
        assert_eq!(documents[0].requests[0].context, "Question: x");
    }
}
