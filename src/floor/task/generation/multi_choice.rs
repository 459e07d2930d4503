//! lm_eval's `multi_choice_regex`: the choice that an answer names, by a pattern, by its text, or by its letter.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::filter::{INVALID, Parameters, selected};
use crate::data::Row;
use crate::python::{Found, PythonRegex, escaped, is_space};

/// Punctuation of all of Unicode.
static PUNCTUATION: LazyLock<Result<regex::Regex, String>> =
    LazyLock::new(|| regex::Regex::new(r"\p{P}").map_err(|error| error.to_string()));

/// The parameters of the filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultiChoice {
    pattern: String,
    group_select: i64,
    fallback: String,
    ignore_case: bool,
    ignore_punctuation: bool,
    regexes_to_ignore: Vec<String>,
}

/// The filter with the choices of a document.
pub(super) struct Choices<'a> {
    filter: &'a MultiChoice,
    pattern: PythonRegex,
    /// The choices' texts, the longest first, as one pattern.
    texts: PythonRegex,
    /// `(A)` of each choice's text.
    letters: HashMap<String, String>,
    /// A letter after a colon.
    after_colon: PythonRegex,
}

impl MultiChoice {
    pub(super) fn read(parameters: &mut Parameters<'_>) -> Result<Self, (&'static str, String)> {
        let ignored = parameters.value("regexes_to_ignore").cloned().unwrap_or(Value::Array(Vec::new()));
        let wrong = || ("filter", format!("regexes_to_ignore = {ignored}"));
        let ignored_patterns: Option<Vec<String>> = ignored
            .as_array()
            .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        let filter = Self {
            pattern: parameters.text("regex_pattern", r"#### (\-?[0-9\.\,]+)")?,
            group_select: parameters.integer("group_select", 0)?,
            fallback: parameters.text("fallback", INVALID)?,
            ignore_case: parameters.flag("ignore_case")?,
            ignore_punctuation: parameters.flag("ignore_punctuation")?,
            regexes_to_ignore: ignored_patterns.ok_or_else(wrong)?,
        };
        for pattern in filter.regexes_to_ignore.iter().chain([&filter.pattern]) {
            PythonRegex::new(pattern).map_err(|_| ("regex", pattern.clone()))?;
        }
        Ok(filter)
    }

    /// For a document with a list of strings in its column `choices`. Error: it has none.
    pub(super) fn of_document(&self, row: &Row) -> Result<Choices<'_>, String> {
        let choices = row.get("choices").and_then(Value::as_array);
        let choices: Option<Vec<&str>> = choices.and_then(|items| items.iter().map(Value::as_str).collect());
        let choices = choices.ok_or("'choices' must be a list of strings")?;
        let (mut letters, mut texts, mut bare) = (HashMap::new(), Vec::new(), Vec::new());
        for (choice, letter) in choices.iter().zip('A'..) {
            let text = self.normalized(choice.trim_matches(is_space))?;
            texts.push(escaped(&text));
            letters.insert(text, format!("({letter})"));
            bare.push(letter.to_string());
        }
        texts.sort_by_key(|text| std::cmp::Reverse(text.chars().count()));
        Ok(Choices {
            filter: self,
            pattern: PythonRegex::new(&self.pattern)?,
            texts: PythonRegex::new(&texts.join("|"))?,
            letters,
            after_colon: PythonRegex::new(&format!(r":[\s]*({})", bare.join("|")))?,
        })
    }

    fn normalized(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_owned();
        for pattern in &self.regexes_to_ignore {
            text = PythonRegex::new(pattern)?.removed(&text)?;
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text = PUNCTUATION.as_ref().map_err(Clone::clone)?.replace_all(&text, "").into_owned();
        }
        Ok(text)
    }
}

impl Choices<'_> {
    /// The choice of an answer, or the fallback.
    pub(super) fn find(&self, answer: &str) -> Result<String, String> {
        if let Some(found) = self.matched(&self.pattern, answer)? {
            return Ok(found);
        }
        if let Some(found) = self.matched(&self.texts, &self.filter.normalized(answer)?)? {
            return Ok(self.letters.get(&found).cloned().unwrap_or(found));
        }
        match self.matched(&self.after_colon, answer)? {
            Some(letter) => Ok(format!("({letter})")),
            None => Ok(self.filter.fallback.clone()),
        }
    }

    /// A match that is not empty.
    fn matched(&self, pattern: &PythonRegex, text: &str) -> Result<Option<String>, String> {
        let found = pattern.find_all(text)?;
        if found.is_empty() {
            return Ok(None);
        }
        let text = match selected(found, self.filter.group_select)? {
            Found::Text(text) => text,
            Found::Groups(groups) => groups.into_iter().find(|group| !group.is_empty()).unwrap_or_default(),
        };
        let text = text.trim_matches(is_space);
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::filter::AnswerFilter;
    use super::*;

    fn find(parameters: Value, answer: &str) -> Value {
        let mut step = json!({ "function": "multi_choice_regex", "regex_pattern": r"(\([A-Z]\))" });
        step.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        let list = json!([{ "name": "x", "filter": [step, { "function": "take_first" }] }]);
        let filter = AnswerFilter::list(&list).unwrap().remove(0);
        let mut row = Row::new();
        row.insert("choices".to_owned(), json!(["Cat", "Cat-fish", "the dog"]));
        filter.apply(&[answer.to_owned()], &row).unwrap()
    }

    #[test]
    fn a_choice_is_found_by_pattern_then_text_then_letter() {
        assert_eq!(find(json!({}), "It is (B), not (A)."), "(B)");
        assert_eq!(find(json!({ "group_select": -1 }), "It is (B), not (A)."), "(A)");
        assert_eq!(find(json!({}), "a Cat-fish"), "(B)", "the longest text comes first");
        assert_eq!(find(json!({}), "Answer: C"), "(C)");
        assert_eq!(find(json!({ "fallback": "?" }), "nothing"), "?");
    }

    #[test]
    fn case_punctuation_and_patterns_are_ignored_on_request() {
        assert_eq!(find(json!({ "ignore_case": true, "ignore_punctuation": true }), "a CATFISH!"), "(B)");
        assert_eq!(find(json!({ "regexes_to_ignore": ["[Tt]he "] }), "it is dog"), "(C)");
    }
}
