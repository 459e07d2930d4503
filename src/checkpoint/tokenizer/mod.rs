//! The model's own tokenizer: `tokenizer.json` of a folder, or built from a GGUF file's metadata.

mod gguf;
mod sentence_piece;

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use thiserror::Error;
use tokenizers::Tokenizer;

use super::gguf::{Gguf, MetaValue};
use super::open::Checkpoint;

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
        let description = gguf::describe(gguf)?.to_string();
        let inner = description
            .parse::<Tokenizer>()
            .map_err(|e| TokenizerError::Malformed { path: gguf.path().to_owned(), reason: e.to_string() })?;
        let id = |name: &str| gguf::token_id(gguf, name, inner.get_vocab_size(true));
        let (bos, eos) = (id("bos"), id("eos"));
        let chat_template = match gguf.meta("tokenizer.chat_template") {
            Some(MetaValue::Text(template)) => Some(template.clone()),
            _ => None,
        };
        Ok(Self { inner, bos, eos, chat_template })
    }

    /// The tokenizer in the form of `tokenizer.json`. Error: the library's.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        self.inner.to_string(true).map_err(|e| TokenizerError::Encode { reason: e.to_string() })
    }

    /// The text of a token; none for a number that is no token's.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
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

    /// The tokens that end an answer: EOS, and the end-of-turn tokens of published chat templates where they are there.
    pub fn stops(&self) -> Vec<u32> {
        let turns = ["<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>"];
        let ends = turns.iter().filter_map(|token| self.inner.token_to_id(token));
        let mut stops: Vec<u32> = self.eos.into_iter().chain(ends).collect();
        stops.dedup();
        stops
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
