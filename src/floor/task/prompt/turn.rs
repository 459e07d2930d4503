//! Questions and answers as one string, or as chat messages.

use crate::data::{Chat, ChatTemplate, Message, RenderError};
use crate::python::is_space;
use crate::task::prompt::prompting::ChatForm;

/// A message, and the delimiter after it in plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PromptMessage {
    role: &'static str,
    content: String,
    after: String,
}

impl PromptMessage {
    pub(super) fn system(content: String) -> Self {
        Self { role: "system", content, after: String::new() }
    }

    fn text(&self) -> String {
        format!("{}{}", self.content, self.after)
    }

    fn message(&self) -> Message {
        Message::new(self.role, self.content.as_str())
    }
}

/// Joins two strings with a delimiter, unless whitespace is already there or one is empty.
pub(super) fn delimited(before: &str, after: &str, delimiter: &str) -> String {
    let between = if !before.is_empty() && !after.is_empty() && seam(before, after) { delimiter } else { "" };
    format!("{before}{between}{after}")
}

/// Whether neither side of a boundary has whitespace.
fn seam(before: &str, after: &str) -> bool {
    !before.is_empty() && !before.ends_with(is_space) && !after.starts_with(is_space)
}

/// A question, with its answer if it is an example.
#[derive(Debug, Clone, Copy)]
pub(super) struct QuestionTurn<'a> {
    pub(super) question: &'a str,
    pub(super) answer: Option<&'a str>,
    /// The prefix of the answer.
    pub(super) prefix: Option<&'a str>,
    /// The delimiter between question and answer.
    pub(super) delimiter: &'a str,
    /// The delimiter after the answer.
    pub(super) after: &'a str,
}

impl QuestionTurn<'_> {
    /// The messages of the turn.
    pub(super) fn said(&self) -> Vec<PromptMessage> {
        let wanted = match self.prefix {
            Some(prefix) => seam(self.question, prefix),
            None => self.answer.is_some(),
        };
        let after = if wanted { self.delimiter } else { "" }.to_owned();
        let mut messages = vec![PromptMessage { role: "user", content: self.question.to_owned(), after }];
        let answer = |content: String, after: &str| PromptMessage {
            role: "assistant",
            content,
            after: after.to_owned(),
        };
        match (self.answer, self.prefix) {
            (Some(text), prefix) => {
                messages.push(answer(delimited(prefix.unwrap_or_default(), text, " "), self.after));
            }
            (None, Some(prefix)) => messages.push(answer(prefix.to_owned(), "")),
            (None, None) => {}
        }
        messages
    }
}

/// How messages are joined into a context.
pub(super) enum Conversation {
    /// Concatenated.
    Plain,
    /// Through a chat template.
    Chat { template: Box<ChatTemplate>, multiturn: bool },
}

impl Conversation {
    /// Error: a template that does not compile.
    pub(super) fn new(chat: Option<&ChatForm>) -> Result<Self, String> {
        let Some(chat) = chat else { return Ok(Self::Plain) };
        let template = Box::new(ChatTemplate::new(chat.source.clone())?);
        Ok(Self::Chat { template, multiturn: chat.multiturn })
    }

    /// The context of a question after the preceding messages. Error: the chat template fails, also without the system
    /// message.
    pub(super) fn context(
        &self,
        before: &[PromptMessage],
        turn: &QuestionTurn<'_>,
    ) -> Result<String, String> {
        let mut prompt = before.to_vec();
        prompt.extend(turn.said());
        let Self::Chat { template, multiturn } = self else {
            return Ok(prompt.iter().map(PromptMessage::text).collect());
        };
        let mut messages: Vec<Message> = if *multiturn {
            prompt.iter().map(PromptMessage::message).collect()
        } else {
            one_message(prompt)
        };
        let render = |messages: &[Message]| {
            let chat = Chat::of(messages.iter().cloned());
            if turn.prefix.is_some() { template.continued(&chat) } else { template.text(&chat, true) }
        };
        let reason = |error: RenderError| match error {
            RenderError::Column(column) => column.to_owned(),
            RenderError::Row(reason) | RenderError::Template(reason) => reason,
        };
        render(&messages).or_else(|error| {
            // Some models' templates reject a system message.
            let all = messages.len();
            messages.retain(|message| message.role() != "system");
            if messages.len() == all { Err(reason(error)) } else { render(&messages).map_err(reason) }
        })
    }
}

