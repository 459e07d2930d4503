//! MMLU in Arabic dialects and Greek: prompts that name the subject and list lettered options.

use serde_json::{Value, json};

use super::Row;
use super::documents::with;
use super::mmlu_pro::letter;
use super::text::{list, object, shown, text, truthy, value};
use crate::python::python_str;

/// The question, after its context if it has one. `blank` says that only an empty string is no context.
fn in_context(row: &Row, context: &str, question: &str, blank: bool) -> Result<String, String> {
    let found = value(row, context)?;
    let absent = if blank { *found == json!("") } else { !truthy(found) };
    let question = shown(row, question)?;
    Ok(if absent { question } else { format!("{}\n\n{question}", python_str(found)) })
}

/// The choices, each after its letter.
fn lettered(row: &Row, letters: &[&str]) -> Result<String, String> {
    let choices = list(row, "choices")?;
    if choices.len() > letters.len() {
        return Err(format!("'choices' has more than {} choices", letters.len()));
    }
    let line = |(letter, choice): (&&str, &Value)| format!("{letter}. {}", python_str(choice));
    Ok(letters.iter().zip(choices).map(line).collect::<Vec<_>>().join("\n"))
}

/// As many letters as choices.
fn first_letters(row: &Row, letters: &[&str]) -> Result<Value, String> {
    let count = list(row, "choices")?.len();
    letters
        .get(..count)
        .map(|letters| json!(letters))
        .ok_or_else(|| format!("'choices' has more than {} choices", letters.len()))
}

const LATIN: [&str; 5] = ["A", "B", "C", "D", "E"];
const GREEK: [&str; 4] = ["Α", "Β", "Γ", "Δ"];

/// GreekMMLU: the prompt, with the subject's Greek name from the constant `subjects_gr`.
pub(super) fn greek_prompt(constants: &Row, row: &Row) -> Result<Value, String> {
    let names = object(constants, "subjects_gr")?;
    let subject = shown(row, "subject")?;
    let subject = names.get(&subject).and_then(Value::as_str).unwrap_or(&subject);
    let (question, choices) = (shown(row, "question")?, lettered(row, &GREEK)?);
    Ok(json!(format!(
        "Αυτό είναι μια ερώτηση {subject}. Επίλεξε τη σωστή απάντηση!\n\nΕρώτηση: {question}\n{choices}\n\n Απάντηση:"
    )))
}

/// GreekMMLU: Greek letters.
pub(super) fn greek_choices(row: &Row) -> Result<Value, String> {
    first_letters(row, &GREEK)
}

/// DarijaMMLU and EgyMMLU: Latin letters.
pub(super) fn latin_choices(row: &Row) -> Result<Value, String> {
    first_letters(row, &LATIN)
}

/// DarijaMMLU: the prompt.
pub(super) fn darija_prompt(row: &Row) -> Result<Value, String> {
    let (subject, choices) = (shown(row, "subject_darija")?, lettered(row, &LATIN)?);
    let question = in_context(row, "context", "question", true)?;
    Ok(json!(format!(
        "هادا سؤال متعدد الخيارات (مع الجواب ديالو) على {subject}\n\n{question}\n{choices}\nالجواب:"
    )))
}

/// EgyMMLU: the prompt.
pub(super) fn egyptian_prompt(row: &Row) -> Result<Value, String> {
    let (subject, choices) = (shown(row, "egy_subject")?, lettered(row, &LATIN)?);
    let question = in_context(row, "context", "question", true)?;
    Ok(json!(format!("ده سؤال متعدد الاختيار (مع إجابته) على {subject}\n\n{question}\n{choices}\n الجواب:")))
}

/// ArabicMMLU: the prompt with level and country.
pub(super) fn arabic_prompt(row: &Row) -> Result<Value, String> {
    let level = match value(row, "Level")? {
        absent if !truthy(absent) => "",
        level => match level.as_str() {
            Some("Primary") => " for primary school",
            Some("Middle") => " for middle school",
            Some("High") => " for high school",
            Some("Univ") => " for university",
            Some("Prof") => " for professional",
            _ => return Err(format!("'Level' is '{}', none of the levels", python_str(level))),
        },
    };
    let country = value(row, "Country")?;
    let country = if truthy(country) { format!(" in {}", python_str(country)) } else { String::new() };
    let question = in_context(row, "Context", "Question", false)?;
    let mut options = Vec::new();
    for (at, letter) in LATIN.iter().enumerate() {
        let column = format!("Option {}", at + 1);
        if !truthy(value(row, &column)?) {
            break;
        }
        options.push(format!("{letter}. {}", shown(row, &column)?));
    }
    let subject = shown(row, "Subject")?;
    Ok(json!(format!(
        "This is a {subject} question{level}{country}. Select the correct answer!\n\nQuestion: {question}\n{}\n\nAnswer:",
        options.join("\n")
    )))
}

