//! A tokenizer's chat templates: one, or several by name.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use super::TokenizerError;

/// transformers' folder for templates other than the default.
const FOLDER: &str = "additional_chat_templates";
const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// Chat templates in Jinja, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct ChatTemplates(BTreeMap<String, String>);

impl ChatTemplates {
    /// Only a default template, or none.
    pub(super) fn one(template: Option<String>) -> Self {
        Self(template.into_iter().map(|template| (DEFAULT.to_owned(), template)).collect())
    }

    /// A folder's templates: separate files take precedence over `tokenizer_config.json`. Error: unreadable, malformed.
    pub(super) fn of_folder(folder: &Path, configured: Option<&Json>) -> Result<Self, TokenizerError> {
        let mut files = vec![(DEFAULT.to_owned(), folder.join("chat_template.jinja"))];
        for entry in std::fs::read_dir(folder.join(FOLDER)).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|ending| ending == "jinja")
                && let Some(name) = path.file_stem()
            {
                files.push((name.to_string_lossy().into_owned(), path));
            }
        }
        let mut templates = BTreeMap::new();
        for (name, path) in files.into_iter().filter(|(_, path)| path.is_file()) {
            let text = std::fs::read_to_string(&path).map_err(|error| TokenizerError::Malformed {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            templates.insert(name, text);
        }
        if !templates.is_empty() {
            return Ok(Self(templates));
        }
        let malformed = || TokenizerError::Malformed {
            path: folder.join("tokenizer_config.json"),
            reason: "chat_template must be a string, or a list of objects with name and template".to_owned(),
        };
        match configured {
            None | Some(Json::Null) => Ok(Self::default()),
            Some(Json::String(text)) => Ok(Self::one(Some(text.clone()))),
            Some(Json::Array(items)) => {
                let pair = |item: &Json| {
                    Some((item["name"].as_str()?.to_owned(), item["template"].as_str()?.to_owned()))
                };
                items.iter().map(pair).collect::<Option<_>>().map(Self).ok_or_else(malformed)
            }
            Some(_) => Err(malformed()),
        }
    }

    /// The template for a chat, with or without tools.
    pub(super) fn of_chat(&self, tools: bool) -> Option<&str> {
        let tool_use = tools.then(|| self.named(TOOL_USE)).flatten();
        tool_use.or_else(|| self.named(DEFAULT))
    }

    pub(super) fn named(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_have_names_and_files_go_before_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let listed = json!([{ "name": "default", "template": "D" }, { "name": "tool_use", "template": "T" }]);
        let templates = ChatTemplates::of_folder(folder.path(), Some(&listed)).unwrap();
        assert_eq!((templates.of_chat(false), templates.of_chat(true)), (Some("D"), Some("T")));
        std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
        std::fs::write(folder.path().join(FOLDER).join("rag.jinja"), "R").unwrap();
        let templates = ChatTemplates::of_folder(folder.path(), Some(&listed)).unwrap();
        assert_eq!((templates.of_chat(true), templates.named("rag")), (None, Some("R")));
        assert!(ChatTemplates::of_folder(&folder.path().join("no"), Some(&json!(1))).is_err());
    }
}
