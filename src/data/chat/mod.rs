//! Chat templates in Jinja, as tokenizers carry them and transformers renders them.

use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};
use serde::Serialize;

use super::template::{Part, RenderError};
use crate::checkpoint::ModelTokenizer;

/// What stands at the end of a message that the model goes on with, so that it is found in the rendered text.
const CONTINUED: &str = "LORAGRID GOES ON HERE ";

/// A chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

/// A message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who says it: system, user or assistant.
    pub role: String,
    /// What.
    pub content: String,
}

impl ChatTemplate {
    /// A template with the texts of the two special tokens that templates ask for. Error: it does not compile.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        // transformers renders chat templates with these two.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |reason: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
        });
        environment.add_template_owned("chat", source.to_owned()).map_err(|error| error.to_string())?;
        Ok(Self { environment, source: source.to_owned(), bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// A template with a tokenizer's special tokens. Error: it does not compile.
    pub fn of(source: &str, tokenizer: &ModelTokenizer) -> Result<Self, String> {
        let text =
            |token: Option<u32>| token.and_then(|token| tokenizer.decode(&[token]).ok()).unwrap_or_default();
        Self::new(source, &text(tokenizer.bos()), &text(tokenizer.eos()))
    }

    /// The template's own text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The texts of BOS and EOS.
    pub fn special(&self) -> (&str, &str) {
        (&self.bos, &self.eos)
    }

    /// The text of a chat, with what makes the assistant speak behind it or not. Error: the template fails.
    pub fn text(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, RenderError> {
        let fail = |error: minijinja::Error| {
            let detail = error.detail().map(str::to_owned);
            RenderError::Template(detail.unwrap_or_else(|| error.to_string()))
        };
        let template = self.environment.get_template("chat").map_err(fail)?;
        let values = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos,
            eos_token => self.eos,
        };
        template.render(values).map_err(fail)
    }

    /// The text of a chat up to the end of its last message, which the model goes on with: transformers'
    /// `continue_final_message`. Errors: the template fails, or leaves the message out.
    pub fn continued(&self, messages: &[Message]) -> Result<String, RenderError> {
        let mut marked = messages.to_vec();
        if let Some(last) = marked.last_mut() {
            last.content += CONTINUED;
        }
        let text = self.text(&marked, false)?;
        let missing = || RenderError::Template("the last message is not in the rendered chat".to_owned());
        let at = text.rfind(CONTINUED.trim_end()).ok_or_else(missing)?;
        let before = &text[..at];
        // A template that trims messages has taken the mark's own space, and would have taken what stood before it.
        Ok(if text[at..].starts_with(CONTINUED) { before } else { before.trim_end() }.to_owned())
    }

    /// Cuts the whole text at the turns of the assistant: a turn starts where the text of the messages before it ends
    /// with the generation prompt, and ends where the text of the messages up to it ends.
    pub(super) fn render(&self, messages: &[Message]) -> Result<Vec<Part>, RenderError> {
        let whole = self.text(messages, false)?;
        let changes =
            || RenderError::Template("a later message changes the text of an earlier one".to_owned());
        let mut parts = Vec::new();
        let mut at = 0;
        for (number, _) in messages.iter().enumerate().filter(|(_, message)| message.role == "assistant") {
            let start = self.text(&messages[..number], true)?;
            let end = self.text(&messages[..=number], false)?;
            if !whole.starts_with(&start)
                || !whole.starts_with(&end)
                || start.len() < at
                || end.len() < start.len()
            {
                return Err(changes());
            }
            parts.push(Part { text: whole[at..start.len()].to_owned(), assistant: false });
            parts.push(Part { text: whole[start.len()..end.len()].to_owned(), assistant: true });
            at = end.len();
        }
        if at < whole.len() {
            parts.push(Part { text: whole[at..].to_owned(), assistant: false });
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for m in messages %}<{{m.role}}>{{m.content}}<end>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

    fn said(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn a_last_message_is_gone_on_with_where_it_ends() {
        let chat = [said("user", "a"), said("assistant", "The answer is ")];
        let kept = ChatTemplate::new(CHATML, "", "").unwrap().continued(&chat).unwrap();
        assert_eq!(kept, "<user>a<end>\n<assistant>The answer is ");
        let trimming = CHATML.replace("m.content", "m.content|trim");
        let trimmed = ChatTemplate::new(&trimming, "", "").unwrap().continued(&chat).unwrap();
        assert_eq!(trimmed, "<user>a<end>\n<assistant>The answer is");
        let silent = ChatTemplate::new("{{ messages|length }}", "", "").unwrap();
        assert!(silent.continued(&chat).is_err());
    }
}
