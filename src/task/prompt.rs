//! From a task and its rows to documents: prompt, continuations and gold answer.

use minijinja::Environment;
use serde_json::Value;

use super::definition::{OutputType, RowStep, Scoring, Task};
use super::error::TaskError;
use super::python::{parse_literal, python_str};
use super::request::Request;
use super::shots::Examples;
use super::spec::Field;
use super::template::environment;
use crate::data::{DataError, DataSource, Row};

/// The right answer of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gold {
    /// The numbers of the right choices, counted from 0; one in most tasks.
    Choices(Vec<usize>),
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
    /// The row that it was made of.
    pub row: Row,
    /// Its target, in Python's spelling.
    pub target: String,
}

/// The documents of a task's first `limit` rows. Errors: a field that a row cannot fill (task, document and field
/// named), documents that cannot be read, none at all, more examples than there are.
pub fn build_documents(task: &Task, limit: Option<u64>) -> Result<Vec<Document>, TaskError> {
    let rows = rows_of(task, task.documents.as_ref(), &task.documents_name)?;
    if let (1.., Some(key)) = (task.shots.count, &task.shots.not_carried_out) {
        let (task, what) = (task.name.clone(), "fewshot_config");
        return Err(TaskError::Unsupported { task, what, value: key.clone() });
    }
    let environment = compiled(task);
    let fields = Fields { task, environment: &environment };
    let pool = match (task.shots.count, &task.shots.documents) {
        (0, _) => Vec::new(),
        (_, source) if *source == task.documents => rows.clone(),
        (_, source) => rows_of(task, source.as_ref(), &task.shots.documents_name)?,
    };
    let mut examples = Examples::new(&task.shots, &pool);
    let wanted = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    rows.iter()
        .take(wanted)
        .enumerate()
        .map(|(id, row)| {
            let shots = examples.of(row).map_err(|reason| fields.error(id, "num_fewshot", reason))?;
            fields.document(id, row, &shots)
        })
        .collect()
}

/// An environment with every template of a task, each under its own text. One that does not compile is told where it is
/// used, with its document.
fn compiled(task: &Task) -> Environment<'static> {
    let mut environment = environment();
    let fields = [Some(&task.doc_to_text), Some(&task.doc_to_target), task.doc_to_choice.as_ref()];
    let texts = fields.into_iter().flatten().filter_map(|field| match field {
        Field::Text(text) => Some(text),
        _ => None,
    });
    for text in texts.chain([&task.description]).filter(|text| text.contains('{')) {
        let _ = environment.add_template_owned(text.clone(), text.clone());
    }
    environment
}

/// The rows of a source after what they go through first. Errors: not here, unreadable, none, a column that is missing.
fn rows_of(task: &Task, source: Option<&DataSource>, name: &str) -> Result<Vec<Row>, TaskError> {
    let read = |source| TaskError::Documents { task: task.name.clone(), source };
    let source = source.ok_or_else(|| read(DataError::NotLocal { name: name.to_owned() }))?;
    let mut rows = source.rows().map_err(read)?;
    match &task.rows {
        None => {}
        Some(RowStep::Filter(filter)) => rows.retain(|row| filter.keeps(row)),
        Some(RowStep::Native(native)) => {
            for (document, row) in rows.iter_mut().enumerate() {
                *row = native.row(row).map_err(|reason| TaskError::Field {
                    task: task.name.clone(),
                    document,
                    field: "process_docs",
                    reason,
                })?;
            }
        }
    }
    if rows.is_empty() {
        return Err(read(DataError::Empty { name: source.name() }));
    }
    Ok(rows)
}

struct Fields<'a> {
    task: &'a Task,
    environment: &'a Environment<'static>,
}

