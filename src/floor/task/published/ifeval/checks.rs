//! The check of each instruction.

use super::super::text::strip;
use super::{Arguments, format, keywords, length};

/// Checks a response.
pub(super) type Check<'a> = Box<dyn Fn(&str) -> Result<bool, String> + 'a>;

/// The check of an instruction. Errors: an unknown one, one that needs a library of language models, wrong arguments.
pub(super) fn check<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    let needs =
        |what: &str| Err(format!("the instruction '{}' is not supported: needs {what}", arguments.id));
    match arguments.id {
        "keywords:existence" => keywords::existence(arguments),
        "keywords:frequency" => keywords::frequency(arguments),
        "keywords:forbidden_words" => keywords::forbidden(arguments),
        "keywords:letter_frequency" => keywords::letter_frequency(arguments),
        "length_constraints:number_paragraphs" => length::paragraphs(arguments),
        "length_constraints:number_words" => length::number_of_words(arguments),
        "length_constraints:nth_paragraph_first_word" => length::first_word(arguments),
        "detectable_content:number_placeholders" => format::placeholders(arguments),
        "detectable_content:postscript" => format::postscript(arguments),
        "detectable_format:number_bullet_lists" => format::bullets(arguments),
        "detectable_format:number_highlighted_sections" => format::highlights(arguments),
        "detectable_format:multiple_sections" => format::sections(arguments),
        "detectable_format:constrained_response" => plain(arguments, format::constrained),
        "detectable_format:json_format" => plain(arguments, format::json),
        "detectable_format:title" => plain(arguments, format::title),
        "combination:two_responses" => plain(arguments, two_responses),
        "combination:repeat_prompt" => repeated_prompt(arguments),
        "startend:end_checker" => end_phrase(arguments),
        "startend:quotation" => plain(arguments, quoted),
        "punctuation:no_comma" => plain(arguments, |response| !response.contains(',')),
        "language:response_language" | "change_case:english_capital" | "change_case:english_lowercase" => {
            needs("langdetect")
        }
        "length_constraints:number_sentences" | "change_case:capital_word_frequency" => needs("NLTK"),
        other => Err(format!("the instruction '{other}' is unknown")),
    }
}

/// A check without arguments.
fn plain<'a>(arguments: &Arguments<'a>, check: fn(&str) -> bool) -> Result<Check<'a>, String> {
    arguments.only(&[])?;
    Ok(Box::new(move |response| Ok(check(response))))
}

/// Two different non-blank parts around six asterisks; only the outer parts may be blank.
fn two_responses(response: &str) -> bool {
    let parts: Vec<&str> = response.split("******").map(strip).collect();
    let inner = parts.get(1..parts.len() - 1).unwrap_or_default();
    if inner.iter().any(|part| part.is_empty()) {
        return false;
    }
    let given: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    matches!(given[..], [first, second] if first != second)
}

fn repeated_prompt<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    arguments.only(&["prompt_to_repeat"])?;
    let prompt = strip(arguments.text("prompt_to_repeat")?).to_lowercase();
    Ok(Box::new(move |response| Ok(strip(response).to_lowercase().starts_with(&prompt))))
}

fn end_phrase<'a>(arguments: &'a Arguments<'a>) -> Result<Check<'a>, String> {
    arguments.only(&["end_phrase"])?;
    let phrase = strip(strip(arguments.text("end_phrase")?)).to_lowercase();
    Ok(Box::new(move |response| {
        Ok(strip(response).trim_matches('"').to_lowercase().ends_with(strip(&phrase)))
    }))
}

fn quoted(response: &str) -> bool {
    let response = strip(response);
    response.len() > 1 && response.starts_with('"') && response.ends_with('"')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::follows;

    #[test]
    fn two_responses_are_two_different_parts() {
        let two = |response| follows("combination:two_responses", json!({}), response);
        assert!(two("a\n******\nb") && two("******a******b"));
        assert!(!two("a******a") && !two("a") && !two("a******\n******b") && !two("a******b******c"));
    }

    #[test]
    fn the_prompt_and_the_end_phrase_ignore_case() {
        assert!(follows(
            "combination:repeat_prompt",
            json!({ "prompt_to_repeat": " Say Hi. " }),
            "say hi.\nHi."
        ));
        assert!(follows("startend:end_checker", json!({ "end_phrase": "The End." }), "\"So. the end.\""));
        assert!(!follows("startend:end_checker", json!({ "end_phrase": "The End." }), "The End!"));
    }

    #[test]
    fn a_quotation_has_two_marks() {
        let quoted = |response| follows("startend:quotation", json!({}), response);
        assert!(quoted(" \"a\" ") && !quoted("\"") && !quoted("\"a"));
    }
}
