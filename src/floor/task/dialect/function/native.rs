//! Published functions, recognized by the SHA-256 of their module's source and reimplemented here.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data::Row;
use crate::job::Digest;
use crate::python::parse_literal;
use crate::task::published::{capitalized, cleaned, strip, uncapitalized};

/// A reimplemented function, by its use in a task file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Native {
    /// `process_docs`.
    Rows(RowFunction),
    /// `doc_to_text`, `doc_to_target`, `doc_to_choice`.
    Field(FieldFunction),
    /// `process_results`.
    Results(ResultsFunction),
}

/// Preprocessing of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum RowFunction {
    ArithmeticDocs,
    HellaswagDocs,
}

/// Computes a field of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum FieldFunction {
    WinograndeText,
    WinograndeTarget,
    WinograndeChoice,
    CopaText,
    CopaTarget,
    CopaChoice,
    RaceText,
    RaceTarget,
    RaceChoice,
    WikitextTarget,
}

/// Scores a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ResultsFunction {
    TruthfulQaMc2,
    WikitextLengths,
}

/// SHA-256 of a module, its function, the implementation.
const PUBLISHED: &[(&str, &str, Native)] = &[
    (
        "55c93da7005300ce496a18bce8251febab8acd36b8c4d8875679ff432c2031f9",
        "process_docs",
        Native::Rows(RowFunction::ArithmeticDocs),
    ),
    (
        "07d23b60b28f2a4f658dcf8440623a63fe6644854ce9b846a114dde980dc1214",
        "process_docs",
        Native::Rows(RowFunction::HellaswagDocs),
    ),
    (
        "e55327629264a98f1d383fda24645b6779afb53fa0bce2150042b9416b1ae006",
        "doc_to_text",
        Native::Field(FieldFunction::WinograndeText),
    ),
    (
        "e55327629264a98f1d383fda24645b6779afb53fa0bce2150042b9416b1ae006",
        "doc_to_target",
        Native::Field(FieldFunction::WinograndeTarget),
    ),
    (
        "e55327629264a98f1d383fda24645b6779afb53fa0bce2150042b9416b1ae006",
        "doc_to_choice",
        Native::Field(FieldFunction::WinograndeChoice),
    ),
    (
        "0be98a907db647a518c42c916a61385b64f394cf9d0171b5cb86b7a036282de7",
        "doc_to_text",
        Native::Field(FieldFunction::CopaText),
    ),
    (
        "0be98a907db647a518c42c916a61385b64f394cf9d0171b5cb86b7a036282de7",
        "doc_to_target",
        Native::Field(FieldFunction::CopaTarget),
    ),
    (
        "0be98a907db647a518c42c916a61385b64f394cf9d0171b5cb86b7a036282de7",
        "doc_to_choice",
        Native::Field(FieldFunction::CopaChoice),
    ),
    (
        "15778ab69ca3b96c3d82618500ad59702ff7ea9dbf09e90e4505abc16ac53ad0",
        "doc_to_text",
        Native::Field(FieldFunction::RaceText),
    ),
    (
        "15778ab69ca3b96c3d82618500ad59702ff7ea9dbf09e90e4505abc16ac53ad0",
        "doc_to_target",
        Native::Field(FieldFunction::RaceTarget),
    ),
    (
        "15778ab69ca3b96c3d82618500ad59702ff7ea9dbf09e90e4505abc16ac53ad0",
        "doc_to_choice",
        Native::Field(FieldFunction::RaceChoice),
    ),
    (
        "d3c827d1e2cd442a1e4738b527a18effd48cbb2aed478c12a652311b5ea4dbc8",
        "process_results_mc2",
        Native::Results(ResultsFunction::TruthfulQaMc2),
    ),
    (
        "a44020374b172159bf5be80a64d2c4194c9d5c77284f696ac666361338c8da7d",
        "wikitext_detokenizer",
        Native::Field(FieldFunction::WikitextTarget),
    ),
    (
        "a44020374b172159bf5be80a64d2c4194c9d5c77284f696ac666361338c8da7d",
        "process_results",
        Native::Results(ResultsFunction::WikitextLengths),
    ),
];

impl Native {
    /// The function of a module's source, if it is a published one.
    pub(in crate::task) fn recognize(module: &str, name: &str) -> Option<Self> {
        let digest = Digest::of(module.as_bytes()).to_string();
        let found = PUBLISHED.iter().find(|(known, function, _)| *known == digest && *function == name)?;
        Some(found.2)
    }
}

