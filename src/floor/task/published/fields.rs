//! Prompts, targets and choices of single suites.

use serde_json::{Value, json};

use super::Row;
use super::text::{list, object, shown, strip, text, texts, uncapitalized, value};
use crate::python::{is_space, parse_literal, python_str};

/// MNLI: premise and hypothesis, which ends with a full stop.
pub(super) fn mnli_prompt(row: &Row) -> Result<Value, String> {
    let hypothesis = strip(text(row, "hypothesis")?);
    let stop = if hypothesis.ends_with('.') { "" } else { "." };
    let premise = shown(row, "premise")?;
    Ok(json!(format!("{premise}\nQuestion: {hypothesis}{stop} True, False or Neither?\nAnswer:")))
}

/// MuSR: narrative, question and numbered choices.
pub(super) fn musr_prompt(row: &Row) -> Result<Value, String> {
    let choices = parse_literal(text(row, "choices")?);
    let choices = choices.as_ref().and_then(Value::as_array).ok_or("'choices' must be a Python list")?;
    let lines: String = choices
        .iter()
        .enumerate()
        .map(|(at, choice)| format!("{} - {}\n", at + 1, python_str(choice)))
        .collect();
    let (narrative, question) = (shown(row, "narrative")?, shown(row, "question")?);
    Ok(json!(format!("{narrative}\n\n{question}\n\n{lines}\nAnswer:")))
}

/// XCOPA: the premise without its full stop and the language's connector, from the constant `connector`.
pub(super) fn xcopa_prompt(constants: &Row, row: &Row) -> Result<Value, String> {
    let question = text(row, "question")?;
    let connector = object(constants, "connector")?.get(question).and_then(Value::as_str);
    let connector =
        connector.ok_or_else(|| format!("'question' is '{question}', neither cause nor effect"))?;
    let premise = strip(text(row, "premise")?);
    let end = premise.char_indices().next_back().map_or(0, |(at, _)| at);
    Ok(json!(format!("{} {connector}", &premise[..end])))
}

/// XCOPA: the two choices, starting lower.
pub(super) fn xcopa_choices(row: &Row) -> Result<Value, String> {
    let choice =
        |column: &str| uncapitalized(text(row, column)?).ok_or_else(|| format!("'{column}' is empty"));
    Ok(json!([choice("choice1")?, choice("choice2")?]))
}

/// The sentence before and after its blank.
fn gap(row: &Row) -> Result<(&str, &str), String> {
    text(row, "sentence")?.split_once('_').ok_or_else(|| "'sentence' has no gap".to_owned())
}

/// XWinograd: the number of the right context.
pub(super) fn winograd_text(row: &Row) -> Result<Value, String> {
    match text(row, "answer")? {
        "1" => Ok(json!(0)),
        "2" => Ok(json!(1)),
        other => Err(format!("'answer' is '{other}', neither 1 nor 2")),
    }
}

/// XWinograd: what follows the blank.
pub(super) fn winograd_target(row: &Row) -> Result<Value, String> {
    Ok(json!(strip(gap(row)?.1)))
}

/// XWinograd: the two contexts.
pub(super) fn winograd_choices(row: &Row) -> Result<Value, String> {
    let before = gap(row)?.0;
    let context = |column: &str| Ok::<String, String>(format!("{before}{}", text(row, column)?));
    Ok(json!([context("option1")?, context("option2")?]))
}

/// Paloma: the column `text`.
pub(super) fn page(row: &Row) -> Result<Value, String> {
    Ok(json!(shown(row, "text")?))
}

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// IndicParam: the question and four options.
pub(super) fn indic_prompt(row: &Row) -> Result<Value, String> {
    let mut out = format!("Question: {}\n", shown(row, "question_text")?);
    for (letter, column) in LETTERS.iter().zip(["option_a", "option_b", "option_c", "option_d"]) {
        out += &format!("{letter}. {}\n", shown(row, column)?);
    }
    Ok(json!(out + "Answer:"))
}

/// IndicParam: four letters.
pub(super) fn indic_choices(_: &Row) -> Result<Value, String> {
    Ok(json!(LETTERS))
}

/// IndicParam: the position of the right letter.
pub(super) fn indic_target(row: &Row) -> Result<Value, String> {
    let answer = text(row, "correct_answer")?.to_uppercase();
    let found = LETTERS.iter().position(|letter| *letter == answer);
    found.map(|at| json!(at)).ok_or_else(|| format!("'correct_answer' is '{answer}', none of the letters"))
}

/// ArabCulture: the statement with its three options in English, as lm_eval prompts unless environment variables of
/// its process say otherwise. The wording is the constant `BASE_PROMPT`.
pub(super) fn culture_prompt(constants: &Row, row: &Row) -> Result<Value, String> {
    let options = object(row, "options")?;
    let (keys, options) = (texts(options, "english_keys")?, texts(options, "text")?);
    let mut choices = String::new();
    for at in 0..3 {
        let (Some(key), Some(option)) = (keys.get(at), options.get(at)) else {
            return Err("'options' has fewer than 3 options".to_owned());
        };
        choices += &format!("{key}. {}\n", strip(option));
    }
    filled_culture_prompt(constants, row, &choices)
}

