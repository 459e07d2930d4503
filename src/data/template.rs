//! How a row becomes a prompt and a response: fixed forms, or a Jinja chat template.

use super::chat::{ChatTemplate, Message};
use super::rows::Row;
use crate::checkpoint::ModelTokenizer;
use crate::data::DataError;

/// A part of a rendered row, and whether it is a turn of the assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The text.
    pub text: String,
    /// Whether the assistant says it.
    pub assistant: bool,
}

/// A template.
#[derive(Debug)]
pub enum Template {
    /// Stanford Alpaca's two prompts, with and without `input`; columns instruction, input (or context), output (or
    /// response).
    Alpaca,
    /// `Question: …` / `Answer: …`; columns question, answer.
    QuestionAnswer,
    /// A chat template over `messages`, `conversations`, or the columns of the other two with `history`.
    Chat(Box<ChatTemplate>),
}

/// Why a row cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderError {
    /// This column is missing or is no text.
    Column(&'static str),
    /// The template fails.
    Template(String),
}

impl Template {
    /// The template that a sweep file names: `auto` looks at the columns of a row, `chat` takes the tokenizer's own, a
    /// text with Jinja in it or a `.jinja` file (relative to `folder`) is a chat template itself. Errors: unknown, a
    /// template that does not compile, `chat` for a tokenizer without one.
    pub fn resolve(
        name: &str,
        first: Option<&Row>,
        tokenizer: &ModelTokenizer,
        folder: &std::path::Path,
    ) -> Result<Self, DataError> {
        let none = |reason| DataError::NoTemplate { name: name.to_owned(), reason };
        match name {
            "auto" => Ok(first.map_or(Self::Alpaca, |row| Self::guess(row, tokenizer))),
            "alpaca" => Ok(Self::Alpaca),
            "question-answer" => Ok(Self::QuestionAnswer),
            "chat" => {
                let source = tokenizer
                    .chat_template()
                    .ok_or_else(|| none("the model's tokenizer has no chat template"))?;
                Self::chat(source, tokenizer)
                    .ok_or_else(|| none("the tokenizer's chat template does not compile"))
            }
            text if text.contains("{%") || text.contains("{{") => {
                Self::chat(text, tokenizer).ok_or_else(|| none("it does not compile"))
            }
            file if file.ends_with(".jinja") => {
                let path = folder.join(file);
                let source =
                    std::fs::read_to_string(&path).map_err(|source| DataError::Io { path, source })?;
                Self::chat(&source, tokenizer).ok_or_else(|| none("it does not compile"))
            }
            _ => Err(none("it is none of the known ones")),
        }
    }

    fn chat(source: &str, tokenizer: &ModelTokenizer) -> Option<Self> {
        ChatTemplate::of(source, tokenizer).ok().map(|chat| Self::Chat(Box::new(chat)))
    }

    /// The template that fits a row's columns.
    fn guess(row: &Row, tokenizer: &ModelTokenizer) -> Self {
        if row.contains_key("question") && row.contains_key("answer") {
            return Self::QuestionAnswer;
        }
        let chat = row.contains_key("messages") || row.contains_key("conversations");
        let template = chat.then(|| tokenizer.chat_template()).flatten();
        template.and_then(|source| Self::chat(source, tokenizer)).unwrap_or(Self::Alpaca)
    }

    /// What stands for the template in a training key: a name, or the chat template's text.
    pub fn identity(&self) -> &str {
        match self {
            Self::Alpaca => "alpaca",
            Self::QuestionAnswer => "question-answer",
            Self::Chat(chat) => chat.source(),
        }
    }

    /// Whether the text brings its own special tokens, so that encoding must not add any.
    pub fn has_special_tokens(&self) -> bool {
        matches!(self, Self::Chat(_))
    }

    /// The text before the next answer in a chat of (role, content) pairs. The fixed forms know no history: they ask the
    /// last message of the user. Error: a template that fails.
    pub fn prompt(&self, messages: &[(String, String)]) -> Result<String, RenderError> {
        if let Self::Chat(chat) = self {
            let message =
                |(role, content): &(String, String)| Message { role: role.clone(), content: content.clone() };
            return chat.text(&messages.iter().map(message).collect::<Vec<_>>(), true);
        }
        let asked = messages.iter().rev().find(|(role, _)| role == "user");
        let asked = asked.map(|(_, content)| content.clone()).ok_or(RenderError::Column("messages"))?;
        let name = if matches!(self, Self::Alpaca) { "instruction" } else { "question" };
        let row = [(name, asked), ("output", String::new()), ("answer", String::new())];
        let row: Row = row.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        let parts = self.render(&row)?;
        Ok(parts.into_iter().filter(|part| !part.assistant).map(|part| part.text).collect())
    }

    /// The parts of a row, one after another the whole text. Error: a missing column, a template that fails.
    pub fn render(&self, row: &Row) -> Result<Vec<Part>, RenderError> {
        let pair = |prompt: String, response: &str| {
            vec![Part { text: prompt, assistant: false }, Part { text: response.to_owned(), assistant: true }]
        };
        match self {
            Self::QuestionAnswer => {
                let (question, answer) = (column(row, &["question"])?, column(row, &["answer"])?);
                Ok(pair(format!("Question: {question}\nAnswer:"), &format!(" {answer}")))
            }
            Self::Alpaca => {
                let output = column(row, &["output", "response"])?;
                Ok(pair(alpaca_prompt(row)?, output))
            }
            Self::Chat(chat) => chat.render(&messages(row)?),
        }
    }
}

