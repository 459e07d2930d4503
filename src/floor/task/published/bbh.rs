//! BIG-Bench Hard's answer filters of the zero-shot tasks.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::python::{PythonRegex, escaped};

use super::Row;
use super::expression::{Found, find_all, is_punctuation, python_regex};
use super::number_words::number_of;
use super::text::{strip, text, truthy, words};

/// The arguments that the filters share, by their names in a task file.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    group_select: i64,
    fallback: String,
    ignore_case: bool,
    ignore_punctuation: bool,
    regexes_to_ignore: Vec<PythonRegex>,
    pattern: String,
    /// For the map filter: patterns and their values.
    values: Vec<(String, String)>,
}

impl Arguments {
    /// Reads a filter's arguments. Errors: an unknown name, a value of another type, a pattern that does not compile.
    pub(super) fn read(given: &Row) -> Result<Self, String> {
        let mut arguments = Self {
            fallback: "[invalid]".to_owned(),
            pattern: r"#### (\-?[0-9\.\,]+)".to_owned(),
            ..Self::default()
        };
        for (name, value) in given {
            let wrong = |kind: &str| format!("the filter's '{name}' must be {kind}");
            let string = || value.as_str().map(str::to_owned).ok_or_else(|| wrong("a string"));
            match name.as_str() {
                "function" => {}
                "group_select" => {
                    arguments.group_select = value.as_i64().ok_or_else(|| wrong("an integer"))?
                }
                "fallback" => arguments.fallback = string()?,
                "ignore_case" => arguments.ignore_case = truthy(value),
                "ignore_punctuation" => arguments.ignore_punctuation = truthy(value),
                "regex_pattern" => arguments.pattern = string()?,
                "regexes_to_ignore" if value.is_null() => {}
                "regexes_to_ignore" => {
                    let patterns =
                        super::text::strings(Some(value)).ok_or_else(|| wrong("a list of strings"))?;
                    let compiled: Result<_, String> = patterns.iter().map(|p| python_regex(p, "")).collect();
                    arguments.regexes_to_ignore = compiled?;
                }
                "regex_pattern_to_value" => {
                    let map = value.as_object().ok_or_else(|| wrong("a mapping"))?;
                    let pair = |(pattern, value): (&String, &Value)| {
                        Some((pattern.clone(), value.as_str()?.to_owned()))
                    };
                    let pairs: Option<Vec<_>> = map.iter().map(pair).collect();
                    arguments.values = pairs.ok_or_else(|| wrong("a mapping to strings"))?;
                }
                _ => return Err(format!("the filter has no argument '{name}'")),
            }
        }
        Ok(arguments)
    }

