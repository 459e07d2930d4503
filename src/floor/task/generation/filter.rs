//! Filters of generated answers, as in lm_eval: named pipelines, each of which starts from the raw answers of a document.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::multi_choice::MultiChoice;
use crate::data::Row;
use crate::python::{Found, PythonRegex, is_space, python_str};
use crate::task::published::FilterFunction;

/// What takes the place of an answer in which nothing was found.
pub(super) const INVALID: &str = "[invalid]";

/// The pattern of a regex filter that names none.
const NUMBER: &str = r"#### (\-?[0-9\.\,]+)";

/// A named pipeline of filters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerFilter {
    /// Its name, part of the names of its metrics.
    pub name: String,
    /// Its steps, in order.
    pub steps: Vec<FilterStep>,
}

/// A step of a pipeline: it maps each element of what it gets, or takes some of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterStep {
    /// The first element.
    TakeFirst,
    /// The first k elements.
    TakeFirstK(usize),
    /// The most frequent element, the first of several, in a list of one.
    MajorityVote,
    /// Without whitespace at both ends.
    RemoveWhitespace,
    /// In lower case.
    Lowercase,
    /// In upper case.
    Uppercase,
    /// Looked up in a table.
    Map {
        /// The table.
        table: Map<String, Value>,
        /// What is missing in it becomes this.
        default: Value,
    },
    /// What a pattern finds.
    Regex(RegexFilter),
    /// The choice that an answer names.
    MultiChoiceRegex(MultiChoice),
    /// The tags of pairs of a word and its tag.
    RegexPos,
    /// Labeled spans in one spelling.
    FormatSpan,
    /// A published function with its arguments.
    Published {
        /// The function.
        function: FilterFunction,
        /// Its arguments by name.
        arguments: Map<String, Value>,
    },
}

/// What a pattern finds in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegexFilter {
    /// The pattern, as Python reads it.
    pub pattern: String,
    /// Which match: 0 the first, −1 the last.
    pub group_select: i64,
    /// What takes the place of no match.
    pub fallback: String,
}

/// What is unsupported, and its name.
type Unsupported = (&'static str, String);

impl AnswerFilter {
    /// lm_eval's only pipeline where a file has none.
    pub fn take_first() -> Self {
        Self { name: "none".to_owned(), steps: vec![FilterStep::TakeFirst] }
    }

    /// The pipelines of a `filter_list` without functions. Error: an unsupported filter, or a parameter of one.
    #[cfg(test)]
    pub(super) fn list(value: &Value) -> Result<Vec<Self>, Unsupported> {
        let malformed = || ("filter_list", python_str(value));
        let entries = value.as_array().ok_or_else(malformed)?;
        let pipeline = |entry: &Value| {
            let name = entry.get("name").and_then(Value::as_str).ok_or_else(malformed)?;
            let steps = entry.get("filter").and_then(Value::as_array).ok_or_else(malformed)?;
            let steps = steps.iter().map(FilterStep::read).collect::<Result<_, _>>()?;
            Ok(Self { name: name.to_owned(), steps })
        };
        entries.iter().map(pipeline).collect()
    }

    /// What becomes of a document's raw answers. Error: a filter that cannot be applied, as lm_eval fails there.
    pub fn apply(&self, answers: &[String], row: &Row) -> Result<Value, String> {
        let mut value = Value::from(answers.to_vec());
        for step in &self.steps {
            value = step.apply(&value, row).map_err(|reason| format!("filter '{}': {reason}", self.name))?;
        }
        Ok(value)
    }
}

/// The parameters of a filter, each of which must be read.
pub(super) struct Parameters<'a> {
    entry: &'a Map<String, Value>,
    read: Vec<&'static str>,
}

impl<'a> Parameters<'a> {
    fn of(entry: &'a Map<String, Value>) -> Self {
        Self { entry, read: vec!["function"] }
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.read.push(key);
        self.entry.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, key: &'static str, default: &str) -> Result<String, Unsupported> {
        match self.value(key) {
            None => Ok(default.to_owned()),
            Some(value) => {
                value.as_str().map(str::to_owned).ok_or_else(|| ("filter", format!("{key} = {value}")))
            }
        }
    }