/// The text of the first of these columns that is there. Error: the first name.
fn column<'a>(row: &'a Row, names: &[&'static str]) -> Result<&'a str, RenderError> {
    let found = names.iter().find_map(|name| row.get(*name)?.as_str());
    found.ok_or(RenderError::Column(names[0]))
}

fn alpaca_prompt(row: &Row) -> Result<String, RenderError> {
    let instruction = column(row, &["instruction"])?;
    Ok(match column(row, &["input", "context"]).unwrap_or_default() {
        "" => format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the \
             request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
        ),
        input => format!(
            "Below is an instruction that describes a task, paired with an input that provides further context. Write \
             a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### \
             Input:\n{input}\n\n### Response:\n"
        ),
    })
}

/// The chat of a row: `messages` with role and content, `conversations` with from and value, or instruction and output
/// (question and answer) after the pairs of `history`.
fn messages(row: &Row) -> Result<Vec<Message>, RenderError> {
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    for (name, role_name, content_name) in
        [("messages", "role", "content"), ("conversations", "from", "value")]
    {
        let Some(list) = row.get(name) else { continue };
        let read = |item: &serde_json::Value| {
            let role = match item[role_name].as_str()? {
                "human" => "user",
                "gpt" => "assistant",
                other => other,
            };
            Some(message(role, item[content_name].as_str()?))
        };
        let list = list.as_array().and_then(|items| items.iter().map(read).collect::<Option<Vec<_>>>());
        let missing = if name == "messages" { "messages" } else { "conversations" };
        return list.filter(|list| !list.is_empty()).ok_or(RenderError::Column(missing));
    }
    let mut chat = Vec::new();
    for pair in row.get("history").and_then(|history| history.as_array()).into_iter().flatten() {
        let (Some(user), Some(assistant)) = (pair[0].as_str(), pair[1].as_str()) else {
            return Err(RenderError::Column("history"));
        };
        chat.extend([message("user", user), message("assistant", assistant)]);
    }
    let question = column(row, &["instruction", "question"])?;
    let user = match column(row, &["input", "context"]).unwrap_or_default() {
        "" => question.to_owned(),
        input => format!("{question}\n\n{input}"),
    };
    chat.extend([
        message("user", &user),
        message("assistant", column(row, &["output", "response", "answer"])?),
    ]);
    Ok(chat)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: &str) -> Row {
        serde_json::from_str(json).unwrap()
    }

    fn texts(template: &Template, json: &str) -> Vec<String> {
        template.render(&row(json)).unwrap().into_iter().map(|part| part.text).collect()
    }

    #[test]
    fn alpaca_has_a_prompt_with_input_and_one_without() {
        let with = texts(&Template::Alpaca, r#"{"instruction":"I","input":"X","output":"O"}"#);
        assert!(with[0].ends_with("### Instruction:\nI\n\n### Input:\nX\n\n### Response:\n"), "{with:?}");
        assert_eq!(with[1], "O");
        let without = texts(&Template::Alpaca, r#"{"instruction":"I","input":"","output":"O"}"#);
        assert!(
            without[0].ends_with("the request.\n\n### Instruction:\nI\n\n### Response:\n"),
            "{without:?}"
        );
        let dolly = texts(&Template::Alpaca, r#"{"instruction":"I","context":"X","response":"O"}"#);
        assert_eq!(dolly, with);
    }

    #[test]
    fn a_missing_column_is_named() {
        let missing = Template::QuestionAnswer.render(&row(r#"{"question":"Q"}"#));
        assert_eq!(missing, Err(RenderError::Column("answer")));
    }

    fn chat(source: &str) -> ChatTemplate {
        ChatTemplate::new(source, "<s>", "</s>").unwrap()
    }

    const CHATML: &str = "{% for m in messages %}<{{m.role}}>{{m.content}}<end>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

    #[test]
    fn a_chat_is_cut_at_the_turns_of_the_assistant() {
        let template = Template::Chat(Box::new(chat(CHATML)));
        let parts =
            template.render(&row(r#"{"history":[["a","b"]],"instruction":"c","output":"d"}"#)).unwrap();
        let shown: Vec<(&str, bool)> =
            parts.iter().map(|part| (part.text.as_str(), part.assistant)).collect();
        assert_eq!(
            shown,
            [
                ("<user>a<end>\n<assistant>", false),
                ("b<end>\n", true),
                ("<user>c<end>\n<assistant>", false),
                ("d<end>\n", true)
            ]
        );
    }

    #[test]
    fn sharegpt_rows_are_chats_too() {
        let template = Template::Chat(Box::new(chat(CHATML)));
        let parts = texts(
            &template,
            r#"{"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}]}"#,
        );
        assert_eq!(parts.concat(), "<user>a<end>\n<assistant>b<end>\n");
    }

    #[test]
    fn a_template_that_rewrites_earlier_turns_is_refused() {
        let template = chat("{{ messages|length }}{% for m in messages %}{{m.content}}{% endfor %}");
        let messages = messages(&row(r#"{"instruction":"c","output":"d"}"#)).unwrap();
        assert!(matches!(template.render(&messages), Err(RenderError::Template(_))));
    }
}
