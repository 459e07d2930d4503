//! How a row becomes a prompt and a response.

use serde::{Deserialize, Serialize};

use super::rows::Row;

/// A named template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Template {
    /// Stanford Alpaca's two prompts, with and without `input`; columns instruction, input, output.
    Alpaca,
    /// `Question: …` / `Answer: …`; columns question, answer.
    QuestionAnswer,
}

impl Template {
    /// The template with this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "alpaca" => Some(Self::Alpaca),
            "question-answer" => Some(Self::QuestionAnswer),
            _ => None,
        }
    }

    /// The template that fits a row's columns.
    pub fn guess(row: &Row) -> Self {
        if row.contains_key("question") && row.contains_key("answer") {
            Self::QuestionAnswer
        } else {
            Self::Alpaca
        }
    }

    /// The prompt and the response of a row. Error: the column that is missing or is no text.
    pub fn render(self, row: &Row) -> Result<(String, String), &'static str> {
        let column = |name: &'static str| row.get(name).and_then(|value| value.as_str()).ok_or(name);
        match self {
            Self::QuestionAnswer => {
                let (question, answer) = (column("question")?, column("answer")?);
                Ok((format!("Question: {question}\nAnswer:"), format!(" {answer}")))
            }
            Self::Alpaca => {
                let (instruction, output) = (column("instruction")?, column("output")?);
                let prompt = match column("input").unwrap_or_default() {
                    "" => format!(
                        "Below is an instruction that describes a task. Write a response that appropriately completes \
                         the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
                    ),
                    input => format!(
                        "Below is an instruction that describes a task, paired with an input that provides further \
                         context. Write a response that appropriately completes the request.\n\n### Instruction:\n\
                         {instruction}\n\n### Input:\n{input}\n\n### Response:\n"
                    ),
                };
                Ok((prompt, output.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: &str) -> Row {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn alpaca_has_a_prompt_with_input_and_one_without() {
        let (with, response) =
            Template::Alpaca.render(&row(r#"{"instruction":"I","input":"X","output":"O"}"#)).unwrap();
        assert!(with.ends_with("### Instruction:\nI\n\n### Input:\nX\n\n### Response:\n"), "{with}");
        assert_eq!(response, "O");
        let (without, _) =
            Template::Alpaca.render(&row(r#"{"instruction":"I","input":"","output":"O"}"#)).unwrap();
        assert!(without.ends_with("the request.\n\n### Instruction:\nI\n\n### Response:\n"), "{without}");
    }

    #[test]
    fn a_missing_column_is_named() {
        assert_eq!(Template::QuestionAnswer.render(&row(r#"{"question":"Q"}"#)), Err("answer"));
        assert_eq!(Template::guess(&row(r#"{"question":"Q","answer":"A"}"#)), Template::QuestionAnswer);
    }
}