    pub(super) fn integer(&mut self, key: &'static str, default: i64) -> Result<i64, Unsupported> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value.as_i64().ok_or_else(|| ("filter", format!("{key} = {value}"))),
        }
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Result<bool, Unsupported> {
        match self.value(key) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| ("filter", format!("{key} = {value}"))),
        }
    }

    fn finish(self) -> Result<(), Unsupported> {
        match self.entry.keys().find(|key| !self.read.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(("filter", key.clone())),
        }
    }
}

impl FilterStep {
    pub(in crate::task) fn read(value: &Value) -> Result<Self, Unsupported> {
        let entry = value.as_object().ok_or_else(|| ("filter", python_str(value)))?;
        let function = entry.get("function").and_then(Value::as_str).unwrap_or_default();
        let mut parameters = Parameters::of(entry);
        let step = match function {
            "take_first" => Self::TakeFirst,
            "take_first_k" => {
                let k = parameters.integer("k", 0)?;
                Self::TakeFirstK(usize::try_from(k).map_err(|_| ("filter", format!("k = {k}")))?)
            }
            "majority_vote" => Self::MajorityVote,
            "remove_whitespace" => Self::RemoveWhitespace,
            "lowercase" => Self::Lowercase,
            "uppercase" => Self::Uppercase,
            "map" => {
                let table = parameters.value("mapping_dict").and_then(Value::as_object).cloned();
                let default = parameters.value("default_value").cloned().unwrap_or(Value::Null);
                Self::Map { table: table.ok_or(("filter", "map without mapping_dict".to_owned()))?, default }
            }
            "regex" => Self::Regex(RegexFilter::read(&mut parameters)?),
            "multi_choice_regex" => Self::MultiChoiceRegex(MultiChoice::read(&mut parameters)?),
            "regex_pos" => Self::RegexPos,
            "format_span" => Self::FormatSpan,
            other => return Err(("filter", other.to_owned())),
        };
        parameters.finish()?;
        Ok(step)
    }

    fn apply(&self, value: &Value, row: &Row) -> Result<Value, String> {
        let items = elements(value)?;
        let each = |map: &dyn Fn(&str) -> Result<Value, String>| {
            items
                .iter()
                .map(|item| map(text_of(item)?))
                .collect::<Result<Vec<Value>, String>>()
                .map(Value::Array)
        };
        match self {
            Self::TakeFirst => items.into_iter().next().ok_or_else(|| "there is nothing to take".to_owned()),
            Self::TakeFirstK(k) if items.len() < *k => {
                Err(format!("{k} answers wanted, {} there", items.len()))
            }
            Self::TakeFirstK(k) => Ok(items.into_iter().take(*k).collect()),
            Self::MajorityVote => Ok(Value::Array(most_frequent(items).into_iter().collect())),
            Self::RemoveWhitespace => each(&|text| Ok(text.trim_matches(is_space).into())),
            Self::Lowercase => each(&|text| Ok(text.to_lowercase().into())),
            Self::Uppercase => each(&|text| Ok(text.to_uppercase().into())),
            Self::Map { table, default } => Ok(items
                .iter()
                .map(|item| item.as_str().and_then(|text| table.get(text)).unwrap_or(default).clone())
                .collect()),
            Self::Regex(filter) => {
                let pattern = PythonRegex::new(&filter.pattern)?;
                each(&|text| Ok(filter.find(&pattern, text)?.into()))
            }
            Self::MultiChoiceRegex(filter) => {
                let found = filter.of_document(row)?;
                each(&|text| Ok(found.find(text)?.into()))
            }
            Self::RegexPos => each(&tags),
            Self::FormatSpan => each(&|text| Ok(spans(text)?.into())),
            Self::Published { function, arguments } => {
                let texts = items.iter().map(text_of).collect::<Result<Vec<&str>, String>>()?;
                Ok(function.filter(arguments, &texts, row)?.into())
            }
        }
    }
}

