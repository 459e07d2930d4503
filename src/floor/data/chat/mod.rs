//! Jinja chat templates, as in tokenizers and as rendered by transformers.

mod message;
#[cfg(test)]
mod published;
mod row;
mod turns;

use std::collections::BTreeMap;

use minijinja::{Environment, context};
use serde::{Deserialize, Serialize};

pub use message::{Chat, Message};
pub(super) use row::chat_of;

use super::template::{Part, RenderError};
use crate::jinja::{Generated, TemplateDate, chat_environment, data, with_tuples, without_generation_tags};
use crate::pretrained::ModelTokenizer;

/// Marks the end of a message that the model continues, to find it in the rendered string.
const CONTINUED: &str = "LORAGRID GOES ON HERE ";

/// The inputs of a chat template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatSource {
    /// The Jinja template.
    pub template: String,
    /// The tokenizer's special tokens by their variables: `bos_token`, `eos_token`, `pad_token`.
    pub tokens: BTreeMap<String, String>,
    /// The date that `strftime_now` formats.
    pub date: TemplateDate,
}

/// A chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: ChatSource,
    has_generation_tags: bool,
}

impl ChatTemplate {
    /// Compiles a template. Error: the problem and its location.
    pub fn new(source: ChatSource) -> Result<Self, String> {
        let mut environment = chat_environment(source.date);
        // Jinja normalizes all line endings.
        let lines = source.template.replace("\r\n", "\n").replace('\r', "\n");
        let (template, has_generation_tags) = without_generation_tags(&lines);
        let compiled = environment.add_template_owned("chat template", with_tuples(&template));
        compiled.map_err(|error| error.to_string())?;
        Ok(Self { environment, source, has_generation_tags })
    }

    /// A template with a tokenizer's special tokens. Error: it does not compile.
    pub fn of(template: &str, tokenizer: &ModelTokenizer, date: TemplateDate) -> Result<Self, String> {
        Self::new(ChatSource {
            template: template.to_owned(),
            tokens: tokenizer.special_tokens().clone(),
            date,
        })
    }

    /// The template's inputs.
    pub fn source(&self) -> &ChatSource {
        &self.source
    }

    /// The template's entry in a training key: its source, and its other inputs if it reads them.
    pub fn identity(&self) -> String {
        let mut identity = self.source.template.clone();
        if identity.contains("strftime_now") {
            identity.push_str(&format!("\ntemplate_date={}", self.source.date));
        }
        identity
    }

