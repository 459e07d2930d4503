//! Rendering a row as prompt and response: fixed formats, or a Jinja chat template.

use super::chat::{Chat, ChatTemplate, Message, chat_of};
use super::rows::Row;
use crate::data::DataError;
use crate::jinja::TemplateDate;
use crate::pretrained::ModelTokenizer;

/// A segment of a rendered row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The string.
    pub text: String,
    /// Whether it is the assistant's.
    pub assistant: bool,
    /// Whether the row lets the loss score it.
    pub trained: bool,
    /// Where the answer's content ends, in bytes of `text`: the end-of-turn token is searched after it.
    pub content_end: usize,
}

impl Part {
    /// A segment that is not the assistant's.
    pub(super) fn prompt(text: impl Into<String>) -> Self {
        Self { text: text.into(), assistant: false, trained: false, content_end: 0 }
    }

    /// An answer without a suffix.
    fn answer(text: String) -> Self {
        Self { content_end: text.len(), text, assistant: true, trained: true }
    }
}

/// A rendered row, with notes for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Segments that concatenate to the whole string.
    pub parts: Vec<Part>,
    /// Unused columns of the row, as messages counted over rows.
    pub notes: Vec<String>,
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
    /// This column is missing or is not a string.
    Column(&'static str),
    /// The row does not fit the template.
    Row(String),
    /// The template fails.
    Template(String),
}

/// Metadata columns, not meant for the model.
const ABOUT_ROWS: [&str; 17] = [
    "id",
    "_id",
    "idx",
    "index",
    "uid",
    "uuid",
    "source",
    "dataset",
    "category",
    "split",
    "lang",
    "language",
    "license",
    "metadata",
    "url",
    "timestamp",
    "__index_level_0__",
];
const ALPACA_COLUMNS: [&str; 5] = ["instruction", "input", "context", "output", "response"];
const CHAT_COLUMNS: [&str; 5] = ["messages", "conversations", "system", "tools", "documents"];
const PAIR_COLUMNS: [&str; 8] =
    ["history", "instruction", "question", "input", "context", "output", "response", "answer"];

impl Template {
    /// The template named in a sweep file. `auto` depends on a row's columns; `chat` is the tokenizer's own
    /// (`chat:NAME` one of several); a string with Jinja or a `.jinja` file (relative to `folder`) is a chat template
    /// itself. Errors: unknown, a template that does not compile, `chat` for a tokenizer without one.
    pub fn resolve(
        name: &str,
        first: Option<&Row>,
        tokenizer: &ModelTokenizer,
        date: TemplateDate,
        folder: &std::path::Path,
    ) -> Result<Self, DataError> {
        let fail = |reason: String| DataError::NoTemplate { name: name.to_owned(), reason };
        let compile = |source: &str| {
            let chat = ChatTemplate::of(source, tokenizer, date).map_err(fail)?;
            Ok(Self::Chat(Box::new(chat)))
        };
        let has_tools = first.is_some_and(|row| row.get("tools").is_some_and(|tools| !tools.is_null()));
        match name {
            "auto" => {
                match first.filter(|row| row.contains_key("messages") || row.contains_key("conversations")) {
                    Some(_) => match tokenizer.chat_template(has_tools) {
                        Some(source) => compile(source),
                        None => Err(fail(
                            "the rows are chats, and the model's tokenizer has no chat template".to_owned(),
                        )),
                    },
                    None => Ok(first.map_or(Self::Alpaca, Self::guess)),
                }
            }
            "alpaca" => Ok(Self::Alpaca),
            "question-answer" => Ok(Self::QuestionAnswer),
            "chat" => match tokenizer.chat_template(has_tools) {
                Some(source) => compile(source),
                None => Err(fail(tokenizer.no_chat_template())),
            },
            text if text.contains("{%") || text.contains("{{") => compile(text),
            file if file.ends_with(".jinja") => {
                let path = folder.join(file);
                let source =
                    std::fs::read_to_string(&path).map_err(|source| DataError::Io { path, source })?;
                compile(&source)
            }
            named => match named.strip_prefix("chat:").map(|name| tokenizer.named_chat_template(name)) {
                Some(Some(source)) => compile(source),
                Some(None) => Err(fail(tokenizer.no_chat_template())),
                None => Err(fail("it is not one of the known templates".to_owned())),
            },
        }
    }

    /// The fixed format that fits a row's columns.
    fn guess(row: &Row) -> Self {
        if row.contains_key("question") && row.contains_key("answer") {
            return Self::QuestionAnswer;
        }
        Self::Alpaca
    }

    /// The template's entry in a training key: a name, or the chat template's source.
    pub fn identity(&self) -> String {
        match self {
            Self::Alpaca => "alpaca".to_owned(),
            Self::QuestionAnswer => "question-answer".to_owned(),
            Self::Chat(chat) => chat.identity(),
        }
    }

    /// Whether the rendering includes special tokens, so encoding must not add any.
    pub fn has_special_tokens(&self) -> bool {
        matches!(self, Self::Chat(_))
    }