impl RowFunction {
    /// Applies the function to a row. Error: a column that is missing or of another type, named.
    pub fn row(self, row: &Row) -> Result<Row, String> {
        let mut row = row.clone();
        match self {
            Self::ArithmeticDocs => {
                let text = strip(text(&row, "context")?);
                let text = text.replace("\n\n", "\n").replace("Q:", "Question:").replace("A:", "Answer:");
                row.insert("context".to_owned(), text.into());
            }
            Self::HellaswagDocs => {
                let context = format!("{} {}", text(&row, "ctx_a")?, capitalized(text(&row, "ctx_b")?));
                let query = cleaned(&format!("{}: {context}", text(&row, "activity_label")?));
                let endings: Value = texts(&row, "endings")?.into_iter().map(cleaned).collect();
                let gold = strip(text(&row, "label")?).parse::<i64>();
                let gold = gold.map_err(|_| "'label' must be a number".to_owned())?;
                row.insert("query".to_owned(), query.into());
                row.insert("choices".to_owned(), endings);
                row.insert("gold".to_owned(), gold.into());
            }
        }
        Ok(row)
    }
}

impl FieldFunction {
    /// The field's value for a document. Error: as [`RowFunction::row`].
    pub fn field(self, row: &Row) -> Result<Value, String> {
        match self {
            Self::WinograndeText => match text(row, "answer")? {
                "1" => Ok(json!(0)),
                "2" => Ok(json!(1)),
                other => Err(format!("'answer' is '{other}', neither 1 nor 2")),
            },
            Self::WinograndeTarget => Ok(json!(strip(gap(row)?.1))),
            Self::WinograndeChoice => {
                let before = gap(row)?.0;
                Ok(json!([
                    format!("{before}{}", text(row, "option1")?),
                    format!("{before}{}", text(row, "option2")?)
                ]))
            }
            Self::CopaText => {
                let connector = match text(row, "question")? {
                    "cause" => "because",
                    "effect" => "therefore",
                    other => return Err(format!("'question' is '{other}', neither cause nor effect")),
                };
                let premise = strip(text(row, "premise")?);
                let end = premise.char_indices().next_back().map_or(0, |(at, _)| at);
                Ok(json!(format!("{} {connector}", &premise[..end])))
            }
            Self::CopaTarget => {
                let first = row.get("label").and_then(Value::as_i64) == Some(0);
                Ok(json!(copa_choice(row, if first { "choice1" } else { "choice2" })?))
            }
            Self::CopaChoice => Ok(json!([copa_choice(row, "choice1")?, copa_choice(row, "choice2")?])),
            Self::RaceText => race_text(row),
            Self::RaceTarget => {
                let problems = problems(row)?;
                let last = problems.last().ok_or("'problems' is empty")?;
                Ok(json!(letter(last)?))
            }
            Self::RaceChoice => {
                let problems = problems(row)?;
                let last = problems.last().ok_or("'problems' is empty")?;
                let options: Option<Vec<&Value>> = (0..4).map(|n| last["options"].get(n)).collect();
                Ok(json!(options.ok_or("'problems' has fewer than 4 options")?))
            }
            Self::WikitextTarget => {
                Ok(json!(crate::task::dialect::function::wikitext::detokenized(text(row, "page")?)))
            }
        }
    }
}

fn text<'a>(row: &'a Row, column: &str) -> Result<&'a str, String> {
    row.get(column).and_then(Value::as_str).ok_or_else(|| format!("'{column}' must be a string"))
}

fn texts<'a>(row: &'a Row, column: &str) -> Result<Vec<&'a str>, String> {
    let list = row.get(column).and_then(Value::as_array);
    let texts = list.and_then(|items| items.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    texts.ok_or_else(|| format!("'{column}' must be a list of strings"))
}

/// The sentence before and after its blank.
fn gap(row: &Row) -> Result<(&str, &str), String> {
    text(row, "sentence")?.split_once('_').ok_or_else(|| "'sentence' has no gap".to_owned())
}

/// A choice with a leading space and its first character lowercased.
fn copa_choice(row: &Row, column: &str) -> Result<String, String> {
    let choice = uncapitalized(text(row, column)?).ok_or_else(|| format!("'{column}' is empty"))?;
    Ok(format!(" {choice}"))
}

