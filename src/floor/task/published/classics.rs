//! Prompts, targets and choices of single well-known tasks, and ReCoRD's scores.

use serde_json::{Value, json};

use super::documents::{detokenized, with};
use super::likelihood::{argmax, of_choices};
use super::text::{integer, list, shown, strip, text, texts, value, words};
use super::{Row, Scores, squad};
use crate::python::{is_space, python_str};

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// A line for each option, at most four.
fn lettered<'a>(options: impl IntoIterator<Item = &'a Value>) -> String {
    LETTERS
        .iter()
        .zip(options)
        .map(|(letter, option)| format!("{letter}. {}\n", python_str(option)))
        .collect()
}

/// The columns' values in order.
fn columns<'a>(row: &'a Row, names: [&str; 4]) -> Result<Vec<&'a Value>, String> {
    names.iter().map(|name| value(row, name)).collect()
}

/// LogiQA: passage, question and choices.
pub(super) fn logiqa_prompt(row: &Row) -> Result<Value, String> {
    let (passage, question) = (text(row, "context")?, text(row, "question")?);
    let options = lettered(list(row, "options")?);
    Ok(json!(format!("Passage: {passage}\nQuestion: {question}\nChoices:\n{options}Answer:")))
}

/// LogiQA: the position of the right letter.
pub(super) fn logiqa_target(row: &Row) -> Result<Value, String> {
    let label = strip(text(row, "label")?);
    let found = ["a", "b", "c", "d"].iter().position(|letter| *letter == label);
    found.map(|at| json!(at)).ok_or_else(|| format!("'label' is '{label}', none of a to d"))
}

/// LogiQA 2: as [`logiqa_prompt`], without the heading of the choices.
pub(super) fn logiqa2_prompt(row: &Row) -> Result<Value, String> {
    let (passage, question) = (text(row, "text")?, text(row, "question")?);
    let options = lettered(list(row, "options")?);
    Ok(json!(format!("Passage: {passage}\nQuestion: {question}\n{options}Answer:")))
}

/// MedMCQA: question and choices.
pub(super) fn medmcqa_prompt(row: &Row) -> Result<Value, String> {
    let options = lettered(columns(row, ["opa", "opb", "opc", "opd"])?);
    Ok(json!(format!("Question: {}\nChoices:\n{options}Answer:", text(row, "question")?)))
}

/// MedQA: question and choices.
pub(super) fn medqa_prompt(row: &Row) -> Result<Value, String> {
    let options = lettered(columns(row, ["ending0", "ending1", "ending2", "ending3"])?);
    Ok(json!(format!("Question: {}\n{options}Answer:", shown(row, "sent1")?)))
}

/// MedQA: the label.
pub(super) fn medqa_target(row: &Row) -> Result<Value, String> {
    value(row, "label").cloned()
}

/// PubMedQA: the abstract and the question.
pub(super) fn pubmedqa_prompt(row: &Row) -> Result<Value, String> {
    let (contexts, question) = (texts(row, "CONTEXTS")?.join("\n"), shown(row, "QUESTION")?);
    Ok(json!(format!("Abstract: {contexts}\nQuestion: {question}\nAnswer:")))
}

/// MathQA: the choices of one string, such as "a ) 1 , b ) 2 , …".
pub(super) fn mathqa_choices(row: &Row) -> Result<Value, String> {
    let regex = super::expression::python_regex(r"[abcd] \) .*?, |e \) .*?$", "")?;
    let choice = |found: super::expression::Found| match found {
        // The letter and its parenthesis are 4 ASCII characters.
        super::expression::Found::Text(text) => text[4..].trim_end_matches([' ', ',']).to_owned(),
        super::expression::Found::Groups(groups) => groups.concat(),
    };
    let found = super::expression::find_all(&regex, text(row, "options")?)?;
    Ok(json!(found.into_iter().map(choice).collect::<Vec<_>>()))
}

/// ToxiGen: whether both ratings exceed 5.5 together.
pub(super) fn toxigen_target(row: &Row) -> Result<Value, String> {
    let rating =
        |column: &str| value(row, column)?.as_f64().ok_or_else(|| format!("'{column}' must be a number"));
    Ok(json!(i64::from(rating("toxicity_ai")? + rating("toxicity_human")? > 5.5)))
}

/// WebQuestions: the sorted answers without those that start with the one kept before.
fn without_prefixed(row: &Row) -> Result<Vec<&str>, String> {
    let mut answers = texts(row, "answers")?;
    answers.sort_unstable();
    let mut kept: Vec<&str> = Vec::new();
    for answer in answers {
        if kept.last().is_none_or(|last| !answer.starts_with(last)) {
            kept.push(answer);
        }
    }
    if kept.is_empty() { Err("'answers' is empty".to_owned()) } else { Ok(kept) }
}

/// WebQuestions: the accepted answers.
pub(super) fn webqs_choices(row: &Row) -> Result<Value, String> {
    Ok(json!(without_prefixed(row)?))
}

/// WebQuestions: the positions of all choices.
pub(super) fn webqs_target(row: &Row) -> Result<Value, String> {
    Ok(json!((0..without_prefixed(row)?.len()).collect::<Vec<_>>()))
}