    /// The text without what the arguments ignore.
    fn simplified(&self, text: &str) -> Result<String, String> {
        let mut text = text.to_owned();
        for regex in &self.regexes_to_ignore {
            text = regex.removed(&text)?;
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !is_punctuation(c));
        }
        Ok(text)
    }

    /// The selected match, stripped; of several groups the first that is not empty. None: no match or an empty one.
    fn select(&self, regex: &PythonRegex, text: &str) -> Result<Option<String>, String> {
        let mut found = find_all(regex, text)?;
        if found.is_empty() {
            return Ok(None);
        }
        let count = found.len() as i64;
        let at = if self.group_select < 0 { count + self.group_select } else { self.group_select };
        let at = usize::try_from(at).ok().filter(|at| *at < found.len());
        let at = at.ok_or("group_select is beyond the matches of an answer")?;
        let text = match found.swap_remove(at) {
            Found::Text(text) => text,
            Found::Groups(groups) => {
                let first = groups.into_iter().find(|group| !group.is_empty());
                first.ok_or("a match of an answer has only empty groups")?
            }
        };
        Ok(Some(strip(&text).to_owned()).filter(|text| !text.is_empty()))
    }

    /// Applies [`Self::multiple_choice`], [`Self::number`] or [`Self::map`] to an answer.
    fn or_fallback(&self, found: Option<String>) -> String {
        found.unwrap_or_else(|| self.fallback.clone())
    }

    /// `MultiChoiceRegexFilter`: the pattern, else a choice's text, else a letter after a colon.
    pub(super) fn multiple_choice(&self, answers: &[&str], row: &Row) -> Result<Vec<String>, String> {
        static CHOICE: LazyLock<Result<PythonRegex, String>> =
            LazyLock::new(|| python_regex(r"\([A-Z]\)([^\n^(]*)", ""));
        let mut choices = Vec::new();
        for choice in find_all(CHOICE.as_ref().map_err(Clone::clone)?, text(row, "input")?)? {
            if let Found::Text(choice) = choice {
                choices.push(self.simplified(strip(&choice))?);
            }
        }
        let letter = |at: usize| char::from_u32('A' as u32 + at as u32).unwrap_or('?');
        // The letter of equal choices is the last one's.
        let letters: HashMap<&str, String> = choices
            .iter()
            .enumerate()
            .map(|(at, choice)| (choice.as_str(), format!("({})", letter(at))))
            .collect();
        let texts = choice_texts(&choices)?;
        let among: Vec<String> = (0..choices.len()).map(|at| letter(at).to_string()).collect();
        let after_colon = python_regex(&format!(r":[\s]*({})", among.join("|")), "")?;
        let pattern = python_regex(&self.pattern, "")?;
        let filter = |answer: &&str| -> Result<String, String> {
            let mut found = self.select(&pattern, answer)?;
            if found.is_none() {
                let choice = self.select(&texts, &self.simplified(answer)?)?;
                found = choice.map(|choice| letters.get(choice.as_str()).cloned().unwrap_or(choice));
            }
            if found.is_none() {
                found = self.select(&after_colon, answer)?.map(|letter| format!("({letter})"));
            }
            Ok(self.or_fallback(found))
        };
        answers.iter().map(filter).collect()
    }

    /// `NumberParseRegexFilter`: the pattern, else an English number word.
    pub(super) fn number(&self, answers: &[&str]) -> Result<Vec<String>, String> {
        let pattern = python_regex(&self.pattern, "")?;
        let filter = |answer: &&str| -> Result<String, String> {
            let mut found = self.select(&pattern, answer)?;
            if found.is_none() {
                found = self.number_word(&answer.to_lowercase())?;
            }
            Ok(self.or_fallback(found))
        };
        answers.iter().map(filter).collect()
    }

    /// The selected number written in English words, in digits.
    fn number_word(&self, answer: &str) -> Result<Option<String>, String> {
        static NUMBER: LazyLock<Result<PythonRegex, String>> = LazyLock::new(super::number_words::expression);
        let found = self.select(NUMBER.as_ref().map_err(Clone::clone)?, answer)?;
        found.map(|text| number_of(&text)).transpose()
    }

    /// `MapRegexFilter`: the selected match of all patterns, as the value of the first pattern that matches it.
    pub(super) fn map(&self, answers: &[&str]) -> Result<Vec<String>, String> {
        let patterns: Vec<&str> = self.values.iter().map(|(pattern, _)| pattern.as_str()).collect();
        let whole = python_regex(&patterns.join("|"), "")?;
        let each: Result<Vec<PythonRegex>, String> = patterns.iter().map(|p| python_regex(p, "")).collect();
        let each = each?;
        let filter = |answer: &&str| -> Result<String, String> {
            let Some(selected) = self.select(&whole, &self.simplified(answer)?)? else {
                return Ok(self.fallback.clone());
            };
            let selected = self.simplified(&selected)?;
            for (regex, (_, value)) in each.iter().zip(&self.values) {
                if self.select(regex, &selected)?.is_some() {
                    return Ok(value.clone());
                }
            }
            Ok(self.fallback.clone())
        };
        answers.iter().map(filter).collect()
    }
}

/// The pattern of the choices' texts, the longest first, so that a choice does not hide one that starts with it.
fn choice_texts(choices: &[String]) -> Result<PythonRegex, String> {
    let mut escaped: Vec<(usize, String)> = choices.iter().map(|choice| escape(choice)).collect();
    escaped.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    let escaped: Vec<String> = escaped.into_iter().map(|(_, pattern)| pattern).collect();
    python_regex(&escaped.join("|"), "")
        .map_err(|error| format!("the choices of 'input' do not compile: {error}"))
}

