//! Documents whose choices are shuffled: GPQA and the Arabic SciQ.

use serde_json::{Value, json};

use super::Row;
use super::documents::with;
use super::text::{cleaned, shown, strip, text, value};
use crate::python::PythonRandom;

/// A variant of GPQA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gpqa {
    /// Zero-shot and few-shot.
    Plain,
    /// With chain of thought: a column `choices` as well.
    WithChoices,
    /// The leaderboard's: without what stands in brackets.
    Cleaned,
}

/// The seed of lm_eval's global generator. It is exact if nothing else draws from it before the documents are read.
pub(super) const GLOBAL_SEED: u64 = 0;
/// The seed of the few-shot tasks' generator.
pub(super) const N_SHOT_SEED: u64 = 42;

/// GPQA: each row with its choices in the generator's order and the letter of the right one.
pub(super) fn gpqa(rows: &[Row], variant: Gpqa, seed: u64) -> Result<Vec<Row>, String> {
    let mut random = PythonRandom::new(seed);
    rows.iter().map(|row| gpqa_row(row, variant, &mut random)).collect()
}

fn gpqa_row(row: &Row, variant: Gpqa, random: &mut PythonRandom) -> Result<Row, String> {
    let choice = |column: &str| -> Result<String, String> {
        if value(row, column)?.is_null() {
            return Ok(" ".to_owned());
        }
        let text = text(row, column)?;
        Ok(match variant {
            Gpqa::Cleaned => cleaned(text),
            Gpqa::Plain | Gpqa::WithChoices => strip(text).replace(" [title]", ". ").replace("  ", " "),
        })
    };
    let correct = choice("Correct Answer")?;
    let mut choices = vec![
        choice("Incorrect Answer 1")?,
        choice("Incorrect Answer 2")?,
        choice("Incorrect Answer 3")?,
        correct.clone(),
    ];
    random.shuffle(&mut choices);
    let at = choices.iter().position(|choice| *choice == correct).unwrap_or_default();
    let columns =
        ["choice1", "choice2", "choice3", "choice4"].into_iter().zip(choices.iter().map(|c| json!(c)));
    let mut made = with(row, columns);
    if variant == Gpqa::WithChoices {
        made.insert("choices".to_owned(), json!(choices));
    }
    made.insert("answer".to_owned(), json!(format!("({})", ["A", "B", "C", "D"][at])));
    Ok(made)
}

/// Arabic SciQ: each row with a prompt, its choices in the generator's order and the position of the right one.
pub(super) fn arabic_sciq(rows: &[Row]) -> Result<Vec<Row>, String> {
    let mut random = PythonRandom::new(GLOBAL_SEED);
    let document = |row: &Row| {
        let correct = value(row, "correct_answer")?;
        let mut choices: Vec<Value> = Vec::new();
        for column in ["distractor1", "distractor2", "distractor3"] {
            choices.push(value(row, column)?.clone());
        }
        choices.push(correct.clone());
        random.shuffle(&mut choices);
        let at = choices.iter().position(|choice| choice == correct).unwrap_or_default();
        let query = format!(
            "بناءً على السياق أدناه، اختر الإجابة الصحيحة للسؤال التالي من قائمة الاقتراحات\n    السياق:\n    {}\n    السؤال:\n    {}\n    الإجابات المحتملة:\n\n    ",
            shown(row, "support")?,
            shown(row, "question")?
        );
        Ok(with(row, [("query", json!(query)), ("choices", json!(choices)), ("gold", json!(at))]))
    };
    rows.iter().map(document).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions() -> Vec<Row> {
        let row = json!({
            "Correct Answer": "d [title]x", "Incorrect Answer 1": "a", "Incorrect Answer 2": null,
            "Incorrect Answer 3": " c [e]",
        });
        vec![row.as_object().unwrap().clone(); 3]
    }

    #[test]
    fn choices_are_in_the_order_of_pythons_generator() {
        // random.seed(0), then the published function on three rows.
        let made = gpqa(&questions(), Gpqa::Plain, GLOBAL_SEED).unwrap();
        let answers: Vec<&Value> = made.iter().map(|row| &row["answer"]).collect();
        assert_eq!(answers, ["(D)", "(C)", "(D)"]);
        assert_eq!((&made[0]["choice4"], made[0].contains_key("choices")), (&json!("d. x"), false));
    }

    #[test]
    fn the_leaderboard_removes_brackets() {
        let made = gpqa(&questions(), Gpqa::Cleaned, GLOBAL_SEED).unwrap();
        let choices: Vec<&Value> =
            ["choice1", "choice2", "choice3", "choice4"].iter().map(|c| &made[0][*c]).collect();
        assert!(choices.contains(&&json!("c ")) && choices.contains(&&json!(" ")));
    }
}
