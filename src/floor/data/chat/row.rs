//! The chat in a row: `messages` with role and content, `conversations` with from and value (ShareGPT), or a question
//! and its answer after the pairs in `history`.

use serde_json::{Map, Value as Json, json};

use super::message::{Chat, Message, TRAINED_BY};
use crate::data::rows::Row;
use crate::data::template::{RenderError, column, optional};

/// Roles in chat templates.
const ROLES: [&str; 8] = ["system", "developer", "user", "assistant", "tool", "function", "ipython", "model"];

/// The chat in a row, with notes for the user. Errors: no chat in the row, a message without content, an unknown
/// ShareGPT role.
pub(in crate::data) fn chat_of(row: &Row) -> Result<(Chat, Vec<String>), RenderError> {
    let mut notes = Vec::new();
    let list = ["messages", "conversations"].into_iter().find_map(|name| Some((name, row.get(name)?)));
    let mut chat = match list.filter(|(_, list)| !list.is_null()) {
        Some((name, list)) => listed(name, list, &mut notes)?,
        None => Chat::of(pairs(row)?),
    };
    let is_sharegpt = list.is_some_and(|(name, _)| name == "conversations");
    if let Some(system) = optional(row, &["system"]).filter(|text| !text.is_empty())
        && chat.messages.first().is_none_or(|first| first.role() != "system")
    {
        chat.messages.insert(0, Message::new("system", system));
        chat.trained.insert(0, true);
    }
    chat.tools = parsed(row, "tools")?.map(|tools| if is_sharegpt { as_functions(tools) } else { tools });
    chat.documents = parsed(row, "documents")?;
    Ok((chat, notes))
}

/// A column with a list, or a list as a JSON string.
fn parsed(row: &Row, name: &str) -> Result<Option<Json>, RenderError> {
    let value = match row.get(name) {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Json::String(text)) => serde_json::from_str(text)
            .map_err(|error| RenderError::Row(format!("the column '{name}' is not JSON: {error}")))?,
        Some(other) => other.clone(),
    };
    match value {
        Json::Array(items) if items.is_empty() => Ok(None),
        list @ Json::Array(_) => Ok(Some(list)),
        _ => Err(RenderError::Row(format!("the column '{name}' must be a list"))),
    }
}

/// Tool definitions in the form that templates read.
fn as_functions(tools: Json) -> Json {
    let wrap = |mut tool: Json| {
        if tool.get("function").is_some() {
            return tool;
        }
        if let Some(parameters) = tool.get_mut("parameters") {
            as_schema(parameters);
        }
        json!({ "type": "function", "function": tool })
    };
    match tools {
        Json::Array(items) => items.into_iter().map(wrap).collect(),
        other => other,
    }
}

/// Parameter names and types as a JSON schema.
fn as_schema(parameters: &mut Json) {
    let Some(names) = parameters.as_object().filter(|names| {
        !names.is_empty() && !names.contains_key("properties") && names.values().all(Json::is_string)
    }) else {
        return;
    };
    let typed = |(name, kind): (&String, &Json)| (name.clone(), json!({ "type": kind }));
    let properties: serde_json::Map<String, Json> = names.iter().map(typed).collect();
    *parameters = json!({ "type": "object", "properties": properties });
}

fn listed(name: &str, list: &Json, notes: &mut Vec<String>) -> Result<Chat, RenderError> {
    let wrong = |reason: &str| RenderError::Row(format!("the column '{name}' {reason}"));
    let items = list.as_array().ok_or_else(|| wrong("must be a list of messages"))?;
    if items.is_empty() {
        return Err(wrong("has no messages"));
    }
    let mut chat = Chat::default();
    for (place, item) in items.iter().enumerate() {
        let number = place + 1;
        let keys = item
            .as_object()
            .ok_or_else(|| RenderError::Row(format!("message {number} of '{name}' must be an object")))?;
        let mut message = if keys.contains_key("from") { sharegpt(keys, number)? } else { Message::of(keys) };
        let trained = trained(&mut message, number, notes)?;
        check(&message, number, notes)?;
        chat.messages.push(message);
        chat.trained.push(trained);
    }
    Ok(chat)
}