/// A literal pattern, and the length of `re.escape` of the text.
fn escape(text: &str) -> (usize, String) {
    let special = |c: &char| "()[]{}?*+-|^$\\.&~# \t\n\r\u{b}\u{c}".contains(*c);
    (text.chars().count() + text.chars().filter(special).count(), escaped(text))
}

/// `WordSortFilter`: the words of the document's list found in the answer, ordered by their last occurrence.
pub(super) fn word_sort(answers: &[&str], row: &Row) -> Result<Vec<String>, String> {
    let input = text(row, "input")?;
    let list = input.split("List:").nth(1).ok_or("'input' has no 'List:'")?;
    let patterns: Vec<String> = words(list).map(|word| format!(r"\b{word}\b")).collect();
    let regex = python_regex(&patterns.join("|"), "")?;
    let filter = |answer: &&str| -> Result<String, String> {
        let mut ordered: Vec<String> = Vec::new();
        for found in find_all(&regex, answer)?.into_iter().rev() {
            if let Found::Text(word) = found
                && !ordered.contains(&word)
            {
                ordered.push(word);
            }
        }
        ordered.reverse();
        Ok(ordered.join(" "))
    };
    answers.iter().map(filter).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(value: Value) -> Arguments {
        Arguments::read(value.as_object().unwrap()).unwrap()
    }

    fn input(text: &str) -> Row {
        json!({ "input": text }).as_object().unwrap().clone()
    }

    #[test]
    fn a_choice_is_found_by_letter_by_text_and_after_a_colon() {
        let filter = arguments(
            json!({ "regex_pattern": r"(\([A-Z]\))", "ignore_case": true, "ignore_punctuation": true }),
        );
        let row = input("Which?\nOptions:\n(A) Red dog\n(B) red\n(C) U.S.");
        let answers = ["It is (B).", "A red dog!", "red", "us", "Answer: C", "none"];
        let expected = ["(B)", "(A)", "(B)", "(C)", "(C)", "[invalid]"];
        assert_eq!(filter.multiple_choice(&answers, &row).unwrap(), expected);
    }

    #[test]
    fn a_number_is_found_in_digits_or_words() {
        let filter = arguments(json!({ "group_select": 0, "regex_pattern": "([-0-9]+)" }));
        let answers = ["I have 12 and 3.", "Twenty one apples", "five", "seven"];
        assert_eq!(filter.number(&answers).unwrap(), ["12", "21", "5", "[invalid]"]);
    }

    #[test]
    fn a_negative_group_select_counts_from_the_last_match() {
        let select = |at: i64| arguments(json!({ "group_select": at, "regex_pattern": "([0-9]+)" }));
        assert_eq!(select(-1).number(&["1 and 2 and 3"]).unwrap(), ["3"]);
        assert_eq!(select(-2).number(&["1 and 2 and 3"]).unwrap(), ["2"]);
        assert!(select(-4).number(&["1 and 2 and 3"]).is_err());
    }

    #[test]
    fn a_map_gives_the_value_of_the_first_pattern() {
        let filter = arguments(json!({
            "ignore_case": true,
            "regex_pattern_to_value": { r"\b(no|is lying)\b": "no", r"\b(yes|tells the truth)\b": "yes" },
        }));
        let answers = ["She Tells the truth.", "No, yes", "maybe"];
        assert_eq!(filter.map(&answers).unwrap(), ["yes", "no", "[invalid]"]);
    }

    #[test]
    fn words_are_ordered_by_their_last_occurrence() {
        let row = input("Sort. List: oak elm ash");
        assert_eq!(word_sort(&["elm oak ash elm, elms"], &row).unwrap(), ["oak ash elm"]);
    }

    #[test]
    fn an_unknown_argument_is_rejected_by_name() {
        let error = Arguments::read(json!({ "groups": 1 }).as_object().unwrap()).unwrap_err();
        assert_eq!(error, "the filter has no argument 'groups'");
    }
}
