//! The model's tokenizer: read from a folder, or built from a GGUF file's metadata.

mod folder;
mod gguf;
mod sentence_piece;
mod stream;
mod templates;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) use folder::FILES as TOKENIZER_FILES;
pub use stream::TextStream;
use templates::ChatTemplates;
use thiserror::Error;
use tokenizers::Tokenizer;

use super::gguf::{Gguf, MetaValue};
use super::open::Checkpoint;
use crate::pretrained::generation_defaults::GenerationDefaults;

/// A tokenizer that cannot be built or used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// The checkpoint has none.
    #[error("{} has no tokenizer", path.display())]
    None {
        /// The checkpoint.
        path: PathBuf,
    },
    /// An unsupported kind.
    #[error("{}: {what} '{name}' is not supported", path.display())]
    Unsupported {
        /// The checkpoint.
        path: PathBuf,
        /// Tokenizer model or pre-tokenizer.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Inconsistent files.
    #[error("{}: the tokenizer is malformed: {reason}", path.display())]
    Malformed {
        /// The checkpoint.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// The tokenizer has more tokens than the model has embedding rows.
    #[error(
        "{}: the tokenizer has {tokens} tokens and the model's embedding {rows} rows; the last token is '{token}'",
        path.display()
    )]
    TooLarge {
        /// The checkpoint.
        path: PathBuf,
        /// Tokens of the tokenizer.
        tokens: u64,
        /// Rows of the embedding.
        rows: u64,
        /// The last token.
        token: String,
    },
    /// A string that could not be encoded.
    #[error("the text cannot be encoded: {reason}")]
    Encode {
        /// The library's error.
        reason: String,
    },
}

/// A tokenizer with more tokens than its model has rows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TooLarge {
    tokens: u64,
    rows: u64,
    /// The last token.
    token: String,
}

/// A tokenizer with the special tokens that training and scoring need.
#[derive(Debug)]
pub struct ModelTokenizer {
    inner: Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
    /// Special tokens by their variables in chat templates: `bos_token`, `pad_token`.
    special: BTreeMap<String, String>,
    templates: ChatTemplates,
    ends: Vec<u32>,
    /// Special tokens that the tokenizer adds before and after each string.
    added: (Vec<u32>, Vec<u32>),
    generation: GenerationDefaults,
    notes: Vec<String>,
}

/// End-of-turn tokens of published chat templates.
const TURN_ENDS: [&str; 6] =
    ["<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_turn|>"];

impl ModelTokenizer {
    /// The tokenizer of a checkpoint. Errors: none found, an unsupported kind, malformed files.
    pub fn open(checkpoint: &Checkpoint) -> Result<Self, TokenizerError> {
        let tokenizer = match checkpoint.gguf() {
            Some(gguf) => Self::from_gguf(gguf),
            None => folder::read(checkpoint.path()),
        }?;
        match tokenizer.beyond(checkpoint.config().vocab_size) {
            Some(TooLarge { tokens, rows, token }) => {
                Err(TokenizerError::TooLarge { path: checkpoint.path().to_owned(), tokens, rows, token })
            }
            None => Ok(tokenizer),
        }
    }

    fn new(
        inner: Tokenizer,
        (bos, eos): (Option<u32>, Option<u32>),
        special: BTreeMap<String, String>,
        templates: ChatTemplates,
        ends: Vec<u32>,
    ) -> Result<Self, TokenizerError> {
        let mut tokenizer = Self {
            inner,
            bos,
            eos,
            special,
            templates,
            ends,
            added: Default::default(),
            generation: GenerationDefaults::default(),
            notes: Vec::new(),
        };
        tokenizer.added = tokenizer.added_around("a")?;
        Ok(tokenizer)
    }