/// Takes a message's training flags. Errors: a flag that is not a boolean.
fn trained(message: &mut Message, number: usize, notes: &mut Vec<String>) -> Result<bool, RenderError> {
    let mut trained = true;
    for name in TRAINED_BY {
        let Some(flag) = message.take(name) else { continue };
        let yes =
            flag.as_bool().or_else(|| flag.as_f64().filter(|x| *x == 0.0 || *x == 1.0).map(|x| x == 1.0));
        let yes = yes.ok_or_else(|| {
            RenderError::Row(format!("message {number}: '{name}' must be 0, 1, true or false, found {flag}"))
        })?;
        if yes && message.role() != "assistant" && name != "weight" {
            notes.push(format!(
                "'{name}' selects a turn of '{}' for the loss; expected a turn of the assistant",
                message.role()
            ));
        }
        trained &= yes;
    }
    Ok(trained)
}

/// Required keys of a message.
fn check(message: &Message, number: usize, notes: &mut Vec<String>) -> Result<(), RenderError> {
    let role = message.role();
    if role.is_empty() {
        return Err(RenderError::Row(format!("message {number} has no role")));
    }
    if !ROLES.contains(&role) {
        notes.push(format!("the role '{role}' is passed to the template as it is and never scored"));
    }
    let says = |key: &str| {
        message.get(key).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty()))
    };
    if !["content", "tool_calls", "function_call", "reasoning_content"].into_iter().any(says) {
        return Err(RenderError::Row(format!("message {number} ({role}) has no content")));
    }
    if role == "assistant"
        && message.get("content").is_some_and(|content| content == "")
        && !says("tool_calls")
    {
        notes.push("a turn of the assistant is empty".to_owned());
    }
    match message.get("content") {
        None | Some(Json::String(_)) => Ok(()),
        Some(Json::Array(parts)) => match parts.iter().find(|part| part["type"] != "text") {
            Some(part) => Err(RenderError::Row(format!(
                "message {number} has a part of type {}; only text is trained on",
                part["type"]
            ))),
            None => Ok(()),
        },
        Some(other) => Err(RenderError::Row(format!(
            "message {number} ({role}): content must be a string, found {other}"
        ))),
    }
}

/// A message in ShareGPT's format. Errors: an unknown role, a call that is not JSON.
fn sharegpt(keys: &Map<String, Json>, number: usize) -> Result<Message, RenderError> {
    let from = keys["from"].as_str().unwrap_or_default();
    let role = match from {
        "human" | "user" => "user",
        "gpt" | "assistant" | "chatgpt" | "bing" | "bard" | "model" | "function_call" => "assistant",
        "observation" | "tool" | "function_response" | "tool_response" => "tool",
        "system" => "system",
        other => return Err(RenderError::Row(format!("message {number} has the unknown role '{other}'"))),
    };
    let others = keys.iter().filter(|(key, _)| *key != "from" && *key != "value");
    let mut message: Map<String, Json> = Map::new();
    message.insert("role".to_owned(), role.into());
    let value = keys.get("value").cloned().unwrap_or_default();
    if from == "function_call" {
        let call: Result<Json, _> = serde_json::from_str(value.as_str().unwrap_or_default());
        let call = call.map_err(|error| {
            RenderError::Row(format!("message {number}: function_call is not JSON: {error}"))
        })?;
        let calls = if let Json::Array(calls) = call { calls } else { vec![call] };
        message.insert("tool_calls".to_owned(), as_functions(Json::Array(calls)));
    } else {
        message.insert("content".to_owned(), value);
    }
    message.extend(others.map(|(key, value)| (key.clone(), value.clone())));
    Ok(Message::of(&message))
}