/// The elements that a step works on: of a list, or the characters of a text.
fn elements(value: &Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(items) => Ok(items.clone()),
        Value::String(text) => Ok(text.chars().map(|c| Value::from(c.to_string())).collect()),
        other => Err(format!("{} has no elements", python_str(other))),
    }
}

/// The text of an element; an answer that is none counts as empty.
fn text_of(item: &Value) -> Result<&str, String> {
    match item {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text),
        other => Err(format!("{} is not a string", python_str(other))),
    }
}

fn most_frequent(items: Vec<Value>) -> Option<Value> {
    let count = |wanted: &Value| items.iter().filter(|item| *item == wanted).count();
    let most = items.iter().map(count).max()?;
    items.iter().find(|item| count(item) == most).cloned()
}

impl RegexFilter {
    fn read(parameters: &mut Parameters<'_>) -> Result<Self, Unsupported> {
        let filter = Self {
            pattern: parameters.text("regex_pattern", NUMBER)?,
            group_select: parameters.integer("group_select", 0)?,
            fallback: parameters.text("fallback", INVALID)?,
        };
        PythonRegex::new(&filter.pattern).map_err(|_| ("regex", filter.pattern.clone()))?;
        Ok(filter)
    }

    fn find(&self, pattern: &PythonRegex, text: &str) -> Result<String, String> {
        let found = pattern.find_all(text)?;
        if found.is_empty() {
            return Ok(self.fallback.clone());
        }
        let text = match selected(found, self.group_select)? {
            Found::Text(text) => text,
            Found::Groups(groups) => {
                groups.into_iter().find(|group| !group.is_empty()).unwrap_or_else(|| self.fallback.clone())
            }
        };
        Ok(text.trim_matches(is_space).to_owned())
    }
}

/// The match of this number, from the end if it is negative. Error: there is none.
pub(super) fn selected(mut found: Vec<Found>, number: i64) -> Result<Found, String> {
    let place = if number < 0 { number + found.len() as i64 } else { number };
    match usize::try_from(place).ok().filter(|place| *place < found.len()) {
        Some(place) => Ok(found.swap_remove(place)),
        None => Err(format!("group_select = {number} of {} matches", found.len())),
    }
}

/// The tags of `('word', 'TAG')` pairs.
fn tags(text: &str) -> Result<Value, String> {
    let pairs = PythonRegex::new(r"\('([^']*)', '([^']*)'\)")?.find_all(text)?;
    let tag = |found: Found| match found {
        Found::Groups(groups) => groups.into_iter().nth(1),
        Found::Text(_) => None,
    };
    let tags: Vec<String> = pairs.into_iter().filter_map(tag).collect();
    Ok(if tags.is_empty() { vec!["invalid".to_owned()].into() } else { tags.into() })
}

/// The labels that answers use for persons, places, organizations and dates.
const LABELS: &[(&str, &str)] = &[
    ("person", "PER"),
    ("location", "LOC"),
    ("organization", "ORG"),
    ("counties", "LOC"),
    ("places", "LOC"),
    ("people", "PER"),
    ("persons", "PER"),
    ("company", "ORG"),
    ("country", "LOC"),
    ("continent", "LOC"),
    ("time", "DATE"),
    ("date", "DATE"),
    ("per", "PER"),
    ("loc", "LOC"),
    ("org", "ORG"),
];