    /// The prompt for the next answer in a chat of (role, content) pairs. The fixed formats have no history: they use
    /// the user's last message. Error: a template that fails.
    pub fn prompt(&self, messages: &[(String, String)]) -> Result<String, RenderError> {
        if let Self::Chat(chat) = self {
            let messages = messages.iter().map(|(role, content)| Message::new(role, content.as_str()));
            return chat.text(&Chat::of(messages), true);
        }
        let question = messages.iter().rev().find(|(role, _)| role == "user");
        let question = question.map(|(_, content)| content.clone()).ok_or(RenderError::Column("messages"))?;
        let name = if matches!(self, Self::Alpaca) { "instruction" } else { "question" };
        let row = [(name, question), ("output", String::new()), ("answer", String::new())];
        let row: Row = row.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        let parts = self.render(&row)?.parts;
        Ok(parts.into_iter().filter(|part| !part.assistant).map(|part| part.text).collect())
    }

    /// Renders a row. Error: a missing column, a template that fails.
    pub fn render(&self, row: &Row) -> Result<Rendered, RenderError> {
        let pair = |prompt: String, response: String| vec![Part::prompt(prompt), Part::answer(response)];
        match self {
            Self::QuestionAnswer => {
                let (question, answer) = (column(row, &["question"])?, column(row, &["answer"])?);
                let parts = pair(format!("Question: {question}\nAnswer:"), format!(" {answer}"));
                Ok(Rendered { parts, notes: unused(row, &["question", "answer"]) })
            }
            Self::Alpaca => {
                let output = column(row, &["output", "response"])?;
                let parts = pair(alpaca_prompt(row)?, output.to_owned());
                Ok(Rendered { parts, notes: unused(row, &ALPACA_COLUMNS) })
            }
            Self::Chat(template) => {
                let (chat, mut notes) = chat_of(row)?;
                let parts = template.render(&chat)?;
                let ignored = template.ignored_keys(&chat)?.into_iter();
                notes.extend(ignored.map(|key| format!("the chat template does not print '{key}'")));
                let listed = ["messages", "conversations"].iter().any(|name| row.contains_key(*name));
                let mut known = CHAT_COLUMNS.to_vec();
                if !listed {
                    known.extend(PAIR_COLUMNS);
                }
                notes.extend(unused(row, &known));
                Ok(Rendered { parts, notes })
            }
        }
    }
}

/// Nonempty columns that a template does not read.
fn unused(row: &Row, known: &[&str]) -> Vec<String> {
    let is_empty = |value: &serde_json::Value| match value {
        serde_json::Value::Null => true,
        serde_json::Value::String(text) => text.is_empty(),
        serde_json::Value::Array(items) => items.is_empty(),
        _ => false,
    };
    let read = |name: &str| known.contains(&name) || ABOUT_ROWS.contains(&name);
    let unused = row.iter().filter(|(name, value)| !read(name) && !is_empty(value));
    unused.map(|(name, _)| format!("the column '{name}' is not used")).collect()
}

/// The string in the first of these columns that exists. Error: the first name.
pub(super) fn column<'a>(row: &'a Row, names: &[&'static str]) -> Result<&'a str, RenderError> {
    optional(row, names).ok_or(RenderError::Column(names[0]))
}

/// The string in the first of these columns that has one.
pub(super) fn optional<'a>(row: &'a Row, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| row.get(*name)?.as_str())
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

#[cfg(test)]
mod tests {
    use super::super::chat::tests::{CHATML, template as chat};
    use super::*;

    fn row(json: &str) -> Row {
        serde_json::from_str(json).unwrap()
    }

    fn texts(template: &Template, json: &str) -> Vec<String> {
        template.render(&row(json)).unwrap().parts.into_iter().map(|part| part.text).collect()
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

    #[test]
    fn a_column_that_is_not_read_is_named_and_one_about_the_row_is_not() {
        let json = r#"{"id":1,"question":"Q","answer":"A","system":"S","tools":[],"history":null}"#;
        let rendered = Template::QuestionAnswer.render(&row(json)).unwrap();
        assert_eq!(rendered.notes, ["the column 'system' is not used"]);
    }

    #[test]
    fn a_chat_is_cut_at_the_turns_of_the_assistant() {
        let template = Template::Chat(Box::new(chat(CHATML)));
        let rendered =
            template.render(&row(r#"{"history":[["a","b"]],"instruction":"c","output":"d"}"#)).unwrap();
        let shown: Vec<(&str, bool)> =
            rendered.parts.iter().map(|part| (part.text.as_str(), part.assistant)).collect();
        assert_eq!(
            shown,
            [
                ("<user>a<end>\n<assistant>", false),
                ("b<end>\n", true),
                ("<user>c<end>\n<assistant>", false),
                ("d<end>\n", true)
            ]
        );
        assert_eq!(rendered.notes, Vec::<String>::new());
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
}
