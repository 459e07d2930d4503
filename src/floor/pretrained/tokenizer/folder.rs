//! The tokenizer of a Hugging Face folder, built from all its files as in transformers 5: `tokenizer.json` without its
//! saved truncation and padding, tokens of `added_tokens_decoder`, `added_tokens.json` and `extra_special_tokens`,
//! special tokens of `tokenizer_config.json` and `special_tokens_map.json`, chat templates from four locations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use tokenizers::{AddedToken, Tokenizer};

use super::templates::ChatTemplates;
use super::{ModelTokenizer, TokenizerError};
use crate::pretrained::generation_defaults::GenerationDefaults;

/// Special tokens of any tokenizer.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Keys of `tokenizer_config.json` that are read here.
const READ: [&str; 7] = [
    "added_tokens_decoder",
    "additional_special_tokens",
    "extra_special_tokens",
    "chat_template",
    "split_special_tokens",
    "tokenizer_class",
    "model_specific_special_tokens",
];
/// Keys of `tokenizer_config.json` that do not affect tokenization: transformers ignores them if `tokenizer.json` exists.
const IDLE: [&str; 39] = [
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "additional_special_tokens_ids",
    "auto_map",
    "backend",
    "clean_up_tokenization_spaces",
    "do_lower_case",
    "errors",
    "extra_ids",
    "fast_tokenizer_files",
    "fix_mistral_regex",
    "from_slow",
    "init_inputs",
    "is_local",
    "legacy",
    "local_files_only",
    "max_length",
    "max_length_single_sentence",
    "model_input_names",
    "model_max_length",
    "name_or_path",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "padding_side",
    "processor_class",
    "response_schema",
    "sp_model_kwargs",
    "spaces_between_special_tokens",
    "special_tokens_map_file",
    "stride",
    "tokenizer_file",
    "trim_offsets",
    "truncation_side",
    "truncation_strategy",
    "use_default_system_prompt",
    "use_fast",
    "vocab_file",
    "transformers_version",
];

/// The files of a tokenizer beside `tokenizer.json`.
pub(in crate::pretrained) const FILES: [&str; 6] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
];

/// A folder's files, parsed.
struct Files<'a> {
    folder: &'a Path,
    tokenizer_config: Map<String, Json>,
    config: Map<String, Json>,
    generation_config: Map<String, Json>,
}

/// Reads a folder's tokenizer. Errors: none found, a file that is not JSON, inconsistent files.
pub(super) fn read(folder: &Path) -> Result<ModelTokenizer, TokenizerError> {
    let path = folder.join("tokenizer.json");
    if !path.is_file() {
        return Err(TokenizerError::None { path: folder.to_owned() });
    }
    let malformed = |reason: String| TokenizerError::Malformed { path: path.clone(), reason };
    let mut inner = Tokenizer::from_file(&path).map_err(|e| malformed(e.to_string()))?;
    // Trainers save the tokenizer as last used; transformers resets both at each call.
    inner.with_truncation(None).map_err(|e| malformed(e.to_string()))?;
    inner.with_padding(None);
    let files = Files {
        folder,
        tokenizer_config: read_json(folder, "tokenizer_config.json")?.unwrap_or_default(),
        config: read_json(folder, "config.json")?.unwrap_or_default(),
        generation_config: read_json(folder, "generation_config.json")?.unwrap_or_default(),
    };
    let mut special = files.special_tokens()?;
    files.add_tokens(&mut inner, &special)?;
    if files.tokenizer_config.get("split_special_tokens") == Some(&Json::Bool(true)) {
        inner.set_encode_special_tokens(true);
    }
    let mut notes = files.unknown_keys();
    for (name, key) in [("bos_token", "bos_token_id"), ("eos_token", "eos_token_id")] {
        // Null is a value: Qwen's tokenizers have no BOS, even if the model's configuration names one.
        let token = match special.get(name) {
            Some(_) => continue,
            None => files.config_token(key, &inner),
        };
        if let Some(token) = token {
            notes.push(format!(
                "{name} is not named by the tokenizer; '{token}' is taken from {key} of config.json"
            ));
            special.insert(name.to_owned(), Some(token));
        }
    }
    let tokens: BTreeMap<String, String> =
        special.into_iter().filter_map(|(name, token)| Some((name, token?))).collect();
    let id = |name: &str| tokens.get(name).and_then(|token| inner.token_to_id(token));
    let (bos, eos) = (id("bos_token"), id("eos_token"));
    let templates = ChatTemplates::of_folder(folder, files.tokenizer_config.get("chat_template"))?;
    let ends = files.end_tokens(eos);
    let generation = GenerationDefaults::read(&files.generation_config);
    ModelTokenizer::new(inner, (bos, eos), tokens, templates, ends).map(|tokenizer| ModelTokenizer {
        notes,
        generation,
        ..tokenizer
    })
}

