//! SentencePiece's BPE (Kudo and Richardson 2018) from its pieces and scores, as a BPE with merges. The pair whose
//! piece has the highest score is merged first, so merges are ranked by the score of their result.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::gguf::added_tokens;

/// GGUF's token type of a piece made by merges.
const NORMAL: i64 = 1;

/// The components of a SentencePiece model.
pub(super) struct SentencePiece<'a> {
    pub(super) tokens: &'a [String],
    pub(super) scores: &'a [f32],
    /// GGUF's token types.
    pub(super) types: &'a [i64],
    pub(super) unknown: Option<&'a str>,
    /// Whether a space is prepended to each string.
    pub(super) space_prefix: bool,
}

/// The model as `tokenizer.json`.
pub(super) fn sentence_piece(model: &SentencePiece<'_>) -> Json {
    let space = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    let normalizer = if model.space_prefix {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, space] })
    } else {
        space
    };
    let vocab: HashMap<&str, usize> =
        model.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    json!({
        "version": "1.0",
        // User-defined pieces are matched after spaces are replaced, as runs of spaces are pieces too.
        "added_tokens": added_tokens(model.tokens, model.types, !model.space_prefix),
        "normalizer": normalizer,
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": model.unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "merges": merges(model, &vocab), "vocab": vocab,
        },
    })
}

/// Every pair of pieces that merges into a piece, highest score first; for one piece, lower ids first.
fn merges<'a>(model: &SentencePiece<'a>, vocab: &HashMap<&str, usize>) -> Vec<(&'a str, &'a str)> {
    let mut ranked = Vec::new();
    for (id, token) in model.tokens.iter().enumerate().filter(|(id, _)| model.types[*id] == NORMAL) {
        let ends = token.char_indices().map(|(at, _)| at).skip(1);
        for (left, right) in ends.map(|at| token.split_at(at)) {
            if let (Some(a), Some(b)) = (vocab.get(left), vocab.get(right)) {
                ranked.push((model.scores[id], id, *a, *b, left, right));
            }
        }
    }
    ranked.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2, x.3).cmp(&(y.1, y.2, y.3))));
    ranked.into_iter().map(|(.., left, right)| (left, right)).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use tokenizers::Tokenizer;

    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        tokens: Vec<String>,
        scores: Vec<f32>,
        types: Vec<i64>,
        space_prefix: bool,
        texts: Vec<(String, Vec<u32>)>,
    }

    #[test]
    fn texts_are_encoded_as_by_sentencepiece_itself() {
        for name in ["sentence_piece_prefix.json", "sentence_piece_plain.json"] {
            let path =
                std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference").join(name);
            let reference: Reference = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            let model = SentencePiece {
                tokens: &reference.tokens,
                scores: &reference.scores,
                types: &reference.types,
                unknown: Some("<unk>"),
                space_prefix: reference.space_prefix,
            };
            let tokenizer: Tokenizer = sentence_piece(&model).to_string().parse().unwrap();
            for (text, ids) in &reference.texts {
                let encoding = tokenizer.encode(text.as_str(), false).unwrap();
                assert_eq!(encoding.get_ids(), ids, "{name}: {text:?}: {:?}", encoding.get_tokens());
                assert_eq!(&tokenizer.decode(ids, false).unwrap(), text, "{name}");
            }
        }
    }
}
