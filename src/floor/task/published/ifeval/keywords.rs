//! Instructions about keywords and letters.

use crate::python::PythonRegex;

use super::super::expression::{find_all, python_regex};
use super::super::text::strip;
use super::Arguments;
use super::checks::Check;

/// Compiles keywords, which are patterns, with case ignored.
fn compiled(keywords: &[&str], around: &str) -> Result<Vec<PythonRegex>, String> {
    keywords.iter().map(|word| python_regex(&format!("{around}{word}{around}"), "(?i)")).collect()
}

fn is_found(regex: &PythonRegex, response: &str) -> Result<bool, String> {
    regex.is_match(response).map_err(|error| format!("a keyword failed on a response: {error}"))
}

pub(super) fn existence<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    arguments.only(&["keywords"])?;
    let keywords = compiled(&arguments.texts("keywords")?, "")?;
    Ok(Box::new(move |response| {
        for keyword in &keywords {
            if !is_found(keyword, response)? {
                return Ok(false);
            }
        }
        Ok(true)
    }))
}

pub(super) fn frequency<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    arguments.only(&["keyword", "frequency", "relation"])?;
    let keyword = python_regex(strip(arguments.text("keyword")?), "(?i)")?;
    Ok(Box::new(move |response| {
        arguments.compares("relation", find_all(&keyword, response)?.len(), "frequency")
    }))
}

pub(super) fn forbidden<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    arguments.only(&["forbidden_words"])?;
    let words = compiled(&arguments.texts("forbidden_words")?, r"\b")?;
    Ok(Box::new(move |response| {
        for word in &words {
            if is_found(word, response)? {
                return Ok(false);
            }
        }
        Ok(true)
    }))
}

pub(super) fn letter_frequency<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    arguments.only(&["letter", "let_frequency", "let_relation"])?;
    let letter = arguments.text("letter")?.to_lowercase();
    let mut chars = letter.chars();
    let (Some(letter @ 'a'..='z'), None) = (chars.next(), chars.next()) else {
        // lm_eval draws another letter at random.
        return Err(format!("the argument 'letter' of '{}' must be one letter from a to z", arguments.id));
    };
    Ok(Box::new(move |response| {
        let count = response.to_lowercase().matches(letter).count();
        arguments.compares("let_relation", count, "let_frequency")
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::follows;

    #[test]
    fn keywords_ignore_case_and_are_patterns() {
        let exists =
            |response| follows("keywords:existence", json!({ "keywords": ["cat", "d.g"] }), response);
        assert!(exists("A Cat and a DOG") && !exists("A cat"));
        let twice = json!({ "keyword": "ha", "frequency": 2, "relation": "at least" });
        assert!(
            follows("keywords:frequency", twice.clone(), "Haha")
                && !follows("keywords:frequency", twice, "ha")
        );
    }

    #[test]
    fn forbidden_words_are_whole() {
        let allowed =
            |response| follows("keywords:forbidden_words", json!({ "forbidden_words": ["cat"] }), response);
        assert!(allowed("concatenate") && !allowed("The CAT."));
    }

    #[test]
    fn letters_are_counted_in_lower_case() {
        let kwargs = json!({ "letter": "A", "let_frequency": 3, "let_relation": "less than" });
        assert!(follows("keywords:letter_frequency", kwargs.clone(), "Aa"));
        assert!(!follows("keywords:letter_frequency", kwargs, "Aaa"));
    }
}