/// The JSON object in a folder's file. None: not found. Error: unreadable, not a JSON object.
fn read_json(folder: &Path, name: &str) -> Result<Option<Map<String, Json>>, TokenizerError> {
    let path: PathBuf = folder.join(name);
    let malformed = |reason: String| TokenizerError::Malformed { path: path.clone(), reason };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(malformed(error.to_string())),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| malformed(error.to_string()))
}

/// A token in the files: a string, or an object with the string as `content`. None: null.
fn spelled(value: &Json) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

impl Files<'_> {
    fn malformed(&self, file: &str, reason: impl Into<String>) -> TokenizerError {
        TokenizerError::Malformed { path: self.folder.join(file), reason: reason.into() }
    }

    /// Whether the newer files list every added token, so the older ones are not read.
    fn lists_added_tokens(&self) -> bool {
        self.tokenizer_config.contains_key("added_tokens_decoder")
    }

    /// Special tokens by name; null ones are included as none.
    fn special_tokens(&self) -> Result<BTreeMap<String, Option<String>>, TokenizerError> {
        let mut tokens = BTreeMap::new();
        let mut take = |keys: &Map<String, Json>| {
            let named = keys.iter().filter(|(key, _)| key.ends_with("_token") && !is_flag(key));
            tokens.extend(named.map(|(key, value)| (key.clone(), spelled(value).map(str::to_owned))));
            for key in ["extra_special_tokens", "model_specific_special_tokens"] {
                let named = keys.get(key).and_then(Json::as_object).into_iter().flatten();
                tokens.extend(named.map(|(key, value)| (key.clone(), spelled(value).map(str::to_owned))));
            }
        };
        take(&self.tokenizer_config);
        if !self.lists_added_tokens()
            && let Some(map) = read_json(self.folder, "special_tokens_map.json")?
        {
            take(&map);
        }
        Ok(tokens)
    }

    /// Adds the tokens missing from `tokenizer.json`, in transformers' order: by id, then special ones, then extra ones.
    fn add_tokens(
        &self,
        inner: &mut Tokenizer,
        special: &BTreeMap<String, Option<String>>,
    ) -> Result<(), TokenizerError> {
        let mut listed: BTreeMap<u32, AddedToken> = BTreeMap::new();
        if let Some(decoder) = self.tokenizer_config.get("added_tokens_decoder") {
            let decoder = decoder.as_object().into_iter().flatten();
            for (id, token) in decoder {
                let wrong = || {
                    self.malformed(
                        "tokenizer_config.json",
                        format!("added_tokens_decoder: token {id} is malformed"),
                    )
                };
                let id: u32 = id.parse().map_err(|_| wrong())?;
                listed.insert(id, added_token(token).ok_or_else(wrong)?);
            }
        } else if let Some(file) = read_json(self.folder, "added_tokens.json")? {
            for (content, id) in file {
                let wrong =
                    || self.malformed("added_tokens.json", format!("the number of '{content}' is {id}"));
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong)?;
                let is_special = special.values().flatten().any(|token| *token == content)
                    || self.extra_tokens().any(|token| spelled(token) == Some(&content));
                listed.insert(id, AddedToken::from(content, is_special).normalized(!is_special));
            }
        }
        let known = inner.get_added_tokens_decoder();
        let missing =
            listed.iter().filter(|(_, token)| !known.values().any(|added| added.content == token.content));
        for (id, token) in missing.map(|(id, token)| (*id, token.clone())).collect::<Vec<_>>() {
            let content = token.content.clone();
            inner.add_tokens(&[token]);
            // Otherwise the token would get another id than in the file.
            if let Some(given) = inner.token_to_id(&content).filter(|given| *given != id) {
                return Err(self.malformed(
                    "tokenizer_config.json",
                    format!(
                        "the added token '{content}' is number {id}, and the next free number is {given}"
                    ),
                ));
            }
        }
        let extra = self.extra_tokens().filter_map(spelled).map(str::to_owned);
        let named = special.values().flatten().cloned();
        let added: Vec<AddedToken> = named
            .chain(extra)
            .filter(|content| inner.token_to_id(content).is_none() || !is_added(inner, content))
            .map(|content| AddedToken::from(content, true).normalized(false))
            .collect();
        inner.add_special_tokens(&added);
        Ok(())
    }

    /// Tokens without a name.
    fn extra_tokens(&self) -> impl Iterator<Item = &Json> {
        let lists = ["extra_special_tokens", "additional_special_tokens"].into_iter();
        lists.filter_map(|key| self.tokenizer_config.get(key)?.as_array()).flatten()
    }

    /// The string of the first token whose id is in a key of `config.json`.
    fn config_token(&self, key: &str, inner: &Tokenizer) -> Option<String> {
        let id = *numbers(self.config.get(key)).first()?;
        inner.id_to_token(id)
    }

    /// The stop tokens: those of `generation_config.json`, else of `config.json`, and the tokenizer's EOS.
    fn end_tokens(&self, eos: Option<u32>) -> Vec<u32> {
        let key = "eos_token_id";
        let named = match numbers(self.generation_config.get(key)) {
            ends if ends.is_empty() => numbers(self.config.get(key)),
            ends => ends,
        };
        let mut ends: Vec<u32> = eos.into_iter().chain(named).collect();
        let mut seen = std::collections::BTreeSet::new();
        ends.retain(|end| seen.insert(*end));
        ends
    }

    /// Notes for the user about unread keys.
    fn unknown_keys(&self) -> Vec<String> {
        let known = |key: &&String| {
            let key = key.as_str();
            NAMED.contains(&key) || READ.contains(&key) || IDLE.contains(&key) || key.ends_with("_token")
        };
        let unknown = self.tokenizer_config.keys().filter(|key| !known(key));
        unknown.map(|key| format!("'{key}' of tokenizer_config.json is not known and not used")).collect()
    }
}

