//! How a task file has answers generated: settings, pipelines of filters, options of metrics.

use serde_json::Value;

use super::function::KnownFunction;
use super::task_file::{Reader, Refusal};
use super::yaml::{Function, Node};
use crate::data::Row;
use crate::python::PythonRegex;
use crate::task::generation::{AnswerFilter, FilterStep, Generation, GenerationSettings, MatchOptions};
use crate::task::published::{self, Answered, Recognized};

/// Most answers of a document; the largest number in published tasks is 64.
const MOST_REPEATS: u64 = 1_024;

impl Reader<'_> {
    /// A filter that a published function computes. Error: another function.
    pub(super) fn filter_function(&self, function: &Function) -> Result<published::FilterFunction, Refusal> {
        match self.recognize("filter", function)? {
            KnownFunction::Published(Recognized { answered: Answered::Filter(filter), .. }) => Ok(filter),
            _ => Err(("filter", function.name.clone())),
        }
    }

    /// The examples that a published function lists. Error: another function.
    pub(super) fn samples(&self, function: &Function) -> Result<Vec<Row>, Refusal> {
        match self.recognize("fewshot samples", function)? {
            KnownFunction::Published(Recognized { answered: Answered::Samples(samples), constants }) => {
                samples.samples(&constants).map_err(|reason| ("fewshot samples", reason))
            }
            _ => Err(("fewshot samples", function.name.clone())),
        }
    }

    /// The pipelines of `filter_list`. Error: an unsupported filter, or a parameter of one.
    fn pipelines(&self) -> Result<Vec<AnswerFilter>, Refusal> {
        let Some(Node::List(entries)) = self.node.get("filter_list") else {
            return Ok(vec![AnswerFilter::take_first()]);
        };
        let pipeline = |entry: &Node| {
            let name = entry
                .get("name")
                .and_then(Node::scalar)
                .ok_or(("filter_list", "a pipeline without a name".to_owned()))?;
            let Some(Node::List(steps)) = entry.get("filter") else {
                return Err(("filter_list", format!("{name} without a filter")));
            };
            let step = |step: &Node| match step.get("function") {
                Some(Node::Function(function)) => {
                    let function = self.filter_function(function)?;
                    let arguments = step.without("function").json();
                    Ok(FilterStep::Published {
                        function,
                        arguments: arguments.as_object().cloned().unwrap_or_default(),
                    })
                }
                _ => FilterStep::read(&step.json()),
            };
            Ok(AnswerFilter { name, steps: steps.iter().map(step).collect::<Result<_, Refusal>>()? })
        };
        let mut pipelines: Vec<AnswerFilter> = Vec::new();
        for read in entries.iter().map(pipeline) {
            let read = read?;
            // Of two with one name the last one counts, in the place of the first.
            match pipelines.iter_mut().find(|known| known.name == read.name) {
                Some(known) => *known = read,
                None => pipelines.push(read),
            }
        }
        if pipelines.is_empty() {
            return Err(("filter_list", "empty".to_owned()));
        }
        Ok(pipelines)
    }

    /// How answers are generated. Error: an unsupported setting, filter or option of a metric.
    pub(super) fn generation(&self) -> Result<Generation, Refusal> {
        let json = |key: &str| self.node.get(key).map(Node::json).filter(|value| !value.is_null());
        let kwargs = json("generation_kwargs");
        let kwargs = match &kwargs {
            None => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => return Err(("generation_kwargs", other.to_string())),
        };
        let delimiter = self.node.get("fewshot_delimiter").and_then(Node::scalar);
        let settings = GenerationSettings::of_file(kwargs, delimiter.as_deref().unwrap_or("\n\n"))?;
        let repeats = match json("repeats") {
            None => 1,
            Some(value) => value
                .as_u64()
                .filter(|n| (1..=MOST_REPEATS).contains(n))
                .ok_or_else(|| ("repeats", value.to_string()))?,
        };
        Ok(Generation { settings, repeats, pipelines: self.pipelines()?, matching: self.matching()? })
    }

    /// The options of `exact_match`. Error: an unsupported option.
    fn matching(&self) -> Result<MatchOptions, Refusal> {
        let mut matching = MatchOptions::default();
        let Some(Node::List(entries)) = self.node.get("metric_list") else { return Ok(matching) };
        for entry in entries {
            let Node::Map(options) = entry else { continue };
            let is_exact_match = entry.get("metric").and_then(Node::text) == Some("exact_match");
            if is_exact_match {
                // Of two entries the last one counts.
                matching = MatchOptions::default();
            }
            for (key, value) in options {
                let flag = || match value {
                    Node::Bool(yes) => Ok(*yes),
                    other => Err(("metric option", format!("{key} = {}", other.json()))),
                };
                match key.as_str() {
                    "metric" | "aggregation" | "higher_is_better" => {}
                    other if !is_exact_match && other != "hf_evaluate" => {
                        return Err(("metric option", other.to_owned()));
                    }
                    "ignore_case" => matching.ignore_case = flag()?,
                    "ignore_punctuation" => matching.ignore_punctuation = flag()?,
                    "ignore_numbers" => matching.ignore_numbers = flag()?,
                    "hf_evaluate" if !flag()? => {}
                    "regexes_to_ignore" => {
                        let patterns: Option<Vec<String>> = match value {
                            Node::List(items) => {
                                items.iter().map(|item| item.text().map(str::to_owned)).collect()
                            }
                            _ => None,
                        };
                        matching.regexes_to_ignore =
                            patterns.ok_or_else(|| ("metric option", key.clone()))?;
                    }
                    other => return Err(("metric option", other.to_owned())),
                }
            }
        }
        for pattern in &matching.regexes_to_ignore {
            PythonRegex::new(pattern).map_err(|_| ("regex", pattern.clone()))?;
        }
        Ok(matching)
    }
}