/// ArabicMMLU: the letters of the options given.
pub(super) fn arabic_choices(row: &Row) -> Result<Value, String> {
    let mut letters = Vec::new();
    for at in 0..5 {
        if truthy(value(row, &format!("Option {}", at + 1))?) {
            letters.push(letter(at)?.to_string());
        }
    }
    Ok(json!(letters))
}

/// A dialect of AraDiCE's ArabicMMLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Egyptian,
    Levantine,
}

/// AraDiCE ArabicMMLU: the prompt, the letters of the options and the position of the answer. The names of subject,
/// level and country are the constants `subject_ar`, `level_ar` and `country_ar`.
pub(super) fn dialect_document(constants: &Row, row: &Row, dialect: Dialect) -> Result<Row, String> {
    let name = |constant: &str, column: &str| {
        let found = object(constants, constant)?.get(text(row, column)?).and_then(Value::as_str);
        found.ok_or_else(|| format!("'{column}' has no name in {constant}"))
    };
    let mut described = name("subject_ar", "Subject")?.to_owned();
    for (constant, column) in [("level_ar", "Level"), ("country_ar", "Country")] {
        if truthy(value(row, column)?) {
            described += &format!(" {}", name(constant, column)?);
        }
    }
    let letters = ["أ", "ب", "ج", "د", "و"];
    let given = object(row, "options")?;
    let mut options = Vec::new();
    for (latin, letter) in LATIN.iter().zip(letters) {
        match given.get(*latin) {
            None | Some(Value::Null) => break,
            Some(option) => options.push(format!("{letter}- {}", python_str(option))),
        }
    }
    let answer = text(row, "Answer Key")?;
    let target = LATIN.iter().position(|letter| *letter == answer);
    let target = target.ok_or_else(|| format!("'Answer Key' is '{answer}', none of the letters"))?;
    let (before, after, answer) = match dialect {
        Dialect::Egyptian => ("ده سؤال ", ". اختار الإجابة الصحيحة!\n\nسؤال: ", "\n\nإجابة:"),
        Dialect::Levantine => ("هيدا سؤال ", ". نقي الجواب الصح!\n\nسؤال: ", "\n\nالجواب:"),
    };
    // The published function fills in one after the other, so a question may itself hold the mark of the options.
    let filled = format!("{before}[MAIN_META_DATA]{after}[INPUT]\n[OPTION]{answer}")
        .replace("[MAIN_META_DATA]", &described)
        .replace("[INPUT]", &in_context(row, "context", "question", false)?)
        .replace("[OPTION]", &options.join("\n"));
    let choices = &letters[..options.len()];
    Ok(with(row, [("prompt", json!(filled)), ("choices", json!(choices)), ("target", json!(target))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_greek_subject_has_its_greek_name() {
        let constants = row(json!({ "subjects_gr": { "Law": "Νομικής" } }));
        let document = row(json!({ "subject": "Law", "question": "Q", "choices": ["a", "b"] }));
        assert_eq!(
            greek_prompt(&constants, &document).unwrap(),
            "Αυτό είναι μια ερώτηση Νομικής. Επίλεξε τη σωστή απάντηση!\n\nΕρώτηση: Q\nΑ. a\nΒ. b\n\n Απάντηση:"
        );
        assert_eq!(greek_choices(&document), Ok(json!(["Α", "Β"])));
    }

    #[test]
    fn options_end_at_the_first_empty_one() {
        let document = row(json!({
            "Subject": "Law", "Level": "Univ", "Country": null, "Context": "", "Question": "Q",
            "Option 1": "a", "Option 2": "b", "Option 3": null, "Option 4": "d", "Option 5": null,
        }));
        assert_eq!(
            arabic_prompt(&document).unwrap(),
            "This is a Law question for university. Select the correct answer!\n\nQuestion: Q\nA. a\nB. b\n\nAnswer:"
        );
        assert_eq!(arabic_choices(&document), Ok(json!(["A", "B", "D"])));
    }

    #[test]
    fn a_dialect_describes_the_question() {
        let constants =
            row(json!({ "subject_ar": { "Law": "S" }, "level_ar": { "High": "L" }, "country_ar": {} }));
        let document = row(json!({
            "Subject": "Law", "Level": "High", "Country": null, "context": "C", "question": "Q",
            "options": { "A": "a", "B": "b", "C": null, "D": "d" }, "Answer Key": "B",
        }));
        let made = dialect_document(&constants, &document, Dialect::Levantine).unwrap();
        assert_eq!(made["prompt"], "هيدا سؤال S L. نقي الجواب الصح!\n\nسؤال: C\n\nQ\nأ- a\nب- b\n\nالجواب:");
        assert_eq!((&made["choices"], &made["target"]), (&json!(["أ", "ب"]), &json!(1)));
    }
}
