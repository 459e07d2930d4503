//! Chat templates modeled on published ones, rendered as in transformers: `tests/reference/chat`, made by
//! `tests/reference/make_chat.py`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value as Json;

use super::{Chat, ChatSource, ChatTemplate, Message, RenderError};
use crate::jinja::TemplateDate;

/// Templates for single features in which the template library is known to differ; no published template of a supported
/// family needs those features.
const FEATURES: &[&str] = &[
    "corner_filters",
    "corner_numbers",
    "corner_repr",
    "corner_strings",
    "corner_tests",
    "corner_tuples",
    "dict_methods",
    "filters",
    "percent_format",
    "strings",
    "tests",
    "values",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/chat")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

fn conversations() -> BTreeMap<String, Chat> {
    let json: Vec<Json> = serde_json::from_str(&read("conversations.json")).unwrap();
    let chat = |entry: &Json| {
        let messages = entry["messages"].as_array().unwrap();
        let mut chat = Chat::of(messages.iter().map(|message| Message::of(message.as_object().unwrap())));
        chat.tools = entry.get("tools").cloned();
        chat.documents = entry.get("documents").cloned();
        (entry["name"].as_str().unwrap().to_owned(), chat)
    };
    json.iter().map(chat).collect()
}

fn template(name: &str) -> ChatTemplate {
    let tokens =
        [("bos_token", "<s>"), ("eos_token", "</s>"), ("pad_token", "<pad>"), ("unk_token", "<unk>")];
    let tokens = tokens.map(|(name, token)| (name.to_owned(), token.to_owned())).into();
    let date = TemplateDate::parse("2024-07-26").unwrap();
    ChatTemplate::new(ChatSource { template: read(&format!("{name}.jinja")), tokens, date }).unwrap()
}

/// The difference between a rendering and the expected one.
fn difference(rendering: &Json, template: &ChatTemplate, chat: &Chat) -> Option<String> {
    let prompt = rendering["add_generation_prompt"].as_bool().unwrap();
    let rendered = template.generated(chat, prompt);
    match (&rendered, rendering["text"].as_str(), rendering["error"].as_str()) {
        (Ok(generated), Some(text), _) => {
            if generated.text != text {
                return Some(format!("{:?}\nwant {text:?}", generated.text));
            }
            let spans = rendering.get("spans").and_then(Json::as_array)?;
            let place = |byte: usize| generated.text[..byte].chars().count() as u64;
            let generated_spans: Vec<Json> = generated
                .spans
                .iter()
                .map(|span| serde_json::json!([place(span.start), place(span.end)]))
                .collect();
            (&generated_spans != spans).then(|| format!("spans {generated_spans:?}\nwant {spans:?}"))
        }
        (Err(RenderError::Template(reason)), None, Some(error)) => {
            (!reason.contains(error)).then(|| format!("error {reason:?}\nwant {error:?}"))
        }
        // Where Python fails, lenient parsing does no harm: transformers never renders such a chat.
        (_, None, None) => None,
        (rendered, ..) => Some(format!("{rendered:?}\nwant {rendering}")),
    }
}

#[test]
fn templates_of_published_families_are_rendered_as_transformers_renders_them() {
    let expected: Json = serde_json::from_str(&read("expected.json")).unwrap();
    let conversations = conversations();
    let mut templates: BTreeMap<String, ChatTemplate> = BTreeMap::new();
    let (mut checked, mut wrong) = (0, Vec::new());
    for rendering in expected["renderings"].as_array().unwrap() {
        let name = rendering["template"].as_str().unwrap();
        if FEATURES.contains(&name) {
            continue;
        }
        let template = templates.entry(name.to_owned()).or_insert_with(|| template(name));
        let conversation = rendering["conversation"].as_str().unwrap();
        checked += 1;
        if let Some(difference) = difference(rendering, template, &conversations[conversation]) {
            wrong.push(format!("{name}, {conversation}: {difference}"));
        }
    }
    assert!(templates.len() >= 48 && checked > 900, "{} templates, {checked} renderings", templates.len());
    assert!(wrong.is_empty(), "{} of {checked} differ:\n{}", wrong.len(), wrong.join("\n"));
}
