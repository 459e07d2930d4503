//! The model's own tokenizer: `tokenizer.json` of a folder, or built from a GGUF file's metadata.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use thiserror::Error;
use tokenizers::Tokenizer;

use super::gguf::{Gguf, MetaValue};
use super::open::Checkpoint;

/// GGUF's token types that are special: unknown and control.
const SPECIAL_TYPES: [i64; 2] = [2, 3];
/// GGUF's token type that is matched as a whole but is not special.
const USER_DEFINED: i64 = 4;

/// A tokenizer that cannot be built or used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The checkpoint has none.
    #[error("{} has no tokenizer", path.display())]
    None {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A kind that loragrid does not build.
    #[error("{}: {what} '{name}' is not supported", path.display())]
    Unsupported {
        /// The checkpoint.
        path: PathBuf,
        /// Tokenizer model or pre-tokenizer.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The parts do not fit together.
    #[error("{}: the tokenizer is malformed: {reason}", path.display())]
    Malformed {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A text could not be encoded.
    #[error("the text cannot be encoded: {reason}")]
    Encode {
        /// The library's reason.
        reason: String,
    },
}

/// A tokenizer with the special tokens that training and scoring need.
#[derive(Debug)]
pub struct ModelTokenizer {
    inner: Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
    chat_template: Option<String>,
}

impl ModelTokenizer {
    /// The tokenizer of a checkpoint. Errors: none there, a kind that is not built, malformed parts.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self, TokenizerError> {
        match checkpoint.gguf() {
            Some(gguf) => Self::from_gguf(gguf),
            None => Self::from_folder(checkpoint.path()),
        }
    }

    fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer.json");
        if !path.is_file() {
            return Err(TokenizerError::None { path: folder.to_owned() });
        }
        let malformed = |reason: String| TokenizerError::Malformed { path: path.clone(), reason };
        let inner = Tokenizer::from_file(&path).map_err(|e| malformed(e.to_string()))?;
        let read = |name: &str| -> Json {
            let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            serde_json::from_str(&text).unwrap_or_default()
        };
        let (tokenizer_config, config) = (read("tokenizer_config.json"), read("config.json"));
        let token = |name: &str| {
            // A token is a text, or an object with its text as `content`.
            let spelled = &tokenizer_config[format!("{name}_token")];
            let text = spelled.as_str().or_else(|| spelled["content"].as_str());
            let by_text = text.and_then(|t| inner.token_to_id(t));
            by_text
                .or_else(|| config[format!("{name}_token_id")].as_u64().and_then(|n| u32::try_from(n).ok()))
        };
        let (bos, eos) = (token("bos"), token("eos"));
        let beside = std::fs::read_to_string(folder.join("chat_template.jinja")).ok();
        let chat_template = beside.or_else(|| tokenizer_config["chat_template"].as_str().map(str::to_owned));
        Ok(Self { inner, bos, eos, chat_template })
    }

    fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        let path = gguf.path().to_owned();
        let unsupported = |what, name: &str| {
            Err(TokenizerError::Unsupported { path: path.clone(), what, name: name.to_owned() })
        };
        let text = |key: &str| match gguf.meta(key) {
            Some(MetaValue::Text(text)) => text.as_str(),
            _ => "none named",
        };
        match text("tokenizer.ggml.model") {
            "gpt2" => {}
            "none named" => return Err(TokenizerError::None { path }),
            other => return unsupported("tokenizer model", other),
        }
        match text("tokenizer.ggml.pre") {
            "smollm" => {}
            other => return unsupported("pre-tokenizer", other),
        }
        let malformed =
            |reason: &str| TokenizerError::Malformed { path: path.clone(), reason: reason.to_owned() };
        let (
            Some(MetaValue::Texts(tokens)),
            Some(MetaValue::Texts(merges)),
            Some(MetaValue::Integers(types)),
        ) = (
            gguf.meta("tokenizer.ggml.tokens"),
            gguf.meta("tokenizer.ggml.merges"),
            gguf.meta("tokenizer.ggml.token_type"),
        )
        else {
            return Err(malformed("tokens, merges or token types are missing"));
        };
        if tokens.len() != types.len() {
            return Err(malformed("there are not as many token types as tokens"));
        }
        let description =
            byte_level_bpe(tokens, merges, types).ok_or_else(|| malformed("a merge is no pair"))?;
        let inner = description.to_string().parse::<Tokenizer>().map_err(|e| malformed(&e.to_string()))?;
        let id = |key: &str| match gguf.meta(key) {
            Some(MetaValue::Integer(n)) => u32::try_from(*n).ok().filter(|id| (*id as usize) < tokens.len()),
            _ => None,
        };
        let (bos, eos) = (id("tokenizer.ggml.bos_token_id"), id("tokenizer.ggml.eos_token_id"));
        let chat_template = match gguf.meta("tokenizer.chat_template") {
            Some(MetaValue::Text(template)) => Some(template.clone()),
            _ => None,
        };
        Ok(Self { inner, bos, eos, chat_template })
    }

    /// The tokens of a text, with the special tokens that the tokenizer itself adds if `special` is set.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, special);
        encoding.map(|e| e.get_ids().to_vec()).map_err(|e| TokenizerError::Encode { reason: e.to_string() })
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The tokenizer's own chat template, in Jinja.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// What stands before a continuation without a context: BOS if there is one, else EOS (lm_eval's rule).
    pub fn prefix(&self) -> Option<u32> {
        self.bos.or(self.eos)
    }

    /// The text of tokens, special ones included.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        self.inner.decode(tokens, false).map_err(|e| TokenizerError::Encode { reason: e.to_string() })
    }
}

/// A byte-level BPE in the form of `tokenizer.json`. `smollm` splits every digit from its neighbours before GPT-2's
/// own splitting. `None`: a merge that is not two parts.
fn byte_level_bpe(tokens: &[String], merges: &[String], types: &[i64]) -> Option<Json> {
    let vocab: serde_json::Map<String, Json> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let merges: Vec<(&str, &str)> =
        merges.iter().map(|merge| merge.split_once(' ')).collect::<Option<_>>()?;
    let added: Vec<Json> = tokens
        .iter()
        .zip(types)
        .enumerate()
        .filter(|(_, (_, kind))| SPECIAL_TYPES.contains(kind) || **kind == USER_DEFINED)
        .map(|(id, (token, kind))| {
            json!({
                "id": id, "content": token, "special": SPECIAL_TYPES.contains(kind),
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect();
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    Some(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{ "type": "Digits", "individual_digits": true }, byte_level],
        },
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    }))
}