/// `label: value` for each value of a label, joined by ` $ `.
fn spans(text: &str) -> Result<String, String> {
    let mut text = text.to_lowercase();
    for (word, label) in LABELS {
        text = PythonRegex::new(&format!(r"\b{word}\s*:"))?.replaced(&text, &format!("{label}:"))?;
    }
    let text = text.replace("$$", "$");
    let text = text.trim_end_matches('$').replace('\n', "$");
    let mut spans = Vec::new();
    for found in
        PythonRegex::new(r"\b(PER|LOC|ORG|DATE):\s*([^$]+)")?.find_all(text.trim_matches(is_space))?
    {
        let Found::Groups(groups) = found else { continue };
        let [label, values] = groups.as_slice() else { continue };
        let values = values.split(',').map(|value| value.trim_matches(is_space));
        let named = values.filter(|value| *value != "none");
        spans.extend(named.map(|value| format!("{}: {value}", label.to_lowercase())));
    }
    Ok(spans.join(" $ "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(steps: Value, answers: &[&str]) -> Result<Value, String> {
        let list = json!([{ "name": "x", "filter": steps }]);
        let filter = AnswerFilter::list(&list).unwrap().remove(0);
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        filter.apply(&answers, &Row::new())
    }

    #[test]
    fn gsm8ks_pipelines_find_the_marked_and_the_last_number() {
        let text = "So 3*4=12. She pays $1,234.50 in 7 days.";
        let flexible = json!([
            { "function": "regex", "group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)" },
            { "function": "take_first" },
        ]);
        assert_eq!(run(flexible, &[text]), Ok(json!("7")));
        let strict = json!([{ "function": "regex" }, { "function": "take_first" }]);
        assert_eq!(run(strict.clone(), &[text]), Ok(json!("[invalid]")));
        assert_eq!(run(strict, &["x #### -1,2"]), Ok(json!("-1,2")));
    }

    #[test]
    fn a_step_after_take_first_works_on_characters() {
        let steps = json!([
            { "function": "take_first" },
            { "function": "map", "mapping_dict": { "A": "first" }, "default_value": "none" },
        ]);
        assert_eq!(run(steps.clone(), &["AB"]), Ok(json!(["first", "none"])));
        let twice = json!([{ "function": "take_first" }, { "function": "take_first" }]);
        assert!(run(twice, &[""]).is_err(), "nothing is left to take");
    }

    #[test]
    fn votes_keep_a_list_of_the_most_frequent_answer() {
        assert_eq!(run(json!([{ "function": "majority_vote" }]), &["b", "a", "a", "b"]), Ok(json!(["b"])));
        assert_eq!(
            run(json!([{ "function": "take_first_k", "k": 2 }]), &["b", "a", "c"]),
            Ok(json!(["b", "a"]))
        );
        assert!(run(json!([{ "function": "take_first_k", "k": 2 }]), &["b"]).is_err());
    }

    #[test]
    fn a_fallback_is_kept_as_written_unless_a_match_was_empty() {
        let steps =
            |pattern: &str| json!([{ "function": "regex", "regex_pattern": pattern, "fallback": " 7 " }]);
        assert_eq!(run(steps("[0-9]"), &["x"]), Ok(json!([" 7 "])));
        assert_eq!(run(steps("(a*)(b*)"), &["x"]), Ok(json!(["7"])));
        assert_eq!(run(steps("a*"), &["x"]), Ok(json!([""])), "a match of nothing is no fallback");
    }

    #[test]
    fn spans_and_tags_have_one_spelling() {
        let format = json!([{ "function": "format_span" }]);
        assert_eq!(
            run(format, &[" Location: Kenya, Uganda $$ person: Ann"]),
            Ok(json!(["loc: kenya $ loc: uganda $ per: ann"]))
        );
        let tags = json!([{ "function": "regex_pos" }]);
        assert_eq!(run(tags.clone(), &["[('Dogs', 'NOUN')]"]), Ok(json!([["NOUN"]])));
        assert_eq!(run(tags, &["none"]), Ok(json!([["invalid"]])));
    }

    #[test]
    fn what_is_not_known_is_named() {
        let read =
            |step: Value| AnswerFilter::list(&json!([{ "name": "x", "filter": [step] }])).unwrap_err().1;
        assert_eq!(read(json!({ "function": "custom" })), "custom");
        assert_eq!(read(json!({ "function": "regex", "flags": 1 })), "flags");
    }
}
