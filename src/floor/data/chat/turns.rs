//! Locates the assistant's turns in a rendered chat.
//!
//! A turn starts where the rendering of the messages before it, with the generation prompt, ends. It ends where the
//! rendering of the messages up to it ends. Many templates render earlier turns differently from the last one
//! (reasoning removed, a suffix after the last message), so these renderings need not be prefixes of the whole. Such a
//! turn is found by replacing its message and diffing the whole rendering.

use std::ops::Range;

use super::ChatTemplate;
use super::message::{Chat, Message};
use crate::data::template::{Part, RenderError};
use crate::jinja::Generated;

/// Strings without a common letter that replace a message's content to locate it.
const PROBES: [&str; 2] = ["qzqzqz", "XKXKXK"];

/// A turn in the rendered chat.
struct Turn {
    /// The byte range of the model's output in the rendered chat, with the turn's end.
    span: Range<usize>,
    /// Where the message's content ends.
    content_end: usize,
    trained: bool,
}

/// The segments of a chat whose template marks generated spans. Error: loss flags where turns and spans are not one to
/// one.
pub(super) fn of_spans(whole: &Generated, chat: &Chat) -> Result<Vec<Part>, RenderError> {
    let assistants: Vec<bool> = chat
        .messages
        .iter()
        .zip(&chat.trained)
        .filter(|(message, _)| message.role() == "assistant")
        .map(|(_, trained)| *trained)
        .collect();
    if assistants.contains(&false) && assistants.len() != whole.spans.len() {
        let reason =
            "turns are excluded from the loss, and the template does not mark one span for each turn";
        return Err(RenderError::Template(reason.to_owned()));
    }
    let turn = |(place, span): (usize, &Range<usize>)| Turn {
        span: span.clone(),
        // The whole span is model output.
        content_end: span.end,
        trained: assistants.get(place).copied().unwrap_or(true),
    };
    Ok(parts(&whole.text, whole.spans.iter().enumerate().map(turn).collect()))
}

/// The segments of a chat, turns found by rendering parts of it. Errors: the template fails; a turn is not found.
pub(super) fn located(template: &ChatTemplate, whole: &str, chat: &Chat) -> Result<Vec<Part>, RenderError> {
    let finder = Finder { template, whole, chat };
    let mut turns: Vec<Turn> = Vec::new();
    for (place, message) in chat.messages.iter().enumerate().filter(|(_, m)| m.role() == "assistant") {
        let after = turns.last().map_or(0, |turn| turn.span.end);
        let trained = chat.trained.get(place).copied().unwrap_or(true);
        let span = match finder.by_prefixes(place).filter(|span| span.start >= after) {
            Some(span) => span,
            None => finder.by_difference(place, after)?,
        };
        let content = message.content().trim_end();
        let text = &whole[span.clone()];
        let content_end = span.start
            + text.rfind(content).filter(|_| !content.is_empty()).map_or(0, |at| at + content.len());
        turns.push(Turn { span, content_end, trained });
    }
    Ok(parts(whole, turns))
}

struct Finder<'a> {
    template: &'a ChatTemplate,
    whole: &'a str,
    chat: &'a Chat,
}

impl Finder<'_> {
    /// A message's turn between two prefixes of the rendered chat.
    fn by_prefixes(&self, place: usize) -> Option<Range<usize>> {
        let start = self.template.text(&self.chat.until(place), true).ok()?;
        let end = self.template.text(&self.chat.until(place + 1), false).ok()?;
        let fits = self.whole.starts_with(&start) && self.whole.starts_with(&end) && start.len() <= end.len();
        fits.then_some(start.len()..end.len())
    }

    /// A message's turn found by replacing the message, with the template's end of turn. Errors: the template fails;
    /// nothing changes.
    fn by_difference(&self, place: usize, after: usize) -> Result<Range<usize>, RenderError> {
        let lost = || {
            RenderError::Template(format!(
                "the text of message {} (assistant) is not found in the rendered chat; mark it with {{% generation %}} in the template",
                place + 1
            ))
        };
        let with = |probe: &str| {
            let mut other = self.chat.clone();
            other.messages[place] = Message::new("assistant", probe);
            self.template.text(&other, false)
        };
        let mut found: Option<Range<usize>> = None;
        for probe in PROBES {
            let span = difference(self.whole, &with(probe)?);
            found = Some(
                found.map_or(span.clone(), |known| known.start.min(span.start)..known.end.max(span.end)),
            );
        }
        let content = found.filter(|span| span.start >= after).ok_or_else(lost)?;
        if content.is_empty() && !self.chat.messages[place].content().is_empty() {
            return Err(lost());
        }
        let prompt = self.generation_prompt()?;
        let before = self.whole[..content.start].trim_end_matches([' ', '\n']);
        let at_prompt = before.ends_with(prompt.trim_end()) && !prompt.is_empty();
        let start = if at_prompt && self.whole[..content.start].ends_with(&prompt) {
            content.start
        } else if at_prompt {
            (before.len() + (prompt.len() - prompt.trim_end().len())).min(content.start)
        } else {
            content.start
        };
        let ending = self.ending()?;
        let same = self.whole[content.end..].bytes().zip(ending.bytes()).take_while(|(a, b)| a == b).count();
        let mut end = content.end + same;
        while !self.whole.is_char_boundary(end) {
            end -= 1;
        }
        Ok(start.max(after)..end)
    }

    /// The template's prefix of an answer.
    fn generation_prompt(&self) -> Result<String, RenderError> {
        let chat = Chat { tools: None, documents: None, ..Chat::of([Message::new("user", PROBES[0])]) };
        let (with, without) = (self.template.text(&chat, true)?, self.template.text(&chat, false)?);
        Ok(with.strip_prefix(&without).unwrap_or_default().to_owned())
    }

    /// The template's suffix after the last answer of a chat.
    fn ending(&self) -> Result<String, RenderError> {
        let answered = Chat::of([Message::new("user", PROBES[1]), Message::new("assistant", PROBES[0])]);
        let text = self.template.text(&answered, false)?;
        Ok(text.rfind(PROBES[0]).map(|at| text[at + PROBES[0].len()..].to_owned()).unwrap_or_default())
    }
}