impl Fields<'_> {
    fn document(&self, id: usize, row: &Row, shots: &[&Row]) -> Result<Document, TaskError> {
        let mut before = self.rendered(id, row, "description", &self.task.description)?;
        for shot in shots {
            before += &self.example(id, shot)?;
        }
        let prompt = self.value(id, row, "doc_to_text", &self.task.doc_to_text)?;
        let target = self.value(id, row, "doc_to_target", &self.task.doc_to_target)?;
        let delimiter = &self.task.target_delimiter;
        if self.task.output_type == OutputType::Loglikelihood {
            let request =
                Request { context: before + &python_str(&prompt), continuation: python_str(&target) };
            let (row, target) = (row.clone(), python_str(&target));
            let requests = vec![request];
            return Ok(Document { id, requests, choices: Vec::new(), gold: Gold::Target, row, target });
        }
        let choices = self.choices(id, row)?;
        let (requests, gold) = match prompt.as_i64() {
            // The prompt is the number of the right choice: each choice is a context of the one target.
            Some(gold) => {
                let continuation = format!("{delimiter}{}", python_str(&target));
                let request = |choice: &String| Request {
                    context: format!("{before}{choice}"),
                    continuation: continuation.clone(),
                };
                (choices.iter().map(request).collect(), self.golds(id, &gold.into(), &choices)?)
            }
            None => {
                let context = before + &python_str(&prompt);
                let request = |choice: &String| Request {
                    context: context.clone(),
                    continuation: format!("{delimiter}{choice}"),
                };
                let gold = match self.task.scoring {
                    Scoring::Standard => self.golds(id, &target, &choices)?,
                    Scoring::TrueProbability => self.true_choices(id, row, choices.len())?,
                };
                (choices.iter().map(request).collect(), gold)
            }
        };
        Ok(Document { id, requests, choices, gold, row: row.clone(), target: python_str(&target) })
    }

    /// An example with its answer and what stands after it.
    fn example(&self, id: usize, row: &Row) -> Result<String, TaskError> {
        let prompt = self.value(id, row, "doc_to_text", &self.task.doc_to_text)?;
        let target = self.value(id, row, "doc_to_target", &self.task.doc_to_target)?;
        let choices = match self.task.doc_to_choice {
            Some(_) => self.choices(id, row)?,
            None => Vec::new(),
        };
        let choice = |number: i64| {
            let found = usize::try_from(number).ok().and_then(|number| choices.get(number));
            found
                .cloned()
                .ok_or_else(|| self.error(id, "doc_to_target", format!("an example has no choice {number}")))
        };
        let question = match prompt.as_i64() {
            Some(number) => choice(number)?,
            None => python_str(&prompt),
        };
        let first = target.as_array().and_then(|items| items.first()).unwrap_or(&target);
        let answer = match first.as_i64() {
            Some(number) if prompt.is_string() => choice(number)?,
            _ => python_str(first),
        };
        let (between, after) = (&self.task.target_delimiter, &self.task.shots.delimiter);
        Ok(format!("{question}{between}{answer}{after}"))
    }

    /// A field's value. A text of digits is a number, and a target in brackets a list, as lm_eval reads them.
    fn value(&self, id: usize, row: &Row, name: &'static str, field: &Field) -> Result<Value, TaskError> {
        let text = match field {
            Field::Int(number) => return Ok((*number).into()),
            Field::List(items) => return Ok(items.clone().into()),
            Field::Native(native) => return native.field(row).map_err(|reason| self.error(id, name, reason)),
            Field::Text(text) => match row.get(text) {
                Some(column) => return Ok(column.clone()),
                None => self.rendered(id, row, name, text)?,
            },
        };
        let digits = !text.is_empty() && text.chars().all(char::is_numeric);
        if digits
            && self.task.doc_to_choice.is_some()
            && let Ok(number) = text.parse::<i64>()
        {
            return Ok(number.into());
        }
        if name == "doc_to_target" && text.starts_with('[') && text.ends_with(']') {
            return Ok(parse_literal(&text).unwrap_or(Value::String(text)));
        }
        Ok(Value::String(text))
    }

    fn rendered(&self, id: usize, row: &Row, name: &'static str, text: &str) -> Result<String, TaskError> {
        if !text.contains('{') {
            return Ok(text.to_owned());
        }
        let rendered = match self.environment.get_template(text) {
            Ok(template) => template.render(row),
            Err(_) => self.environment.render_str(text, row),
        };
        rendered.map_err(|e| self.error(id, name, e.to_string()))
    }

    fn choices(&self, id: usize, row: &Row) -> Result<Vec<String>, TaskError> {
        let fail = |reason: String| self.error(id, "doc_to_choice", reason);
        let value = match &self.task.doc_to_choice {
            None => return Err(fail("it is missing".to_owned())),
            Some(Field::Text(text)) => match row.get(text) {
                Some(column) => column.clone(),
                None => {
                    let rendered = self.rendered(id, row, "doc_to_choice", text)?;
                    parse_literal(rendered.trim()).ok_or_else(|| fail(format!("'{rendered}' is no list")))?
                }
            },
            Some(field) => self.value(id, row, "doc_to_choice", field)?,
        };
        let items: Vec<String> = match value {
            Value::Array(items) => items.iter().map(python_str).collect(),
            Value::Object(map) => map.values().map(python_str).collect(),
            other => return Err(fail(format!("'{}' is no list", python_str(&other)))),
        };
        if items.is_empty() { Err(fail("the list is empty".to_owned())) } else { Ok(items) }
    }

    /// The right choices: numbers, texts among the choices, or a list of them. One that is no choice is wrong data.
    fn golds(&self, id: usize, target: &Value, choices: &[String]) -> Result<Gold, TaskError> {
        let place = |value: &Value| {
            let by_number = value.as_i64().and_then(|number| usize::try_from(number).ok());
            let by_text = || value.as_str().and_then(|text| choices.iter().position(|choice| choice == text));
            by_number.or_else(by_text).filter(|number| *number < choices.len())
        };
        let golds: Option<Vec<usize>> = match target {
            Value::Array(items) => items.iter().map(place).collect(),
            one => place(one).map(|number| vec![number]),
        };
        let wrong =
            || self.error(id, "doc_to_target", format!("'{}' is none of the choices", python_str(target)));
        golds.filter(|golds| !golds.is_empty()).map(Gold::Choices).ok_or_else(wrong)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataRoots, DataSource};

    fn task(extra: &str) -> Task {
        let text = format!(
            "task: t\ndataset_path: loragrid/arithmetic\ndataset_name: two_digit_addition\ntest_split: test\n{extra}"
        );
        let folder = std::path::Path::new(".");
        let node = super::super::yaml::Node::parse(&text, folder).unwrap();
        Task::build("t.yaml", node, folder, &DataRoots::default(), &Default::default()).unwrap()
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
    fn examples_of_a_form_that_is_not_carried_out_are_refused_and_none_are_not() {
        let own = || {
            task(
                "output_type: loglikelihood\ndoc_to_text: a\ndoc_to_target: b\nfewshot_config: {doc_to_text: other}",
            )
        };
        let rows = "{\"a\":\"x\",\"b\":\"y\"}\n{\"a\":\"z\",\"b\":\"w\"}";
        assert_eq!(on_rows(own(), rows).unwrap().len(), 2);
        let error = on_rows(own().with_shots(Some(1)), rows).unwrap_err().to_string();
        assert!(error.contains("fewshot_config 'doc_to_text'"), "{error}");
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
