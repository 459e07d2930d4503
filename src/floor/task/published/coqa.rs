//! CoQA: the story with its earlier turns, and scores against several golds.

use serde_json::{Value, json};

use super::squad;
use super::text::{answer, object, strings, strip, text, truthy};
use super::{Row, Scores};

/// The turns' strings of a column with `input_text`.
fn turns<'a>(row: &'a Row, column: &str) -> Result<Vec<&'a str>, String> {
    let turns = strings(object(row, column)?.get("input_text"));
    turns.ok_or_else(|| format!("'{column}' must have a list of strings 'input_text'"))
}

/// The prompt: the story, all turns with their answers, the last question without its answer.
pub(super) fn prompt(row: &Row) -> Result<Value, String> {
    let (questions, answers) = (turns(row, "questions")?, turns(row, "answers")?);
    let earlier = &answers[..answers.len().saturating_sub(1)];
    let mut out = format!("{}\n\n", text(row, "story")?);
    for turn in 0..questions.len().max(earlier.len()) {
        // lm_eval pairs turns to the longer of the two and prints a missing question as None.
        out += &format!("Q: {}\n\n", questions.get(turn).unwrap_or(&"None"));
        match earlier.get(turn) {
            Some(answer) => out += &format!("A: {answer}\n\n"),
            None => out += "A:",
        }
    }
    Ok(json!(out))
}

/// The answers to the last question: the given one, then the additional ones that differ in more than case.
pub(super) fn golds(row: &Row) -> Result<Vec<String>, String> {
    let last = turns(row, "questions")?.len().checked_sub(1).ok_or("'questions' is empty")?;
    let missing = |column: &str| format!("'{column}' has no answer to the last question");
    let first = turns(row, "answers")?.get(last).copied().ok_or_else(|| missing("answers"))?;
    let mut golds = vec![first.to_owned()];
    let Some(additional) = row.get("additional_answers").filter(|value| truthy(value)) else {
        return Ok(golds);
    };
    let additional = additional.as_object().ok_or("'additional_answers' must be a mapping")?;
    for key in additional.keys() {
        let turns = turns(additional, key).map_err(|error| format!("in 'additional_answers', {error}"))?;
        let other = turns.get(last).ok_or_else(|| missing("additional_answers"))?;
        if golds.iter().all(|gold| gold.to_lowercase() != other.to_lowercase()) {
            golds.push((*other).to_owned());
        }
    }
    Ok(golds)
}

/// SQuAD scores of the answer's first line. With several golds: the mean, over each gold left out, of the best score
/// against the others.
pub(super) fn scores(row: &Row, answers: &[Value]) -> Result<Scores, String> {
    let golds = golds(row)?;
    let predicted = strip(answer(answers)?).split('\n').next().unwrap_or_default();
    let (mut em, mut f1) = (0.0, 0.0);
    for left_out in 0..golds.len() {
        let others = golds.iter().enumerate().filter(|(n, _)| *n != left_out || golds.len() == 1);
        let (mut best_em, mut best_f1) = (0, 0.0_f64);
        for (_, gold) in others {
            best_em = best_em.max(squad::exact(gold, predicted));
            best_f1 = best_f1.max(squad::f1(gold, predicted));
        }
        em += best_em as f64;
        f1 += best_f1;
    }
    let count = golds.len() as f64;
    Ok(vec![("em", json!(em / count)), ("f1", json!(f1 / count))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let row = json!({
            "story": "A cat sat.",
            "questions": { "input_text": ["Who?", "Where?"] },
            "answers": { "input_text": ["a cat", "on the mat"] },
            "additional_answers": {
                "0": { "input_text": ["cat", "On The Mat"] },
                "1": { "input_text": ["cat", "a mat"] },
            },
        });
        row.as_object().unwrap().clone()
    }

    #[test]
    fn the_last_question_has_no_answer() {
        let prompt = prompt(&row()).unwrap();
        assert_eq!(prompt, "A cat sat.\n\nQ: Who?\n\nA: a cat\n\nQ: Where?\n\nA:");
    }

    #[test]
    fn golds_that_differ_in_case_only_are_one() {
        assert_eq!(golds(&row()).unwrap(), ["on the mat", "a mat"]);
    }

    #[test]
    fn each_gold_is_left_out_once() {
        let scores = scores(&row(), &[json!(" mat\non the mat")]).unwrap();
        assert_eq!(scores, [("em", json!(0.5)), ("f1", json!((2.0 / 3.0 + 1.0) / 2.0))]);
    }
}
