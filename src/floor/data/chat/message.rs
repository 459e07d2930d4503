//! Messages of a chat: everything that a row says of them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::jinja::data;

/// Names under which a message's reasoning is found; templates read the first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
/// Flags of a message that say whether the loss scores it: they are not the template's.
pub(super) const TRAINED_BY: [&str; 5] = ["weight", "train", "training", "loss", "loss_mask"];

/// A message of a chat with all its keys, as templates are given it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Json>);

impl Message {
    /// A message that is a role and a text.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        let pairs = [("role", Json::from(role)), ("content", Json::from(content.into()))];
        Self(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// A message with these keys, as transformers passes it on: without those that are null, reasoning under the name that
    /// templates read.
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

    /// What a template is given.
    pub(super) fn data(&self) -> minijinja::Value {
        data(&Json::Object(self.0.clone()))
    }

    /// Who says it: system, user, assistant, tool.
    pub fn role(&self) -> &str {
        self.text("role")
    }

    /// What it says, where that is a string.
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

    /// Adds to the end of its text.
    pub(super) fn append(&mut self, text: &str) {
        let content = format!("{}{text}", self.content());
        self.set("content", content.into());
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Json::as_str).unwrap_or_default()
    }
}

/// A chat: what a template is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chat {
    /// The messages.
    pub messages: Vec<Message>,
    /// Descriptions of the tools that the assistant may call.
    pub tools: Option<Json>,
    /// Documents to answer from.
    pub documents: Option<Json>,
    /// For each message whether the loss may score it; as long as `messages`.
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

    /// Keys beside role and content.
    pub(super) fn optional_keys(&self) -> BTreeSet<String> {
        let keys = self.messages.iter().flat_map(|message| message.0.keys());
        let mut keys: BTreeSet<String> =
            keys.filter(|key| !["role", "content", "thinking"].contains(&key.as_str())).cloned().collect();
        keys.extend(self.tools.is_some().then(|| "tools".to_owned()));
        keys.extend(self.documents.is_some().then(|| "documents".to_owned()));
        keys
    }

    /// The chat without a key, be it of its messages or its own.
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
