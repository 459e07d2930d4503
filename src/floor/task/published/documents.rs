//! Row maps and filters of single suites.

use serde_json::{Value, json};

use super::Row;
use super::text::{
    capitalized, cleaned, integer, list, object, shown, strip, text, truthy, uncapitalized, value,
};

/// The row with columns added.
pub(super) fn with(row: &Row, columns: impl IntoIterator<Item = (&'static str, Value)>) -> Row {
    let mut made = row.clone();
    made.extend(columns.into_iter().map(|(name, value)| (name.to_owned(), value)));
    made
}

/// The position of an answer among letters from A.
fn answer_index(row: &Row, letters: usize) -> Result<usize, String> {
    let answer = text(row, "answer")?;
    let found = ["A", "B", "C", "D", "E", "F"][..letters].iter().position(|letter| *letter == answer);
    found.ok_or_else(|| format!("'answer' is '{answer}', none of the letters"))
}

/// MMLU-SR: the choices of four columns; an empty one is an empty string.
pub(super) fn mmlusr(row: &Row) -> Result<Row, String> {
    let or_empty = |column: &str| {
        let value = value(row, column)?;
        Ok::<Value, String>(if truthy(value) { value.clone() } else { json!("") })
    };
    let choices: Result<Vec<Value>, String> =
        ["choice1", "choice2", "choice3", "choice4"].iter().map(|column| or_empty(column)).collect();
    let answer = or_empty("answer")?;
    let answer = answer.as_str().ok_or("'answer' must be a string")?;
    Ok(with(row, [("choices", json!(choices?)), ("answer", json!(strip(answer)))]))
}

/// BIG-bench: only rows with choices.
pub(super) fn bigbench(row: &Row) -> Result<Option<Row>, String> {
    let kept = !list(row, "multiple_choice_targets")?.is_empty();
    Ok(kept.then(|| row.clone()))
}

/// EusExams: only rows with an answer and choices.
pub(super) fn eus_exams(row: &Row) -> Result<Option<Row>, String> {
    let answered =
        value(row, "answer")?.as_f64().is_some_and(|answer| [0.0, 1.0, 2.0, 3.0].contains(&answer));
    let kept = answered && *value(row, "candidates")? != json!(["", "", "", ""]);
    Ok(kept.then(|| row.clone()))
}

/// TMMLU+: four choices.
pub(super) fn tmmluplus(row: &Row) -> Result<Row, String> {
    let choices = [value(row, "A")?, value(row, "B")?, value(row, "C")?, value(row, "D")?];
    let columns = [
        ("questions", value(row, "question")?.clone()),
        ("choices", json!(choices)),
        ("goal", json!(answer_index(row, 4)?)),
    ];
    Ok(with(row, columns))
}

/// TMLU: four to six choices.
pub(super) fn tmlu(row: &Row) -> Result<Row, String> {
    let mut choices = vec![value(row, "A")?, value(row, "B")?, value(row, "C")?, value(row, "D")?];
    let mut letters = vec!["A", "B", "C", "D"];
    for letter in ["E", "F"] {
        if let Some(choice) = row.get(letter).filter(|choice| truthy(choice)) {
            choices.push(choice);
            letters.push(letter);
        }
    }
    let answer = text(row, "answer")?;
    let goal = letters.iter().position(|letter| *letter == answer);
    let goal = goal.ok_or_else(|| format!("'answer' is '{answer}', none of the letters"))?;
    let columns =
        [("questions", value(row, "question")?.clone()), ("choices", json!(choices)), ("goal", json!(goal))];
    Ok(with(row, columns))
}

/// Okapi's multilingual ARC: up to five cleaned choices.
pub(super) fn okapi_arc(row: &Row) -> Result<Row, String> {
    let mut choices = Vec::new();
    for column in ["option_a", "option_b", "option_c", "option_d", "option_e"] {
        if truthy(value(row, column)?) {
            choices.push(cleaned(text(row, column)?));
        }
    }
    value(row, "id")?;
    let query = format!("Question: {}\nAnswer:", cleaned(text(row, "instruction")?));
    let columns =
        [("query", json!(query)), ("choices", json!(choices)), ("gold", json!(answer_index(row, 5)?))];
    Ok(with(row, columns))
}

/// MLQA: the texts of the answers.
pub(super) fn mlqa(row: &Row) -> Result<Row, String> {
    for column in ["context", "question"] {
        value(row, column)?;
    }
    Ok(with(row, [("answers", value(object(row, "answers")?, "text")?.clone())]))
}

/// CSAT-QA: a reading question with five choices.
pub(super) fn csatqa(row: &Row) -> Result<Row, String> {
    let mut query = format!(
        "다음을 읽고 정답으로 알맞은 것을 고르시요.\n### Context: {}\n### Question: {}\n### Options:\n",
        shown(row, "context")?,
        shown(row, "question")?
    );
    for number in 1..=5 {
        query += &format!("({number}) {}\n", shown(row, &format!("option#{number}"))?);
    }
    query += "### Answer: 주어진 문제의 정답은";
    let columns = [
        ("question", json!(query)),
        ("choices", json!(["(1)", "(2)", "(3)", "(4)", "(5)"])),
        ("gold", json!(integer(row, "gold")? - 1)),
    ];
    Ok(with(row, columns))
}

/// Histoires morales: norm, situation and intention, each capitalized.
pub(super) fn histoires_morales(row: &Row) -> Result<Row, String> {
    let part = |column: &str| text(row, column).map(capitalized);
    let query = format!("{} {} {}", part("norm")?, part("situation")?, part("intention")?);
    let choices = [value(row, "moral_action")?, value(row, "immoral_action")?];
    Ok(with(row, [("query", json!(query)), ("choices", json!(choices)), ("label", json!(0))]))
}

/// DarijaHellaSwag: label, context and endings as they are.
pub(super) fn darija_hellaswag(row: &Row) -> Result<Row, String> {
    let query = format!("{}: {}", text(row, "activity_label")?, text(row, "ctx")?);
    let endings = value(row, "endings")?.clone();
    Ok(with(row, [("query", json!(query)), ("choices", endings), ("gold", json!(integer(row, "label")?))]))
}

/// PAWS-X: only pairs of sentences; both without the spaces between tokens, the second one starting lower.
pub(super) fn paws_x(row: &Row) -> Result<Option<Row>, String> {
    for column in ["sentence1", "sentence2"] {
        if matches!(value(row, column)?, Value::Null) || value(row, column)? == "" {
            return Ok(None);
        }
    }
    let first = detokenized(text(row, "sentence1")?);
    let first = strip(&first);
    let first = first.strip_suffix(['.', ',', ';']).unwrap_or(first);
    let second = uncapitalized(strip(&detokenized(text(row, "sentence2")?)));
    let second = second.ok_or("'sentence2' is blank")?;
    Ok(Some(with(row, [("sentence1", json!(first)), ("sentence2", json!(second))])))
}

/// Removes the spaces that a tokenizer puts around punctuation.
pub(super) fn detokenized(text: &str) -> String {
    let text = text.replace(" n't", "n't").replace(" )", ")").replace("( ", "(");
    let text = text.replace("\" ", "\"").replace(" \"", "\"");
    text.replace(" '", "'").replace(" .", ".").replace(" ,", ",")
}

/// Physics GRE: questions without an image and with a right answer.
pub(super) fn physics_gre(row: &Row) -> Result<Option<Row>, String> {
    if truthy(value(row, "has_image")?) || value(row, "target_scores")?.is_null() {
        return Ok(None);
    }
    let scores = object(row, "target_scores")?;
    let Some(gold) = scores.values().position(|score| score.as_f64() == Some(1.0)) else { return Ok(None) };
    let choices: Vec<&String> = scores.keys().collect();
    let input = json!(strip(text(row, "input")?));
    Ok(Some(with(row, [("input", input), ("choices", json!(choices)), ("gold", json!(gold))])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn an_empty_choice_is_an_empty_string() {
        let made = mmlusr(&row(
            json!({ "choice1": "a", "choice2": null, "choice3": "", "choice4": "d", "answer": " B" }),
        ));
        let made = made.unwrap();
        assert_eq!((&made["choices"], &made["answer"]), (&json!(["a", "", "", "d"]), &json!("B")));
    }

    #[test]
    fn rows_without_choices_or_answers_are_dropped() {
        assert_eq!(bigbench(&row(json!({ "multiple_choice_targets": [] }))), Ok(None));
        assert_eq!(eus_exams(&row(json!({ "answer": null, "candidates": ["a"] }))), Ok(None));
        assert_eq!(eus_exams(&row(json!({ "answer": 1, "candidates": ["", "", "", ""] }))), Ok(None));
        assert!(eus_exams(&row(json!({ "answer": 1, "candidates": ["a"] }))).unwrap().is_some());
    }

    #[test]
    fn a_fifth_choice_counts_if_it_is_given() {
        let made = tmlu(&row(
            json!({ "question": "Q", "A": "a", "B": "b", "C": "c", "D": "d", "E": "", "F": "f", "answer": "F" }),
        ));
        let made = made.unwrap();
        assert_eq!((&made["goal"], &made["choices"][4]), (&json!(4), &json!("f")));
    }

    #[test]
    fn a_paraphrase_starts_lower_and_the_first_sentence_has_no_end() {
        let made = paws_x(&row(json!({ "sentence1": "He ( 5 ) said . ", "sentence2": "Él no , did n't ." })));
        let made = made.unwrap().unwrap();
        assert_eq!(
            (&made["sentence1"], &made["sentence2"]),
            (&json!("He (5) said"), &json!("él no, didn't."))
        );
        assert_eq!(paws_x(&row(json!({ "sentence1": "", "sentence2": "a" }))), Ok(None));
    }

    #[test]
    fn the_right_answer_is_the_one_scored_1() {
        let question = json!({ "has_image": false, "input": " Q ", "target_scores": { "A": 0, "B": 1 } });
        let made = physics_gre(&row(question)).unwrap().unwrap();
        assert_eq!(
            (&made["gold"], &made["choices"], &made["input"]),
            (&json!(1), &json!(["A", "B"]), &json!("Q"))
        );
    }
}