    /// The special tokens that the post-processor adds around a string.
    fn added_around(&self, text: &str) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
        let (with, without) = (self.encode(text, true)?, self.encode(text, false)?);
        let places = with.len().saturating_sub(without.len());
        let at = (0..=places).find(|at| with[*at..].starts_with(&without)).unwrap_or_default();
        Ok((with[..at].to_vec(), with[at + without.len()..].to_vec()))
    }

    fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        let description = gguf::describe(gguf)?.to_string();
        let inner = description
            .parse::<Tokenizer>()
            .map_err(|e| TokenizerError::Malformed { path: gguf.path().to_owned(), reason: e.to_string() })?;
        let id = |name: &str| gguf::token_id(gguf, name, inner.get_vocab_size(true));
        let (bos, eos) = (id("bos"), id("eos"));
        let template = match gguf.meta("tokenizer.chat_template") {
            Some(MetaValue::Text(template)) => Some(template.clone()),
            _ => None,
        };
        let names =
            [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")];
        let text = |(name, key): &(&str, &str)| Some(((*name).to_owned(), inner.id_to_token(id(key)?)?));
        let special = names.iter().filter_map(text).collect();
        let ends: Vec<u32> = ["eos", "eot", "eom"].into_iter().filter_map(id).collect();
        Self::new(inner, (bos, eos), special, ChatTemplates::one(template), ends)
    }

    /// Everything that affects tokenization besides the content of `tokenizer.json` or the GGUF file: added tokens,
    /// special tokens, tokens added around a string.
    pub(super) fn facts(&self) -> String {
        let added: BTreeMap<u32, String> = self
            .inner
            .get_added_tokens_decoder()
            .into_iter()
            .map(|(id, token)| {
                let tokenizers::AddedToken { content, single_word, lstrip, rstrip, normalized, special } =
                    token;
                (id, format!("{content:?} {single_word} {lstrip} {rstrip} {normalized} {special}"))
            })
            .collect();
        let splits = self.inner.get_encode_special_tokens();
        crate::job::canonical_json(&(added, self.bos, self.eos, &self.added, splits))
    }

    /// Warnings about the files: unknown keys, tokens taken from elsewhere.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Special tokens by their variables in chat templates.
    pub fn special_tokens(&self) -> &BTreeMap<String, String> {
        &self.special
    }

    /// The special tokens that the tokenizer itself adds before and after a string.
    pub fn added(&self) -> (&[u32], &[u32]) {
        (&self.added.0, &self.added.1)
    }

    /// Tokens with an id beyond a model's embedding of this many rows, except those published this way: they are
    /// placeholders for non-text input.
    fn beyond(&self, rows: u64) -> Option<TooLarge> {
        /// Gemma 3's image placeholder; the embedding of its text models ends before it.
        const NOT_TEXT: [&str; 1] = ["<image_soft_token>"];
        let size = self.inner.get_vocab(true).into_iter().filter(|(_, id)| u64::from(*id) >= rows);
        let beyond = size.filter(|(token, _)| !NOT_TEXT.contains(&token.as_str()));
        let (token, last) = beyond.max_by_key(|(_, id)| *id)?;
        Some(TooLarge { tokens: u64::from(last) + 1, rows, token })
    }

    /// The tokenizer as `tokenizer.json`. Error: the library's.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        self.inner.to_string(true).map_err(|e| TokenizerError::Encode { reason: e.to_string() })
    }

    /// The string of a token; none for an unknown id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Encodes a string, adding the tokenizer's own special tokens if `special` is set.
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

    /// The stop tokens: EOS, and those listed by the model.
    pub fn stops(&self) -> Vec<u32> {
        self.ends.clone()
    }

    /// The checkpoint's own rules for what it generates.
    pub fn generation_defaults(&self) -> &GenerationDefaults {
        &self.generation
    }

    /// The text of the end-of-sequence token. Error: the tokenizer's.
    pub fn eos_text(&self) -> Result<Option<String>, TokenizerError> {
        self.eos.map(|eos| self.decode(&[eos])).transpose()
    }

    /// The stop tokens in a chat: [`Self::stops`], and end-of-turn tokens of published templates.
    pub fn chat_stops(&self) -> Vec<u32> {
        let turns = TURN_ENDS.iter().filter_map(|token| self.inner.token_to_id(token));
        let turns: Vec<u32> = turns.filter(|token| !self.ends.contains(token)).collect();
        [self.ends.as_slice(), &turns].concat()
    }

    /// The tokenizer's own Jinja chat template, for chats with or without tools.
    pub fn chat_template(&self, tools: bool) -> Option<&str> {
        self.templates.of_chat(tools)
    }

    /// One of several chat templates.
    pub fn named_chat_template(&self, name: &str) -> Option<&str> {
        self.templates.named(name)
    }

    /// Why no chat template has this name, or why there is no default.
    pub fn no_chat_template(&self) -> String {
        match self.templates.names().as_slice() {
            [] => "the model's tokenizer has no chat template".to_owned(),
            names => {
                format!("the model's tokenizer has chat templates by name: chat:{}", names.join(", chat:"))
            }
        }
    }

    /// The prefix of a continuation without a context: BOS if there is one, else EOS (lm_eval's rule).
    pub fn prefix(&self) -> Option<u32> {
        self.bos.or(self.eos)
    }

    /// Decodes generated tokens without special ones, as in transformers and lm_eval.
    pub fn decode_generated(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        self.inner.decode(tokens, true).map_err(|e| TokenizerError::Encode { reason: e.to_string() })
    }

    /// Decodes tokens, special ones included.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        self.inner.decode(tokens, false).map_err(|e| TokenizerError::Encode { reason: e.to_string() })
    }
}