/// Keys that end like a token's but are not tokens.
fn is_flag(key: &str) -> bool {
    ["add_bos_token", "add_eos_token"].contains(&key)
}

fn is_added(inner: &Tokenizer, content: &str) -> bool {
    inner.get_added_tokens_decoder().values().any(|token| token.content == content)
}

/// A number, or a list of numbers.
fn numbers(value: Option<&Json>) -> Vec<u32> {
    let number = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Json::Array(items)) => items.iter().filter_map(number).collect(),
        Some(value) => number(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn added_token(json: &Json) -> Option<AddedToken> {
    let flag = |key: &str, default: bool| json.get(key).map_or(Some(default), Json::as_bool);
    let special = flag("special", false)?;
    let token = AddedToken::from(json["content"].as_str()?.to_owned(), special);
    Some(
        token
            .lstrip(flag("lstrip", false)?)
            .rstrip(flag("rstrip", false)?)
            .single_word(flag("single_word", false)?)
            .normalized(flag("normalized", !special)?),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A folder with a word-level tokenizer and these other files.
    fn tokenizer(files: &[(&str, Json)]) -> Result<ModelTokenizer, String> {
        let folder = tempfile::tempdir().unwrap();
        let words = ["<pad>", "<s>", "</s>", "a", "b", "<", "turn", ">"];
        let vocab: Map<String, Json> =
            words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
        let special = |id: usize| json!({ "id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
        let tokenizer = json!({
            "version": "1.0", "normalizer": null, "post_processor": null, "decoder": null,
            "truncation": { "max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right" },
            "padding": { "strategy": { "Fixed": 9 }, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>" },
            "added_tokens": [special(0), special(1), special(2)],
            "pre_tokenizer": { "type": "Split", "pattern": { "Regex": "\\w+|." }, "behavior": "Isolated", "invert": false },
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<pad>" },
        });
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        for (name, json) in files {
            let text = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        read(folder.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn truncation_and_padding_that_were_saved_are_not_obeyed() {
        let tokenizer = tokenizer(&[]).unwrap();
        assert_eq!(tokenizer.encode("a", true).unwrap(), [3]);
        assert_eq!(tokenizer.encode("aba".replace('b', "</s>").as_str(), true).unwrap(), [3, 2, 3]);
    }

    #[test]
    fn added_tokens_of_every_file_are_tokens() {
        let turn = json!({ "content": "<turn>", "special": true });
        for files in [
            vec![("tokenizer_config.json", json!({ "added_tokens_decoder": { "8": turn } }))],
            vec![("added_tokens.json", json!({ "<turn>": 8 }))],
            vec![("tokenizer_config.json", json!({ "extra_special_tokens": ["<turn>"] }))],
            vec![("tokenizer_config.json", json!({ "additional_special_tokens": [turn] }))],
            vec![("tokenizer_config.json", json!({ "extra_special_tokens": { "turn_token": "<turn>" } }))],
        ] {
            let tokenizer = tokenizer(&files).unwrap();
            assert_eq!(tokenizer.encode("a<turn>b", false).unwrap(), [3, 8, 4], "{files:?}");
        }
        assert_eq!(tokenizer(&[]).unwrap().encode("a<turn>b", false).unwrap().len(), 5);
    }

    #[test]
    fn a_number_that_an_added_token_cannot_have_is_named() {
        let config = json!({ "added_tokens_decoder": { "20": { "content": "<turn>" } } });
        let error = tokenizer(&[("tokenizer_config.json", config)]).unwrap_err();
        assert!(error.contains("'<turn>' is number 20") && error.contains("is 8"), "{error}");
    }

    #[test]
    fn null_is_no_token_and_an_absent_one_is_the_configurations() {
        let config = ("config.json", json!({ "bos_token_id": 1, "eos_token_id": 2 }));
        let null = ("tokenizer_config.json", json!({ "bos_token": null, "eos_token": "a" }));
        let with_null = tokenizer(&[config.clone(), null]).unwrap();
        assert_eq!((with_null.bos(), with_null.eos(), with_null.prefix()), (None, Some(3), Some(3)));
        let absent = tokenizer(&[config]).unwrap();
        assert_eq!((absent.bos(), absent.eos()), (Some(1), Some(2)));
        assert_eq!(absent.notes.len(), 2);
    }

    #[test]
    fn the_map_of_special_tokens_counts_where_no_added_tokens_are_listed() {
        let map = ("special_tokens_map.json", json!({ "eos_token": { "content": "b" } }));
        let config = ("tokenizer_config.json", json!({ "eos_token": "</s>" }));
        assert_eq!(tokenizer(&[map.clone(), config]).unwrap().eos(), Some(4));
        let listed = ("tokenizer_config.json", json!({ "eos_token": "</s>", "added_tokens_decoder": {} }));
        assert_eq!(tokenizer(&[map, listed]).unwrap().eos(), Some(2));
    }

    #[test]
    fn answers_end_at_the_tokens_of_the_generation_configuration_else_of_the_models() {
        let config = ("config.json", json!({ "eos_token_id": [2, 4] }));
        let named = ("tokenizer_config.json", json!({ "eos_token": "</s>" }));
        assert_eq!(tokenizer(&[config.clone(), named.clone()]).unwrap().stops(), [2, 4]);
        let generation = ("generation_config.json", json!({ "eos_token_id": 3 }));
        assert_eq!(tokenizer(&[config, named, generation]).unwrap().stops(), [2, 3]);
    }

    #[test]
    fn a_key_that_nobody_reads_is_named_and_a_file_that_is_not_json_is_an_error() {
        let config =
            json!({ "eos_token": "</s>", "bos_token": null, "add_bos_token": true, "lowercase_all": true });
        let tokenizer_notes = tokenizer(&[("tokenizer_config.json", config)]).unwrap().notes;
        assert_eq!(tokenizer_notes, ["'lowercase_all' of tokenizer_config.json is not known and not used"]);
        assert!(
            tokenizer(&[("tokenizer_config.json", "{".into())])
                .unwrap_err()
                .contains("tokenizer_config.json")
        );
    }
}