/// WSC: the passage with its pronoun marked, and the question.
pub(super) fn wsc_prompt(row: &Row) -> Result<Value, String> {
    let passage = text(row, "text")?;
    let (noun, pronoun) = (text(row, "span1_text")?, text(row, "span2_text")?);
    let before = usize::try_from(integer(row, "span2_index")?);
    let before = before.map_err(|_| "'span2_index' must not be negative")?;
    let before = words(passage).take(before).collect::<Vec<_>>().join(" ");
    let skipped = before.chars().count() + pronoun.chars().count() + 1;
    let after: String = passage.chars().skip(skipped).collect();
    let passage = detokenized(&format!("{before} *{pronoun}*{after}"));
    Ok(json!(format!(
        "Passage: {passage}\nQuestion: In the passage above, does the pronoun \"*{pronoun}*\" refer to \"*{noun}*\"?\nAnswer:"
    )))
}

/// ReCoRD: the distinct entities and answers, sorted.
pub(super) fn record_document(row: &Row) -> Result<Row, String> {
    let distinct = |column: &str| {
        let mut items = texts(row, column)?;
        items.sort_unstable();
        items.dedup();
        Ok::<Value, String>(json!(items))
    };
    for column in ["passage", "query"] {
        value(row, column)?;
    }
    Ok(with(row, [("entities", distinct("entities")?), ("answers", distinct("answers")?)]))
}

/// ReCoRD: the passage and its highlights as a list.
pub(super) fn record_prompt(row: &Row) -> Result<Value, String> {
    let mut parts = strip(text(row, "passage")?).split("\n@highlight\n");
    let mut out = format!("{}\n\n", parts.next().unwrap_or_default());
    out.extend(parts.map(|highlight| format!("  - {highlight}.\n")));
    Ok(json!(out))
}

/// ReCoRD: the query filled in with each entity.
pub(super) fn record_choices(row: &Row) -> Result<Value, String> {
    let query = text(row, "query")?;
    let filled = |entity: &&str| format!("  - {query}").replace("@placeholder", entity);
    Ok(json!(texts(row, "entities")?.iter().map(filled).collect::<Vec<_>>()))
}

/// ReCoRD: the query filled in with the first answer.
pub(super) fn record_target(row: &Row) -> Result<Value, String> {
    let answers = texts(row, "answers")?;
    let first = answers.first().ok_or("'answers' is empty")?;
    Ok(json!(format!("  - {}", text(row, "query")?).replace("@placeholder", first)))
}

/// ReCoRD: SQuAD scores of the likeliest entity against the best answer.
pub(super) fn record_scores(row: &Row, answers: &[Value]) -> Result<Scores, String> {
    let entities = texts(row, "entities")?;
    let best = argmax(of_choices(answers)?.into_iter()).and_then(|at| usize::try_from(at).ok());
    let entity =
        best.and_then(|at| entities.get(at)).ok_or("'entities' must have a string for each answer")?;
    let golds = texts(row, "answers")?;
    if golds.is_empty() {
        return Err("'answers' is empty".to_owned());
    }
    let f1 = golds.iter().map(|gold| squad::f1(entity, gold)).fold(0.0, f64::max);
    let em = golds.iter().map(|gold| squad::exact(entity, gold)).max();
    Ok(vec![("f1", json!(f1)), ("em", json!(em))])
}

/// AraDiCE BoolQ: the question without its mark, and the answer in the given words for yes and no.
pub(super) fn dialect_boolq(row: &Row, yes: &str, no: &str) -> Result<Row, String> {
    let question = strip(text(row, "question")?);
    let question = question.strip_suffix(['?', '؟']).unwrap_or(question).trim_matches(is_space);
    let target = match value(row, "answer")? {
        Value::Bool(true) => yes,
        Value::Bool(false) => no,
        answer if answer == "true" => yes,
        answer if answer == "false" => no,
        _ => return Err("'answer' must be true or false".to_owned()),
    };
    Ok(with(row, [("question", json!(question)), ("target", json!(target))]))
}

/// AraDiCE's cultural questions: three choices.
pub(super) fn cultural_document(row: &Row) -> Result<Row, String> {
    let choices = [value(row, "Option A")?, value(row, "Option B")?, value(row, "Option C")?];
    Ok(with(row, [("choices", json!(choices))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn choices_are_cut_from_a_string() {
        let options = row(json!({ "options": "a ) 1 , b ) 2.5 , c ) x, y , d ) 4 , e ) none" }));
        assert_eq!(mathqa_choices(&options), Ok(json!(["1", "2.5", "x", "4", "none"])));
    }

    #[test]
    fn an_answer_that_starts_with_another_is_dropped() {
        let answers = row(json!({ "answers": ["New York City", "Boston", "New York"] }));
        assert_eq!(webqs_choices(&answers), Ok(json!(["Boston", "New York"])));
        assert_eq!(webqs_target(&answers), Ok(json!([0, 1])));
    }

    #[test]
    fn a_pronoun_is_marked() {
        let passage = row(
            json!({ "text": "Ann saw Bo , so she left .", "span1_text": "Ann", "span2_text": "she", "span2_index": 5 }),
        );
        let prompt = wsc_prompt(&passage).unwrap();
        assert!(prompt.as_str().unwrap().starts_with("Passage: Ann saw Bo, so *she* left.\nQuestion: "));
    }

    #[test]
    fn the_likeliest_entity_is_scored_against_the_best_answer() {
        let made = record_document(&row(
            json!({ "passage": "P\n@highlight\nH", "query": "@placeholder won", "entities": ["b", "a", "b"], "answers": ["b"] }),
        ));
        let made = made.unwrap();
        assert_eq!(record_prompt(&made), Ok(json!("P\n\n  - H.\n")));
        assert_eq!(record_choices(&made), Ok(json!(["  - a won", "  - b won"])));
        let scores = record_scores(&made, &[json!([-2.0, false]), json!([-1.0, false])]).unwrap();
        assert_eq!(scores, [("f1", json!(1.0)), ("em", json!(1))]);
    }
}
