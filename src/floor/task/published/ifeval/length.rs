//! Instructions about words and paragraphs.

use std::sync::LazyLock;

use regex::Regex;

use super::super::expression::constant;
use super::super::text::{is_word, strip, words};
use super::Arguments;
use super::checks::Check;

pub(super) fn number_of_words<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    arguments.only(&["num_words", "relation"])?;
    Ok(Box::new(|response| {
        let count = response.split(|c| !is_word(c)).filter(|word| !word.is_empty()).count();
        arguments.compares("relation", count, "num_words")
    }))
}

/// Paragraphs around `***`; only the first and the last may be blank, and then do not count.
pub(super) fn paragraphs<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    arguments.only(&["num_paragraphs"])?;
    let wanted = arguments.number("num_paragraphs")?;
    Ok(Box::new(move |response| {
        static DIVIDER: LazyLock<Regex> = LazyLock::new(|| constant(r"[\s\x1c-\x1f]?\*\*\*[\s\x1c-\x1f]?"));
        let parts: Vec<&str> = DIVIDER.split(response).collect();
        let blank = |part: &&&str| strip(part).is_empty();
        if parts.get(1..parts.len() - 1).unwrap_or_default().iter().any(|part| blank(&part)) {
            return Ok(false);
        }
        Ok((parts.len() - parts.iter().filter(blank).count()) as f64 == wanted)
    }))
}

/// The number of paragraphs and the first word of one of them.
pub(super) fn first_word<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    arguments.only(&["num_paragraphs", "nth_paragraph", "first_word"])?;
    let wanted = arguments.number("num_paragraphs")?;
    let nth = arguments.number("nth_paragraph")?;
    if nth > wanted {
        // lm_eval draws another paragraph at random.
        return Err(format!("the argument 'nth_paragraph' of '{}' is beyond 'num_paragraphs'", arguments.id));
    }
    let word = arguments.text("first_word")?.to_lowercase();
    Ok(Box::new(move |response| {
        let parts: Vec<&str> = response.split("\n\n").map(strip).collect();
        let count = parts.iter().filter(|part| !part.is_empty()).count() as f64;
        let part =
            parts.get((nth as usize).saturating_sub(1)).filter(|part| nth <= count && !part.is_empty());
        Ok(part.is_some_and(|part| first_word_of(part) == word) && count == wanted)
    }))
}

fn first_word_of(paragraph: &str) -> String {
    let word = words(paragraph).next().unwrap_or_default();
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let end = word.find(['.', ',', '?', '!', '\'', '"']).unwrap_or(word.len());
    word[..end].chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::follows;

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        let kwargs = json!({ "num_words": 3, "relation": "less than" });
        assert!(follows("length_constraints:number_words", kwargs.clone(), "one-two"));
        assert!(!follows("length_constraints:number_words", kwargs, "it's so"));
    }

    #[test]
    fn blank_outer_paragraphs_do_not_count_and_inner_ones_fail() {
        let two = |response| {
            follows("length_constraints:number_paragraphs", json!({ "num_paragraphs": 2 }), response)
        };
        assert!(two("a\n***\nb") && two("***\na\n***\nb\n***"));
        assert!(!two("a\n***\n\n***\nb") && !two("a"));
    }

    #[test]
    fn the_first_word_ends_at_punctuation() {
        let kwargs = json!({ "num_paragraphs": 2, "nth_paragraph": 2, "first_word": "It" });
        let follows =
            |response| follows("length_constraints:nth_paragraph_first_word", kwargs.clone(), response);
        assert!(follows("A.\n\n\"It's so.") && follows("A\n\nit b"));
        assert!(!follows("A\n\nb") && !follows("A\n\nit\n\nc") && !follows("A\n\n\n\nit"));
    }
}
