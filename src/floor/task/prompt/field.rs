//! A field's value for a row, by lm_eval's rules.

use std::collections::HashSet;

use minijinja::Environment;
use serde_json::Value;

use crate::data::Row;
use crate::jinja::{task_environment, with_tuples};
use crate::python::{parse_literal, parse_with_tuples, python_str};
use crate::task::TaskError;
use crate::task::definition::task::{Fields, Task};
use crate::task::dialect::task_file::Field;

/// Computes field values, each template compiled once.
pub(super) struct Evaluator<'a> {
    task: &'a Task,
    environment: Environment<'static>,
    /// The scored documents' columns: a field with such a name is the column.
    columns: HashSet<&'a str>,
}

/// An integer: lm_eval's `isinstance(value, int)`, which includes booleans.
pub(super) fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Bool(yes) => Some(i64::from(*yes)),
        Value::Number(number) if !number.is_f64() => number.as_i64(),
        _ => None,
    }
}

impl<'a> Evaluator<'a> {
    /// For documents with the columns of `first`.
    pub(super) fn new(task: &'a Task, first: &'a Row) -> Self {
        let mut environment = task_environment();
        let fields = [&task.fields, &task.shots.fields].into_iter();
        let fields = fields.flat_map(|f| [Some(&f.text), Some(&f.target), f.choice.as_ref()]);
        let texts = fields.flatten().filter_map(|field| match field {
            Field::Text(text) => Some(text),
            _ => None,
        });
        let prefixes = [&task.fields.gen_prefix, &task.shots.fields.gen_prefix].into_iter().flatten();
        let texts = texts.chain([&task.description]).chain(prefixes);
        for text in texts.filter(|text| text.contains('{')) {
            // A template that does not compile is reported when used, with its document.
            let _ = environment.add_template_owned(text.clone(), with_tuples(text));
        }
        Self { task, environment, columns: first.keys().map(String::as_str).collect() }
    }

    pub(super) fn error(&self, document: usize, field: &'static str, reason: String) -> TaskError {
        self.task.field_error(document, field, reason)
    }

    /// The prompt: a string, or the number of a choice.
    pub(super) fn text(&self, id: usize, row: &Row, fields: &Fields) -> Result<Value, TaskError> {
        self.value(id, row, "doc_to_text", &fields.text, fields)
    }

    /// The target: a string, a number, or a list of them.
    pub(super) fn target(&self, id: usize, row: &Row, fields: &Fields) -> Result<Value, TaskError> {
        let value = self.value(id, row, "doc_to_target", &fields.target, fields)?;
        let Field::Text(text) = &fields.target else { return Ok(value) };
        match value {
            Value::String(rendered)
                if !self.columns.contains(text.as_str())
                    && rendered.len() >= 2
                    && rendered.starts_with('[')
                    && rendered.ends_with(']') =>
            {
                match parse_with_tuples(&rendered) {
                    // A tuple would be printed and compared as a list.
                    Some((_, true)) => {
                        Err(self.error(id, "doc_to_target", "a tuple in a list is not supported".to_owned()))
                    }
                    Some((value, false)) => Ok(value),
                    None => Ok(Value::String(rendered)),
                }
            }
            other => Ok(other),
        }
    }

    /// The prefix of the answer.
    pub(super) fn prefix(&self, id: usize, row: &Row, fields: &Fields) -> Result<Option<String>, TaskError> {
        let resolve = |text: &String| self.resolved(id, row, "gen_prefix", text);
        let prefix = fields.gen_prefix.as_ref().map(resolve).transpose()?;
        Ok(prefix.filter(|prefix| !prefix.is_empty()))
    }

    /// A column's string, or a rendered template.
    pub(super) fn resolved(
        &self,
        id: usize,
        row: &Row,
        name: &'static str,
        text: &str,
    ) -> Result<String, TaskError> {
        match row.get(text) {
            Some(Value::Null) => Ok(String::new()),
            Some(column) => Ok(python_str(column)),
            None => self.rendered(id, row, name, text),
        }
    }

    fn value(
        &self,
        id: usize,
        row: &Row,
        name: &'static str,
        field: &Field,
        fields: &Fields,
    ) -> Result<Value, TaskError> {
        let text = match field {
            Field::Int(number) => return Ok((*number).into()),
            Field::List(items) => return Ok(items.clone().into()),
            Field::Native(native) => return native.field(row).map_err(|reason| self.error(id, name, reason)),
            Field::Published { function, constants } => {
                return function.field(constants, row).map_err(|reason| self.error(id, name, reason));
            }
            Field::Text(text) if self.columns.contains(text.as_str()) => {
                let missing = || self.error(id, name, format!("the column '{text}' is missing"));
                return row.get(text).cloned().ok_or_else(missing);
            }
            Field::Text(text) => self.rendered(id, row, name, text)?,
        };
        // A string of digits is a number if there are choices.
        let digits = !text.is_empty() && text.chars().all(char::is_numeric);
        match text.parse::<i64>() {
            Ok(number) if digits && fields.choice.is_some() => Ok(number.into()),
            _ => Ok(Value::String(text)),
        }
    }

    fn rendered(&self, id: usize, row: &Row, name: &'static str, text: &str) -> Result<String, TaskError> {
        if !text.contains('{') {
            return Ok(text.to_owned());
        }
        let rendered = match self.environment.get_template(text) {
            Ok(template) => template.render(row),
            Err(_) => self.environment.render_str(&with_tuples(text), row),
        };
        rendered.map_err(|e| self.error(id, name, e.to_string()))
    }

    /// The choices, at least one.
    pub(super) fn choices(
        &self,
        id: usize,
        row: &Row,
        field: Option<&Field>,
    ) -> Result<Vec<String>, TaskError> {
        let fail = |reason: String| self.error(id, "doc_to_choice", reason);
        let value = match field {
            None => return Err(fail("it is missing".to_owned())),
            Some(Field::Text(text)) if self.columns.contains(text.as_str()) => {
                row.get(text).cloned().ok_or_else(|| fail(format!("the column '{text}' is missing")))?
            }
            Some(Field::Text(text)) => {
                let rendered = self.rendered(id, row, "doc_to_choice", text)?;
                parse_literal(rendered.trim()).ok_or_else(|| fail(format!("'{rendered}' is not a list")))?
            }
            Some(Field::List(items)) => items.clone().into(),
            Some(Field::Int(number)) => (*number).into(),
            Some(Field::Native(native)) => native.field(row).map_err(fail)?,
            Some(Field::Published { function, constants }) => function.field(constants, row).map_err(fail)?,
        };
        let items: Vec<Value> = match value {
            Value::Array(items) => items,
            Value::Object(map) => map.values().cloned().collect(),
            other => return Err(fail(format!("'{}' is not a list", python_str(&other)))),
        };
        if items.is_empty() {
            return Err(fail("the list is empty".to_owned()));
        }
        match items.iter().position(Value::is_null) {
            Some(number) => Err(fail(format!("choice {number} is null"))),
            None => Ok(items.iter().map(python_str).collect()),
        }
    }
}
