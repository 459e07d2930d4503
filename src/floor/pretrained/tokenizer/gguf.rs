//! Tokenizers from a GGUF file's metadata, converted to `tokenizer.json`.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::TokenizerError;
use super::sentence_piece::{SentencePiece, sentence_piece};
use crate::pretrained::gguf::{Gguf, MetaValue};

/// GGUF's token types that are special: unknown and control.
pub(super) const SPECIAL_TYPES: [i64; 2] = [2, 3];
/// GGUF's token type that is matched as a whole but is not special.
pub(super) const USER_DEFINED: i64 = 4;

/// Llama 3's split into words, numbers and punctuation; Qwen 2 splits digits one by one.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The tokenizer as JSON. Errors: none found, an unsupported model or pre-tokenizer, inconsistent metadata.
pub(super) fn describe(gguf: &Gguf) -> Result<Json, TokenizerError> {
    let path = gguf.path().to_owned();
    let text = |key: &str| match gguf.meta(key) {
        Some(MetaValue::Text(text)) => text.as_str(),
        _ => "none named",
    };
    let malformed =
        |reason: &str| TokenizerError::Malformed { path: path.clone(), reason: reason.to_owned() };
    let unsupported =
        |what, name: &str| TokenizerError::Unsupported { path: path.clone(), what, name: name.to_owned() };
    let model = text("tokenizer.ggml.model");
    if model == "none named" {
        return Err(TokenizerError::None { path });
    }
    let (Some(MetaValue::Texts(tokens)), Some(MetaValue::Integers(types))) =
        (gguf.meta("tokenizer.ggml.tokens"), gguf.meta("tokenizer.ggml.token_type"))
    else {
        return Err(malformed("tokens or token types are missing"));
    };
    if tokens.len() != types.len() {
        return Err(malformed("there are not as many token types as tokens"));
    }
    let flag = |key: &str| match gguf.meta(key) {
        Some(MetaValue::Bool(value)) => Some(*value),
        _ => None,
    };
    let (mut description, adds_bos) = match model {
        "gpt2" => {
            let Some(MetaValue::Texts(merges)) = gguf.meta("tokenizer.ggml.merges") else {
                return Err(malformed("merges are missing"));
            };
            let name = text("tokenizer.ggml.pre");
            let split = Splitting::of(name).ok_or_else(|| unsupported("pre-tokenizer", name))?;
            let description = byte_level_bpe(tokens, merges, types, split);
            (description.ok_or_else(|| malformed("a merge must be a pair"))?, split == Splitting::Llama3)
        }
        "llama" => {
            let Some(MetaValue::Floats(scores)) = gguf.meta("tokenizer.ggml.scores") else {
                return Err(malformed("scores are missing"));
            };
            if scores.len() != tokens.len() {
                return Err(malformed("there are not as many scores as tokens"));
            }
            let space_prefix = flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
            let unknown = token_id(gguf, "unknown", tokens.len());
            let unknown = unknown.map(|id| tokens[id as usize].as_str());
            (sentence_piece(&SentencePiece { tokens, scores, types, unknown, space_prefix }), true)
        }
        other => return Err(unsupported("tokenizer model", other)),
    };
    let bos = token_id(gguf, "bos", tokens.len());
    if let Some(bos) = bos.filter(|_| flag("tokenizer.ggml.add_bos_token").unwrap_or(adds_bos)) {
        description["post_processor"] = with_bos(&tokens[bos as usize], bos);
    }
    Ok(description)
}

/// A token named in the metadata: `bos`, `eos`, `unknown`.
pub(super) fn token_id(gguf: &Gguf, name: &str, count: usize) -> Option<u32> {
    match gguf.meta(&format!("tokenizer.ggml.{name}_token_id")) {
        Some(MetaValue::Integer(n)) => u32::try_from(*n).ok().filter(|id| (*id as usize) < count),
        _ => None,
    }
}