/// A question and its answer, after the pairs in `history`.
fn pairs(row: &Row) -> Result<Vec<Message>, RenderError> {
    let mut chat = Vec::new();
    for pair in row.get("history").and_then(|history| history.as_array()).into_iter().flatten() {
        let (Some(user), Some(assistant)) = (pair[0].as_str(), pair[1].as_str()) else {
            return Err(RenderError::Column("history"));
        };
        chat.extend([Message::new("user", user), Message::new("assistant", assistant)]);
    }
    let question = column(row, &["instruction", "question"])?;
    let user = match optional(row, &["input", "context"]).unwrap_or_default() {
        "" => question.to_owned(),
        input => format!("{question}\n\n{input}"),
    };
    chat.extend([
        Message::new("user", user),
        Message::new("assistant", column(row, &["output", "response", "answer"])?),
    ]);
    Ok(chat)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(json: &str) -> Result<(Chat, Vec<String>), String> {
        let row: Row = serde_json::from_str(json).unwrap();
        chat_of(&row).map_err(|error| match error {
            RenderError::Row(reason) | RenderError::Template(reason) => reason,
            RenderError::Column(column) => column.to_owned(),
        })
    }

    fn shown(chat: &Chat) -> String {
        serde_json::to_string(&chat.messages).unwrap()
    }

    #[test]
    fn messages_keep_all_their_keys_but_null_ones_and_flags_of_the_loss() {
        let (chat, notes) = chat(
            r#"{"messages":[{"role":"user","content":"a","name":"x"},{"role":"assistant","content":null,"weight":0,"tool_calls":[{"function":{"name":"f"}}]}]}"#,
        )
        .unwrap();
        assert_eq!(
            shown(&chat),
            r#"[{"role":"user","content":"a","name":"x"},{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}]"#
        );
        assert_eq!((chat.trained, notes.len()), (vec![true, false], 0));
    }

    #[test]
    fn reasoning_is_found_under_any_of_its_names() {
        let (chat, _) = chat(r#"{"messages":[{"role":"assistant","content":"a","reasoning":"r"}]}"#).unwrap();
        assert_eq!(chat.messages[0].get("reasoning_content"), Some(&"r".into()));
    }

    #[test]
    fn calls_and_results_of_sharegpt_are_tool_calls_and_tool_turns() {
        let (chat, _) = chat(
            r#"{"tools":"[{\"name\":\"f\"}]","system":"S","conversations":[{"from":"human","value":"a"},{"from":"function_call","value":"{\"name\":\"f\",\"arguments\":{}}"},{"from":"observation","value":"1"}]}"#,
        )
        .unwrap();
        let roles: Vec<&str> = chat.messages.iter().map(Message::role).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool"]);
        assert_eq!(chat.messages[2].get("tool_calls").unwrap()[0]["function"]["name"], "f");
        assert_eq!(chat.tools.unwrap()[0]["function"]["name"], "f");
    }

    #[test]
    fn a_message_that_says_nothing_and_a_role_that_is_not_known_are_named() {
        for (json, reason) in [
            (r#"{"messages":[]}"#, "the column 'messages' has no messages"),
            (r#"{"messages":[{"role":"assistant","content":null}]}"#, "message 1 (assistant) has no content"),
            (
                r#"{"conversations":[{"from":"critic","value":"y"}]}"#,
                "message 1 has the unknown role 'critic'",
            ),
            (
                r#"{"messages":[{"role":"assistant","content":"a","weight":0.5}]}"#,
                "message 1: 'weight' must be 0, 1, true or false, found 0.5",
            ),
            (
                r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#,
                "message 1 has a part of type \"image_url\"; only text is trained on",
            ),
            (
                r#"{"messages":[{"role":"user","content":"a"}],"tools":"x"}"#,
                "the column 'tools' is not JSON: expected value at line 1 column 1",
            ),
        ] {
            assert_eq!(chat(json).unwrap_err(), reason);
        }
        let (_, notes) =
            chat(r#"{"messages":[{"role":"critic","content":"a"},{"role":"assistant","content":""}]}"#)
                .unwrap();
        assert_eq!(notes.len(), 2, "{notes:?}");
    }
}
