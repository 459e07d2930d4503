//! Messages of a chat with all their keys.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::jinja::data;

/// Names of a message's reasoning key; templates read the first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
/// Flags that say whether the loss scores a message; they are not passed to the template.
pub(super) const TRAINED_BY: [&str; 5] = ["weight", "train", "training", "loss", "loss_mask"];

/// A chat message with all its keys, as passed to templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Json>);

impl Message {
    /// A message with only a role and a string.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        let pairs = [("role", Json::from(role)), ("content", Json::from(content.into()))];
        Self(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// A message with these keys, as transformers passes it on: without nulls, reasoning under the name that templates
    /// read.
    pub(super) fn of(keys: &Map<String, Json>) -> Self {
        let kept = keys.iter().filter(|(_, value)| !value.is_null());
        let mut message: Map<String, Json> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
        let reasoning = REASONING.iter().find_map(|name| message.get(*name)).cloned();
        if let Some(reasoning) = reasoning {
            if !message.contains_key("thinking") {
                message.shift_insert(0, "thinking".to_owned(), reasoning.clone());
            }
            message.insert("reasoning_content".to_owned(), reasoning);
        }
        Self(message)
    }

    /// The template's input.
    pub(super) fn data(&self) -> minijinja::Value {
        data(&Json::Object(self.0.clone()))
    }

    /// The role: system, user, assistant, tool.
    pub fn role(&self) -> &str {
        self.text("role")
    }

    /// The content, if it is a string.
    pub fn content(&self) -> &str {
        self.text("content")
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        self.0.get(key)
    }

    pub(super) fn set(&mut self, key: &str, value: Json) {
        self.0.insert(key.to_owned(), value);
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Json> {
        self.0.shift_remove(key)
    }

    /// Appends to its content.
    pub(super) fn append(&mut self, text: &str) {
        let content = format!("{}{text}", self.content());
        self.set("content", content.into());
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Json::as_str).unwrap_or_default()
    }
}

/// A chat: the template's input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chat {
    /// The messages.
    pub messages: Vec<Message>,
    /// Tools that the assistant may call.
    pub tools: Option<Json>,
    /// Documents for retrieval.
    pub documents: Option<Json>,
    /// Whether the loss may score each message; as long as `messages`.
    pub(super) trained: Vec<bool>,
}

impl Chat {
    /// Messages without tools or documents.
    pub fn of(messages: impl IntoIterator<Item = Message>) -> Self {
        let messages: Vec<Message> = messages.into_iter().collect();
        let trained = vec![true; messages.len()];
        Self { messages, trained, ..Self::default() }
    }

    /// The first `count` messages.
    pub(super) fn until(&self, count: usize) -> Self {
        Self { messages: self.messages[..count].to_vec(), ..self.clone() }
    }

    /// Keys other than role and content.
    pub(super) fn optional_keys(&self) -> BTreeSet<String> {
        let keys = self.messages.iter().flat_map(|message| message.0.keys());
        let mut keys: BTreeSet<String> =
            keys.filter(|key| !["role", "content", "thinking"].contains(&key.as_str())).cloned().collect();
        keys.extend(self.tools.is_some().then(|| "tools".to_owned()));
        keys.extend(self.documents.is_some().then(|| "documents".to_owned()));
        keys
    }

    /// The chat without a key, either of its messages or of the chat itself.
    pub(super) fn without(&self, key: &str) -> Self {
        let mut chat = self.clone();
        match key {
            "tools" => chat.tools = None,
            "documents" => chat.documents = None,
            _ => {}
        }
        for message in &mut chat.messages {
            message.take(key);
            if key == "reasoning_content" {
                message.take("thinking");
            }
        }
        chat
    }
}