/// The part of `whole` that differs in `other`.
fn difference(whole: &str, other: &str) -> Range<usize> {
    let (a, b) = (whole.as_bytes(), other.as_bytes());
    let mut start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    while !whole.is_char_boundary(start) {
        start -= 1;
    }
    let most = a.len().min(b.len()) - start;
    let same = a.iter().rev().zip(b.iter().rev()).take(most).take_while(|(x, y)| x == y).count();
    let mut end = a.len() - same;
    while !whole.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// The rendered chat, split at the turns.
fn parts(whole: &str, turns: Vec<Turn>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut at = 0;
    for Turn { span, content_end, trained } in turns {
        parts.push(Part::prompt(&whole[at..span.start]));
        parts.push(Part {
            text: whole[span.clone()].to_owned(),
            assistant: true,
            trained,
            content_end: content_end - span.start,
        });
        at = span.end;
    }
    if at < whole.len() {
        parts.push(Part::prompt(&whole[at..]));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CHATML, template};
    use super::*;

    fn spans(source: &str, messages: &[(&str, &str)]) -> Vec<String> {
        let chat = Chat::of(messages.iter().map(|(role, content)| Message::new(role, *content)));
        let parts = template(source).render(&chat).unwrap();
        let whole: String = parts.iter().map(|part| part.text.as_str()).collect();
        assert_eq!(whole, template(source).text(&chat, false).unwrap());
        parts.into_iter().filter(|part| part.assistant).map(|part| part.text).collect()
    }

    const TALK: [(&str, &str); 4] = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")];

    #[test]
    fn each_turn_is_from_the_generation_prompt_to_its_end() {
        assert_eq!(spans(CHATML, &TALK), ["b<end>\n", "d<end>\n"]);
    }

    #[test]
    fn a_template_that_writes_earlier_turns_otherwise_has_its_turns_found() {
        let thinking = "{% for m in messages %}<{{m.role}}>{% if loop.last and m.role == 'assistant' %}<think></think>{% endif %}{{m.content}}<end>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        assert_eq!(spans(thinking, &TALK), ["b<end>\n", "<think></think>d<end>\n"]);
        let counted = format!("{{{{ messages|length }}}}{CHATML}after");
        assert_eq!(spans(&counted, &TALK), ["b<end>\n", "d<end>\nafter"]);
    }

    #[test]
    fn a_chat_may_begin_with_the_assistant_and_end_with_the_user() {
        let first = format!("{{% if messages[0].role != 'system' %}}<system>S<end>\n{{% endif %}}{CHATML}");
        assert_eq!(spans(&first, &[("assistant", "Welcome."), ("user", "Hi")]), ["Welcome.<end>\n"]);
    }

    #[test]
    fn generation_tags_say_what_is_scored() {
        let tagged = "{% for m in messages %}<{{m.role}}>{% if m.role == 'assistant' %}{% generation %}{{m.content}}!{% endgeneration %}{% else %}{{m.content}}{% endif %}{% endfor %}";
        assert_eq!(spans(tagged, &TALK), ["b!", "d!"]);
    }

    #[test]
    fn a_turn_that_the_template_leaves_out_is_an_error() {
        let chat = Chat::of([Message::new("user", "a"), Message::new("assistant", "b")]);
        assert!(template("{{ messages[0].content }}{{ messages|length }}").render(&chat).is_err());
    }
}
