//! MMLU-Pro and its relatives: prompts with up to 16 options and worked answers as examples.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::Row;
use super::expression::constant;
use super::text::{list, shown, strings, strip, text, texts, value};
use crate::python::python_str;

const THINK: &str = "Answer: Let's think step by step.";

/// The letter of an option.
pub(super) fn letter(at: usize) -> Result<char, String> {
    let letter = u8::try_from(at).ok().and_then(|at| b'A'.checked_add(at)).filter(u8::is_ascii_uppercase);
    letter.map(char::from).ok_or_else(|| "'options' has more options than letters".to_owned())
}

/// The question and its options, the first `most` of them or an error if there are more.
fn question(row: &Row, most: usize, cut: bool) -> Result<String, String> {
    let options = texts(row, "options")?;
    if options.len() > most && !cut {
        return Err(format!("'options' has more than {most} options"));
    }
    let mut out = format!("Question:\n{}\nOptions:\n", text(row, "question")?);
    for (at, option) in options.iter().take(most).enumerate() {
        out += &format!("{}. {}\n", letter(at)?, strip(option));
    }
    Ok(out + THINK)
}

/// `mmlu_pro`: the prompt, of which at most 10 options are shown. Examples have the same.
pub(super) fn prompt(row: &Row) -> Result<Value, String> {
    Ok(json!(question(row, 10, true)?))
}

/// `mmlu-pro-plus`: the prompt, of at most 16 options.
pub(super) fn plus_prompt(row: &Row) -> Result<Value, String> {
    Ok(json!(question(row, 16, false)?))
}

/// The worked answer of an example, without its opening.
pub(super) fn example_target(row: &Row) -> Result<Value, String> {
    Ok(json!(text(row, "cot_content")?.replace("A: Let's think step by step. ", "")))
}

/// `llama3`: the worked answer of an example, with "the best answer".
pub(super) fn llama_target(row: &Row) -> Result<Value, String> {
    static ANSWER: LazyLock<Regex> = LazyLock::new(|| constant(r"The answer is \(([A-Z])\)\."));
    let worked = text(row, "cot_content")?;
    let worked = strip(worked.strip_prefix("A: Let's think step by step.").unwrap_or(worked));
    Ok(json!(ANSWER.replace_all(worked, "The best answer is $1.")))
}

/// `mmlu_prox`: the prompt in the language whose texts are the constant `language`.
pub(super) fn prox_prompt(constants: &Row, row: &Row) -> Result<Value, String> {
    let (prompt, texts) = prox_question(constants, row)?;
    Ok(json!(prompt + texts[2]))
}

/// `mmlu_prox`: an example, the question with its worked answer.
pub(super) fn prox_example(constants: &Row, row: &Row) -> Result<Value, String> {
    let (prompt, texts) = prox_question(constants, row)?;
    let worked = text(row, "cot_content")?.replace(texts[4], texts[2]);
    Ok(json!(format!("{prompt}{worked}\n\n")))
}

fn prox_question<'a>(constants: &'a Row, row: &Row) -> Result<(String, Vec<&'a str>), String> {
    let texts = strings(constants.get("language")).filter(|texts| texts.len() == 6);
    let texts = texts.ok_or("the language has no texts")?;
    let mut out = format!("{}\n{}\n{}\n", texts[0], text(row, "question")?, texts[1]);
    for at in 0..10 {
        let column = format!("option_{at}");
        if !value(row, &column)?.is_null() {
            out += &format!("{}. {}\n", letter(at)?, shown(row, &column)?);
        }
    }
    Ok((out, texts))
}

/// `leaderboard_mmlu_pro`: the question, its options and "Answer:".
pub(super) fn leaderboard_prompt(row: &Row) -> Result<Value, String> {
    let mut out = format!("{}\n", shown(row, "question")?);
    for (at, option) in list(row, "options")?.iter().enumerate() {
        out += &format!("{}. {}\n", letter(at)?, python_str(option));
    }
    Ok(json!(out + "Answer:"))
}

/// `leaderboard_mmlu_pro`: as many letters as options.
pub(super) fn leaderboard_choices(row: &Row) -> Result<Value, String> {
    let count = list(row, "options")?.len();
    let letters: Result<Vec<String>, String> = (0..count).map(|at| letter(at).map(String::from)).collect();
    Ok(json!(letters?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn options_are_stripped_and_cut_at_ten() {
        let options: Vec<String> = (0..11).map(|n| format!(" {n}")).collect();
        let row = row(
            json!({ "question": "Q", "options": options, "cot_content": "A: Let's think step by step. So." }),
        );
        let made = prompt(&row).unwrap();
        assert!(made.as_str().unwrap().starts_with("Question:\nQ\nOptions:\nA. 0\nB. 1\n"));
        assert!(made.as_str().unwrap().ends_with("J. 9\nAnswer: Let's think step by step."));
        assert!(plus_prompt(&row).unwrap().as_str().unwrap().contains("\nK. 10\n"));
        assert_eq!(example_target(&row), Ok(json!("So.")));
    }

    #[test]
    fn a_worked_answer_names_the_best() {
        let row = row(json!({ "cot_content": "A: Let's think step by step. So. The answer is (B)." }));
        assert_eq!(llama_target(&row), Ok(json!("So. The best answer is B.")));
    }

    #[test]
    fn a_language_has_its_own_words() {
        let constants =
            row(json!({ "language": ["Frage:", "Optionen:", "Antwort: Los.", "", "A: Los.", ""] }));
        let mut document = json!({ "question": "Q", "cot_content": "A: Los. So (A)." });
        for at in 0..10 {
            document[format!("option_{at}")] = if at == 1 { json!("x") } else { Value::Null };
        }
        let document = row(document);
        assert_eq!(
            prox_prompt(&constants, &document),
            Ok(json!("Frage:\nQ\nOptionen:\nB. x\nAntwort: Los."))
        );
        assert_eq!(
            prox_example(&constants, &document),
            Ok(json!("Frage:\nQ\nOptionen:\nB. x\nAntwort: Los. So (A).\n\n"))
        );
        assert_eq!(prox_prompt(&constants, &Row::new()), Err("'question' must be a string".to_owned()));
    }
}