/// ArabCulture with completions: the statement alone.
pub(super) fn culture_completion_prompt(constants: &Row, row: &Row) -> Result<Value, String> {
    filled_culture_prompt(constants, row, "")
}

fn filled_culture_prompt(constants: &Row, row: &Row, choices: &str) -> Result<Value, String> {
    // The published function reads both before it knows whether it needs them.
    value(row, "country")?;
    value(row, "region")?;
    let prompt = text(constants, "BASE_PROMPT")?;
    let (before, after) = prompt.split_once("{first_statement}").ok_or("the prompt has no statement")?;
    let statement = strip(text(row, "first_statement")?);
    Ok(json!(format!("{before}{statement}{}", after.replace("{choices}", choices))))
}

/// ArabCulture: the English letters.
pub(super) fn culture_choices(row: &Row) -> Result<Value, String> {
    value(object(row, "options")?, "english_keys").cloned()
}

/// ArabCulture: the right English letter.
pub(super) fn culture_target(row: &Row) -> Result<Value, String> {
    Ok(json!(strip(text(object(row, "answer_key")?, "english_answer_key")?)))
}

/// ArabCulture with completions: the options' texts.
pub(super) fn culture_completions(row: &Row) -> Result<Value, String> {
    value(object(row, "options")?, "text").cloned()
}

/// ArabCulture with completions: the right option's text.
pub(super) fn culture_completion_target(row: &Row) -> Result<Value, String> {
    let answer = text(object(row, "answer_key")?, "english_answer_key")?;
    let options = object(row, "options")?;
    let at = texts(options, "english_keys")?.iter().position(|key| *key == answer);
    let options = texts(options, "text")?;
    let option = at.and_then(|at| options.get(at));
    option.map(|option| json!(strip(option))).ok_or_else(|| "'answer_key' is not in 'options'".to_owned())
}

/// The choices of an OpenBookQA question.
fn openbook_parts(row: &Row, part: &str) -> Result<Vec<String>, String> {
    let choices = list(object(row, "question")?, "choices")?;
    let parts: Option<Vec<String>> =
        choices.iter().map(|choice| Some(choice.get(part)?.as_str()?.to_owned())).collect();
    parts.ok_or_else(|| format!("'question' must have choices with a string '{part}'"))
}

/// AraDiCE OpenBookQA: the question.
pub(super) fn openbook_prompt(row: &Row) -> Result<Value, String> {
    Ok(json!(strip(text(object(row, "question")?, "stem")?)))
}

/// AraDiCE OpenBookQA: the choices.
pub(super) fn openbook_choices(row: &Row) -> Result<Value, String> {
    Ok(json!(openbook_parts(row, "text")?))
}

/// AraDiCE OpenBookQA: the position of the right label.
pub(super) fn openbook_target(row: &Row) -> Result<Value, String> {
    let key = text(row, "answerKey")?.trim_start_matches(is_space);
    let at = openbook_parts(row, "label")?.iter().position(|label| label == key);
    at.map(|at| json!(at)).ok_or_else(|| "'answerKey' is not in 'question'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_hypothesis_ends_with_a_full_stop() {
        let pair = row(json!({ "premise": "A", "hypothesis": " B " }));
        assert_eq!(mnli_prompt(&pair).unwrap(), "A\nQuestion: B. True, False or Neither?\nAnswer:");
    }

    #[test]
    fn choices_of_a_mystery_are_numbered() {
        let mystery = row(json!({ "narrative": "N", "question": "Q", "choices": "['x', 'y']" }));
        assert_eq!(musr_prompt(&mystery).unwrap(), "N\n\nQ\n\n1 - x\n2 - y\n\nAnswer:");
    }

    #[test]
    fn a_premise_is_connected_in_its_language() {
        let constants = row(json!({ "connector": { "cause": "perché", "effect": "quindi" } }));
        let document =
            row(json!({ "premise": "Piove. ", "question": "effect", "choice1": "Ada", "choice2": "Èva" }));
        assert_eq!(xcopa_prompt(&constants, &document).unwrap(), "Piove quindi");
        assert_eq!(xcopa_choices(&document).unwrap(), json!(["ada", "èva"]));
        assert!(xcopa_prompt(&constants, &row(json!({ "question": "why" }))).is_err());
    }

    #[test]
    fn a_culture_prompt_has_its_options() {
        let constants = row(json!({ "BASE_PROMPT": "S: {first_statement}\n{choices}!" }));
        let options = json!({ "english_keys": ["A", "B", "C"], "text": [" x", "y ", "z"] });
        let key = json!({ "english_answer_key": "B" });
        let document = row(
            json!({ "country": "", "region": "", "first_statement": "a ", "options": options, "answer_key": key }),
        );
        assert_eq!(culture_prompt(&constants, &document).unwrap(), "S: a\nA. x\nB. y\nC. z\n!");
        assert_eq!(culture_completion_target(&document).unwrap(), "y");
    }

    #[test]
    fn an_indic_answer_is_a_position() {
        assert_eq!(indic_target(&row(json!({ "correct_answer": "c" }))).unwrap(), 2);
        assert!(indic_target(&row(json!({ "correct_answer": "e" }))).is_err());
    }
}