/// Merges everything into one user message, except the system message and the last answer's prefix.
fn one_message(mut prompt: Vec<PromptMessage>) -> Vec<Message> {
    let mut messages = Vec::new();
    if prompt.first().is_some_and(|first| first.role == "system") {
        messages.push(prompt.remove(0).message());
    }
    let beginning = prompt.pop_if(|last| last.role == "assistant");
    if let Some(last) = prompt.last_mut() {
        last.after.clear();
    }
    messages.push(Message::new("user", prompt.iter().map(PromptMessage::text).collect::<String>()));
    messages.extend(beginning.map(|last| last.message()));
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ChatSource;

    const CHATML: &str = "{% for m in messages %}<{{m.role}}>{{m.content}}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

    fn shot<'a>(prefix: Option<&'a str>) -> QuestionTurn<'a> {
        QuestionTurn { question: "Q: What 3", answer: Some("a3"), prefix, delimiter: " ", after: "\n\n" }
    }

    fn asked<'a>(prefix: Option<&'a str>) -> QuestionTurn<'a> {
        QuestionTurn { question: "Q: What 0", answer: None, prefix, delimiter: " ", after: "" }
    }

    fn chat(template: &str, multiturn: bool) -> Conversation {
        let source = ChatSource { template: template.to_owned(), ..ChatSource::default() };
        Conversation::new(Some(&ChatForm { source, multiturn })).unwrap()
    }

    #[test]
    fn plain_text_has_delimiters_where_no_white_space_is() {
        let text = Conversation::Plain.context(&shot(None).said(), &asked(None)).unwrap();
        assert_eq!(text, "Q: What 3 a3\n\nQ: What 0");
        let prefix = Some("The answer is");
        let text = Conversation::Plain.context(&shot(prefix).said(), &asked(prefix)).unwrap();
        assert_eq!(text, "Q: What 3 The answer is a3\n\nQ: What 0 The answer is");
        assert_eq!(delimited("SYS", "Desc.\n\n", "\n\n"), "SYS\n\nDesc.\n\n");
        assert_eq!(delimited("SYS\n", "Desc.", "\n\n"), "SYS\nDesc.");
        assert_eq!(delimited("", "Desc.", "\n\n"), "Desc.");
    }

    #[test]
    fn an_example_without_an_answer_is_its_question_alone() {
        let turn = QuestionTurn { answer: None, ..shot(None) };
        assert_eq!(Conversation::Plain.context(&turn.said(), &asked(None)).unwrap(), "Q: What 3Q: What 0");
    }

    #[test]
    fn examples_are_turns_of_a_chat_or_one_message() {
        let turns = chat(CHATML, true).context(&shot(None).said(), &asked(None)).unwrap();
        assert_eq!(turns, "<user>Q: What 3<end><assistant>a3<end><user>Q: What 0<end><assistant>");
        let prefix = Some("The answer is");
        let text = chat(CHATML, false).context(&shot(prefix).said(), &asked(prefix)).unwrap();
        assert_eq!(text, "<user>Q: What 3 The answer is a3\n\nQ: What 0<end><assistant>The answer is");
    }

    #[test]
    fn a_template_that_refuses_the_system_gets_the_chat_without_it() {
        let refusing = format!(
            "{{% if messages[0].role == 'system' %}}{{{{ raise_exception('no system') }}}}{{% endif %}}{CHATML}"
        );
        let text =
            chat(&refusing, true).context(&[PromptMessage::system("S".to_owned())], &asked(None)).unwrap();
        assert_eq!(text, "<user>Q: What 0<end><assistant>");
        let always = chat("{{ raise_exception('never') }}", true);
        assert_eq!(always.context(&[], &asked(None)), Err("never".to_owned()));
    }
}