/// A post-processor that prepends BOS to every string.
fn with_bos(token: &str, id: u32) -> Json {
    let special = json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let sequence = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
    json!({
        "type": "TemplateProcessing",
        "single": [special, sequence("A")],
        "pair": [special, sequence("A"), special, sequence("B")],
        "special_tokens": { token: { "id": token, "ids": [id], "tokens": [token] } },
    })
}

/// The pre-tokenizer for byte-level BPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Splitting {
    Gpt2,
    /// Splits off every digit, then applies GPT-2's own pattern.
    Smollm,
    Llama3,
    Qwen2,
}

impl Splitting {
    fn of(name: &str) -> Option<Self> {
        match name {
            "gpt-2" | "gpt2" => Some(Self::Gpt2),
            "smollm" => Some(Self::Smollm),
            "llama-bpe" | "llama3" | "llama-v3" => Some(Self::Llama3),
            "qwen2" => Some(Self::Qwen2),
            _ => None,
        }
    }

    fn pre_tokenizer(self) -> Json {
        let byte_level = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex });
        let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        let parts = match self {
            Self::Gpt2 => vec![byte_level(true)],
            Self::Smollm => vec![json!({ "type": "Digits", "individual_digits": true }), byte_level(true)],
            Self::Llama3 => vec![split(LLAMA3), byte_level(false)],
            Self::Qwen2 => vec![split(QWEN2), byte_level(false)],
        };
        json!({ "type": "Sequence", "pretokenizers": parts })
    }
}

/// The tokens matched as a whole, before any other processing.
pub(super) fn added_tokens(tokens: &[String], types: &[i64], normalized: bool) -> Vec<Json> {
    let added = tokens.iter().zip(types).enumerate();
    let is_added = |kind: &i64| SPECIAL_TYPES.contains(kind) || *kind == USER_DEFINED;
    added
        .filter(|(_, (_, kind))| is_added(kind))
        .map(|(id, (token, kind))| {
            let special = SPECIAL_TYPES.contains(kind);
            json!({
                "id": id, "content": token, "special": special, "normalized": normalized && !special,
                "single_word": false, "lstrip": false, "rstrip": false,
            })
        })
        .collect()
}

/// A byte-level BPE. `None`: a merge without exactly two pieces.
fn byte_level_bpe(tokens: &[String], merges: &[String], types: &[i64], split: Splitting) -> Option<Json> {
    let vocab: BTreeMap<&str, usize> =
        tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let merges: Vec<(&str, &str)> =
        merges.iter().map(|merge| merge.split_once(' ')).collect::<Option<_>>()?;
    let normalizer = (split == Splitting::Qwen2).then(|| json!({ "type": "NFC" }));
    Some(json!({
        "version": "1.0",
        "added_tokens": added_tokens(tokens, types, false),
        "normalizer": normalizer,
        "pre_tokenizer": split.pre_tokenizer(),
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": split == Splitting::Llama3, "vocab": vocab, "merges": merges,
        },
    }))
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper};

    use super::*;

    fn pieces(name: &str, text: &str) -> Vec<String> {
        let json = Splitting::of(name).unwrap().pre_tokenizer();
        let pre_tokenizer: PreTokenizerWrapper = serde_json::from_value(json).unwrap();
        let mut split = PreTokenizedString::from(text);
        pre_tokenizer.pre_tokenize(&mut split).unwrap();
        let parts = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        parts.into_iter().map(|(part, ..)| part.replace('Ġ', "_")).collect()
    }

    #[test]
    fn each_splitting_has_its_own_digits_and_spaces() {
        let text = "It's 12345  dogs";
        assert_eq!(pieces("gpt-2", text), ["It", "'s", "_12345", "_", "_dogs"]);
        assert_eq!(pieces("smollm", text), ["It", "'s", "_", "1", "2", "3", "4", "5", "_", "_dogs"]);
        assert_eq!(pieces("llama-bpe", text), ["It", "'s", "_", "123", "45", "_", "_dogs"]);
        assert_eq!(pieces("qwen2", text), ["It", "'s", "_", "1", "2", "3", "4", "5", "_", "_dogs"]);
        assert!(Splitting::of("deepseek-llm").is_none());
    }
}
