//! Checks which tasks of an index are supported, including every template, metric and filter.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::jinja::task_environment;
use crate::task::dialect::index::{Entry, TaskIndex, TaskLocation};
use crate::task::dialect::task_file::{Field, Refusal, TaskSpec};
use crate::task::prompt::synthetic::render;

/// Result of checking every task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Tasks.
    pub total: usize,
    /// Tasks whose file is fully supported, including every template, metric and filter.
    pub runnable: usize,
    /// Of these, tasks whose answers are generated.
    pub generating: usize,
    /// Groups of tasks.
    pub groups: usize,
    /// Tasks that are Python classes; not included in the total.
    pub classes: usize,
    /// Why the others are rejected: the kind of feature, its name, how many tasks.
    pub refused: Vec<(String, String, usize)>,
}

impl TaskIndex {
    /// Checks every task: its keys, functions, metrics and filters are known, and its templates compile and render.
    pub fn check(&self) -> Check {
        let environment = task_environment();
        let mut rendered: HashMap<(String, bool), Result<(), String>> = HashMap::new();
        let mut refused: BTreeMap<Refusal, usize> = BTreeMap::new();
        let (mut total, mut runnable, mut generating, mut groups) = (0, 0, 0, 0);
        for (_, entry) in self.entries() {
            let place = match entry {
                Entry::Task(place) => place,
                Entry::Group(_) => {
                    groups += 1;
                    continue;
                }
                Entry::Tag(_) => continue,
            };
            total += 1;
            let checked = self.spec(place).and_then(|spec| {
                for (field, text, as_list) in spec.sources() {
                    let key = (text.to_owned(), as_list);
                    let known =
                        rendered.entry(key).or_insert_with(|| render(&environment, text, as_list).map(drop));
                    known.clone().map_err(|reason| ("template", format!("{field}: {reason}")))?;
                }
                Ok(spec)
            });
            match checked {
                Ok(spec) => {
                    runnable += 1;
                    generating += usize::from(spec.output_type == "generate_until");
                }
                Err(refusal) => *refused.entry(refusal).or_default() += 1,
            }
        }
        let mut refused: Vec<(String, String, usize)> =
            refused.into_iter().map(|((what, name), count)| (what.to_owned(), name, count)).collect();
        refused.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.cmp(b)));
        Check { total, runnable, generating, groups, classes: self.classes, refused }
    }

    /// A checked task file. Error: an unknown item in it.
    fn spec(&self, place: &TaskLocation) -> Result<TaskSpec, Refusal> {
        let node = place.node().map_err(|error| ("file", error.to_string()))?;
        let spec = TaskSpec::check(node, &self.modules)?;
        spec.verify(&self.modules)?;
        Ok(spec)
    }
}

impl TaskSpec {
    /// The templates of the file: field, source, whether the result must be a list.
    fn sources(&self) -> Vec<(&'static str, &str, bool)> {
        let fields = [
            ("doc_to_text", &self.doc_to_text),
            ("doc_to_target", &self.doc_to_target),
            ("doc_to_choice", &self.doc_to_choice),
            ("fewshot doc_to_text", &self.fewshot.doc_to_text),
            ("fewshot doc_to_target", &self.fewshot.doc_to_target),
            ("doc_to_choice", &self.fewshot.doc_to_choice),
        ];
        let texts = fields.into_iter().filter_map(|(name, field)| match field {
            Some(Field::Text(text)) => Some((name, text.as_str())),
            _ => None,
        });
        let all = texts.chain(self.templates.iter().map(|(name, text)| (*name, text.as_str())));
        // A string without Jinja is a column's name or a literal.
        all.filter(|(_, text)| text.contains("{{") || text.contains("{%"))
            .map(|(name, text)| (name, text, name == "doc_to_choice"))
            .collect()
    }
}
