//! Instructions about the form of a response.

use std::sync::LazyLock;

use crate::python::PythonRegex;

use super::super::expression::{Found, find_all, python_regex};
use super::super::text::strip;
use super::Arguments;
use super::checks::Check;

/// A pattern of this file. The tests compile each.
fn pattern(text: &str, flags: &str) -> PythonRegex {
    python_regex(text, flags).unwrap_or_else(|error| panic!("{error}"))
}

fn count(regex: &PythonRegex, response: &str) -> Result<usize, String> {
    find_all(regex, response).map(|found| found.len())
}

pub(super) fn placeholders<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    static PLACEHOLDER: LazyLock<PythonRegex> = LazyLock::new(|| pattern(r"\[.*?\]", ""));
    arguments.only(&["num_placeholders"])?;
    let wanted = arguments.number("num_placeholders")?;
    Ok(Box::new(move |response| Ok(count(&PLACEHOLDER, response)? as f64 >= wanted)))
}

pub(super) fn postscript<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    arguments.only(&["postscript_marker"])?;
    let marker = match strip(arguments.text("postscript_marker")?) {
        "P.P.S" => r"\s*p\.\s?p\.\s?s.*$".to_owned(),
        "P.S." => r"\s*p\.\s?s\..*$".to_owned(),
        other => format!(r"\s*{}.*$", other.to_lowercase()),
    };
    let marker = python_regex(&marker, "(?m)")?;
    Ok(Box::new(move |response| Ok(count(&marker, &response.to_lowercase())? > 0)))
}

pub(super) fn bullets<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    static STARS: LazyLock<PythonRegex> = LazyLock::new(|| pattern(r"^\s*\*[^\*].*$", "(?m)"));
    static DASHES: LazyLock<PythonRegex> = LazyLock::new(|| pattern(r"^\s*-.*$", "(?m)"));
    arguments.only(&["num_bullets"])?;
    let wanted = arguments.number("num_bullets")?;
    Ok(Box::new(move |response| Ok((count(&STARS, response)? + count(&DASHES, response)?) as f64 == wanted)))
}

pub(super) fn highlights<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    static SINGLE: LazyLock<PythonRegex> = LazyLock::new(|| pattern(r"\*[^\n\*]*\*", ""));
    static DOUBLE: LazyLock<PythonRegex> = LazyLock::new(|| pattern(r"\*\*[^\n\*]*\*\*", ""));
    arguments.only(&["num_highlights"])?;
    let wanted = arguments.number("num_highlights")?;
    // Neither pattern has an asterisk inside, so both kinds are bare once their asterisks are trimmed.
    let filled =
        |found: &Found| matches!(found, Found::Text(text) if !strip(text.trim_matches('*')).is_empty());
    Ok(Box::new(move |response| {
        let mut total = 0;
        for regex in [&SINGLE, &DOUBLE] {
            total += find_all(regex, response)?.iter().filter(|found| filled(found)).count();
        }
        Ok(total as f64 >= wanted)
    }))
}

pub(super) fn sections<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    arguments.only(&["section_spliter", "num_sections"])?;
    let word = strip(arguments.text("section_spliter")?);
    let section = python_regex(&format!(r"\s?{word}\s?\d+\s?"), "")?;
    let wanted = arguments.number("num_sections")?;
    Ok(Box::new(move |response| Ok(count(&section, response)? as f64 >= wanted)))
}

pub(super) fn constrained(response: &str) -> bool {
    ["yes", "no", "maybe"].iter().any(|option| response.contains(&format!("My answer is {option}.")))
}

pub(super) fn title(response: &str) -> bool {
    // The greedy pattern takes all between the first and the last brackets of a line.
    response.split('\n').any(|line| match (line.find("<<"), line.rfind(">>")) {
        (Some(open), Some(close)) if close > open + 2 => {
            !strip(line[open..close + 2].trim_start_matches('<').trim_end_matches('>')).is_empty()
        }
        _ => false,
    })
}

pub(super) fn json(response: &str) -> bool {
    let mut text = strip(response);
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    text = text.strip_suffix("```").unwrap_or(text);
    is_python_json(strip(text))
}

/// Whether Python's `json.loads` accepts a text: JSON, and the numbers NaN and Infinity.
fn is_python_json(text: &str) -> bool {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        return true;
    }
    // Outside strings the names stand for a number.
    static NAMES: LazyLock<regex::Regex> =
        LazyLock::new(|| super::super::expression::constant(r#""(?:[^"\\]|\\.)*"|-?Infinity\b|NaN\b"#));
    let plain =
        NAMES.replace_all(
            text,
            |found: &regex::Captures<'_>| {
                if found[0].starts_with('"') { found[0].to_owned() } else { "0".to_owned() }
            },
        );
    plain != text && serde_json::from_str::<serde::de::IgnoredAny>(&plain).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::follows;

    #[test]
    fn placeholders_and_sections_are_a_minimum() {
        let two = json!({ "num_placeholders": 2 });
        assert!(follows("detectable_content:number_placeholders", two.clone(), "[a] [] x"));
        assert!(!follows("detectable_content:number_placeholders", two, "[a\n] [b]"));
        let kwargs = json!({ "section_spliter": "SECTION", "num_sections": 2 });
        assert!(follows("detectable_format:multiple_sections", kwargs.clone(), "SECTION 1\na\nSECTION2"));
        assert!(!follows("detectable_format:multiple_sections", kwargs, "Section 1\nSECTION 2"));
    }

    #[test]
    fn bullets_are_exact() {
        let two = |response| {
            follows("detectable_format:number_bullet_lists", json!({ "num_bullets": 2 }), response)
        };
        assert!(two("* a\n- b") && two("x\n  * a\n** b\n-") && !two("* a\n* b\n* c"));
    }

    #[test]
    fn highlights_are_not_blank() {
        let two = |response| {
            follows("detectable_format:number_highlighted_sections", json!({ "num_highlights": 2 }), response)
        };
        assert!(two("*a* and *b*") && two("**a** **b**") && !two("*a* ** **"));
    }

    #[test]
    fn a_postscript_has_its_marker() {
        let ps = |marker, response| {
            follows("detectable_content:postscript", json!({ "postscript_marker": marker }), response)
        };
        assert!(
            ps("P.S.", "a\nP. S. b")
                && ps("P.P.S", "a p.p.s")
                && ps("N.B.", "n.b. x")
                && !ps("P.S.", "PS: a")
        );
    }

    #[test]
    fn json_may_be_fenced_and_have_python_numbers() {
        let json = |response| follows("detectable_format:json_format", json!({}), response);
        assert!(
            json("```json\n{\"a\": [1, NaN]}\n```")
                && json("\"x\"")
                && !json("{'a': 1}")
                && !json("{\"a\": NaNx}")
        );
    }

    #[test]
    fn a_title_and_an_option_are_found() {
        assert!(follows("detectable_format:title", json!({}), "x <<a>> y"));
        assert!(!follows("detectable_format:title", json!({}), "<< >>"));
        assert!(!follows("detectable_format:title", json!({}), "<<a\n>>"));
        assert!(follows("detectable_format:constrained_response", json!({}), "Well. My answer is no."));
    }
}