    fn generated(&self, chat: &Chat, add_generation_prompt: bool) -> Result<Generated, RenderError> {
        let fail = |error: minijinja::Error| {
            let detail = error.detail().map(str::to_owned);
            RenderError::Template(detail.unwrap_or_else(|| error.to_string()))
        };
        let template = self.environment.get_template("chat template").map_err(fail)?;
        let values = context! {
            messages => chat.messages.iter().map(Message::data).collect::<Vec<_>>(),
            tools => chat.tools.as_ref().map(data),
            documents => chat.documents.as_ref().map(data),
            add_generation_prompt => add_generation_prompt,
            ..minijinja::Value::from_serialize(&self.source.tokens)
        };
        // The library panics when it slices an empty list with a negative step; a template must never end the program.
        let rendered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| template.render(values)));
        match rendered {
            Ok(text) => text.map_err(fail).map(|marked| Generated::of(&marked)),
            Err(_) => Err(RenderError::Template("it slices an empty list or string".to_owned())),
        }
    }

    /// Renders a chat, with or without the generation prompt. Error: the template fails.
    pub fn text(&self, chat: &Chat, add_generation_prompt: bool) -> Result<String, RenderError> {
        self.generated(chat, add_generation_prompt).map(|generated| generated.text)
    }

    /// Renders a chat up to the end of its last message, which the model continues: transformers'
    /// `continue_final_message`. Errors: the template fails, or omits the message.
    pub fn continued(&self, chat: &Chat) -> Result<String, RenderError> {
        let mut marked = chat.clone();
        if let Some(last) = marked.messages.last_mut() {
            last.append(CONTINUED);
        }
        let text = self.text(&marked, false)?;
        let missing = || RenderError::Template("the last message is not in the rendered chat".to_owned());
        let at = text.rfind(CONTINUED.trim_end()).ok_or_else(missing)?;
        let before = &text[..at];
        // A template that trims messages also trimmed the space before the mark.
        Ok(if text[at..].starts_with(CONTINUED) { before } else { before.trim_end() }.to_owned())
    }

    /// Splits the rendered chat at the assistant's turns. Errors: the template fails, or a turn is not found.
    pub(super) fn render(&self, chat: &Chat) -> Result<Vec<Part>, RenderError> {
        let whole = self.generated(chat, false)?;
        if self.has_generation_tags {
            return turns::of_spans(&whole, chat);
        }
        turns::located(self, &whole.text, chat)
    }

    /// The keys of messages, and `tools` and `documents`, that a chat has but that do not change its rendering.
    pub(super) fn ignored_keys(&self, chat: &Chat) -> Result<Vec<String>, RenderError> {
        let candidates = chat.optional_keys();
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let whole = self.text(chat, false)?;
        let ignored = candidates.into_iter().filter(|key| {
            // A template that fails without a key has read it.
            self.text(&chat.without(key), false).is_ok_and(|text| text == whole)
        });
        Ok(ignored.collect())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const CHATML: &str = "{% for m in messages %}<{{m.role}}>{{m.content}}<end>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

    pub(crate) fn template(text: &str) -> ChatTemplate {
        let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
        let tokens = tokens.map(|(name, token)| (name.to_owned(), token.to_owned())).into();
        ChatTemplate::new(ChatSource { template: text.to_owned(), tokens, date: TemplateDate::default() })
            .unwrap()
    }

    #[test]
    fn a_last_message_is_gone_on_with_where_it_ends() {
        let chat = Chat::of([Message::new("user", "a"), Message::new("assistant", "The answer is ")]);
        let kept = template(CHATML).continued(&chat).unwrap();
        assert_eq!(kept, "<user>a<end>\n<assistant>The answer is ");
        let trimming = CHATML.replace("m.content", "m.content|trim");
        let trimmed = template(&trimming).continued(&chat).unwrap();
        assert_eq!(trimmed, "<user>a<end>\n<assistant>The answer is");
        assert!(template("{{ messages|length }}").continued(&chat).is_err());
    }

    #[test]
    fn tools_and_documents_are_none_where_there_are_none_and_every_special_token_is_a_variable() {
        let chat = Chat::of([Message::new("user", "a")]);
        let text =
            "{{ tools is none }}{{ documents is none }}{{ tools is defined }}{{ bos_token }}{{ pad_token }}";
        assert_eq!(template(text).text(&chat, false).unwrap(), "TrueTrueTrue<s>");
    }

    #[test]
    fn a_key_that_the_template_does_not_print_is_named() {
        let mut chat = Chat::of([Message::new("user", "a"), Message::new("assistant", "b")]);
        chat.messages[1].set("reasoning_content", "why".into());
        chat.tools = Some(serde_json::json!([{ "name": "f" }]));
        assert_eq!(template(CHATML).ignored_keys(&chat).unwrap(), ["reasoning_content", "tools"]);
        let reading = format!("{{{{ tools }}}}{{{{ messages[1].reasoning_content }}}}{CHATML}");
        assert_eq!(template(&reading).ignored_keys(&chat).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_template_that_does_not_compile_says_why() {
        let source = ChatSource {
            template: "{% if %}".into(),
            tokens: BTreeMap::new(),
            date: TemplateDate::default(),
        };
        let error = ChatTemplate::new(source).unwrap_err();
        assert!(error.contains("syntax error") && error.contains("chat template:1"), "{error}");
    }
}