fn problems(row: &Row) -> Result<Vec<Value>, String> {
    let value = parse_literal(text(row, "problems")?);
    let list = value.and_then(|value| value.as_array().cloned());
    list.ok_or_else(|| "'problems' must be a Python list".to_owned())
}

fn letter(problem: &Value) -> Result<usize, String> {
    let answer = problem["answer"].as_str().unwrap_or_default();
    let found = ["A", "B", "C", "D"].iter().position(|letter| *letter == answer);
    found.ok_or_else(|| format!("the answer '{answer}' is none of A to D"))
}

fn race_text(row: &Row) -> Result<Value, String> {
    let problems = problems(row)?;
    let (last, earlier) = problems.split_last().ok_or("'problems' is empty")?;
    let mut out = format!("Article: {}\n\n", text(row, "article")?);
    let question = |problem: &Value| {
        problem["question"].as_str().map(str::to_owned).ok_or_else(|| "a problem has no question".to_owned())
    };
    for problem in earlier {
        let question_text = question(problem)?;
        let answer = problem["options"][letter(problem)?].as_str().ok_or("a problem has no options")?;
        match question_text.strip_suffix("  _  .") {
            // The blank's first space is kept.
            Some(before) => out += &format!("{before} {answer}\n"),
            None => out += &format!("Question: {question_text}\nAnswer: {answer}\n"),
        }
    }
    Ok(json!(out + &question(last)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value) -> Row {
        value.as_object().unwrap().clone().into_iter().collect()
    }

    #[test]
    fn hellaswag_is_cleaned_and_its_second_part_capitalized() {
        let made = RowFunction::HellaswagDocs.row(&row(json!({
            "ctx_a": "A man sits. [header] x", "ctx_b": "hE smiles", "activity_label": "Sitting",
            "endings": [" goes [step] away.", "a [title] b"], "label": "1",
        })));
        let made = made.unwrap();
        assert_eq!(made["query"], "Sitting: A man sits. x He smiles");
        assert_eq!(made["choices"], json!(["goes away.", "a.  b".replace("  ", " ")]));
        assert_eq!(made["gold"], 1);
    }

    #[test]
    fn hellaswag_takes_title_case_and_spaces_from_python() {
        let made = RowFunction::HellaswagDocs.row(&row(json!({
            "ctx_a": "A man sits.", "ctx_b": "\u{fb01}SHES\u{1f}", "activity_label": "Sitting",
            "endings": ["goes\u{1c}"], "label": "0",
        })));
        let made = made.unwrap();
        assert_eq!(made["query"], "Sitting: A man sits. Fishes");
        assert_eq!(made["choices"], json!(["goes"]));
    }

    #[test]
    fn winogrande_has_two_contexts_and_one_target() {
        let row =
            row(json!({ "sentence": "The _ won today.", "option1": "cat", "option2": "dog", "answer": "2" }));
        assert_eq!(FieldFunction::WinograndeText.field(&row), Ok(json!(1)));
        assert_eq!(FieldFunction::WinograndeTarget.field(&row), Ok(json!("won today.")));
        assert_eq!(FieldFunction::WinograndeChoice.field(&row), Ok(json!(["The cat", "The dog"])));
    }

    #[test]
    fn copa_drops_the_full_stop_and_lowers_the_choice() {
        let row = row(
            json!({ "premise": "It rained. ", "question": "effect", "choice1": "The street got wet.", "choice2": "I slept.", "label": 0 }),
        );
        assert_eq!(FieldFunction::CopaText.field(&row), Ok(json!("It rained therefore")));
        assert_eq!(FieldFunction::CopaTarget.field(&row), Ok(json!(" the street got wet.")));
    }

    #[test]
    fn race_tells_earlier_problems_with_their_answers() {
        let problems = "[{'question': 'Who  _  .', 'answer': 'B', 'options': ['a', 'b', 'c', 'd']}, {'question': 'Why?', 'answer': 'D', 'options': ['e', 'f', 'g', 'h']}]";
        let row = row(json!({ "article": "Text.", "problems": problems }));
        assert_eq!(FieldFunction::RaceText.field(&row), Ok(json!("Article: Text.\n\nWho b\nWhy?")));
        assert_eq!(FieldFunction::RaceTarget.field(&row), Ok(json!(3)));
        assert_eq!(FieldFunction::RaceChoice.field(&row), Ok(json!(["e", "f", "g", "h"])));
    }
}
