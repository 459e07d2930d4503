//! A checkpoint's own rules for what it generates: what of `generation_config.json` applies whatever the caller asks for.

use serde_json::{Map, Value};

/// Keys that a caller's own settings replace, and facts that are read elsewhere.
const REPLACED: &[&str] = &[
    "_from_model_config",
    "assistant_confidence_threshold",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "decoder_start_token_id",
    "do_sample",
    "early_stopping",
    "eos_token_id",
    "is_assistant",
    "length_penalty",
    "max_length",
    "max_time",
    "min_length",
    "min_p",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "renormalize_logits",
    "return_dict_in_generate",
    "return_legacy_cache",
    "temperature",
    "token_healing",
    "top_k",
    "top_p",
    "transformers_version",
    "trust_remote_code",
    "typical_p",
    "use_cache",
];

/// What a checkpoint says of what it generates.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerationDefaults {
    /// Divides positive scores of tokens that occurred, and multiplies negative ones (Keskar et al. 2019); 1 or none: nothing.
    pub repetition_penalty: Option<f64>,
    /// No run of this many tokens occurs twice; 0: nothing.
    pub no_repeat_ngram_size: usize,
    /// Runs of tokens that are never generated.
    pub bad_words: Vec<Vec<u32>>,
    /// Tokens that are never generated.
    pub suppressed: Vec<u32>,
    /// No end before this many tokens.
    pub min_new_tokens: u64,
    /// Maximum tokens of an answer, whatever else is said.
    pub max_new_tokens: Option<u64>,
    /// Keys that would change answers and are not supported, with their values.
    pub unsupported: Vec<String>,
}

impl GenerationDefaults {
    /// Reads `generation_config.json`.
    pub fn read(config: &Map<String, Value>) -> Self {
        let mut defaults = Self::default();
        for (key, value) in config.iter().filter(|(_, value)| !value.is_null()) {
            if !defaults.set(key, value) {
                defaults.unsupported.push(format!("{key} = {value}"));
            }
        }
        defaults
    }

    /// Sets what a key says. `false`: it is not supported.
    fn set(&mut self, key: &str, value: &Value) -> bool {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids =
            |value: &Value| value.as_array().map(|items| items.iter().filter_map(id).collect::<Vec<u32>>());
        let is_off = matches!(value, Value::Bool(false))
            || value.as_f64() == Some(0.0)
            || value.as_array().is_some_and(Vec::is_empty);
        match key {
            "repetition_penalty" => {
                self.repetition_penalty = value.as_f64().filter(|penalty| *penalty != 1.0)
            }
            "no_repeat_ngram_size" => self.no_repeat_ngram_size = value.as_u64().unwrap_or(0) as usize,
            "bad_words_ids" => {
                let lists = value.as_array().map(|lists| lists.iter().filter_map(ids).collect());
                self.bad_words = lists.unwrap_or_default();
            }
            "suppress_tokens" => self.suppressed = ids(value).unwrap_or_default(),
            "min_new_tokens" => self.min_new_tokens = value.as_u64().unwrap_or(0),
            "max_new_tokens" => self.max_new_tokens = value.as_u64(),
            "num_beams" | "num_beam_groups" => return value.as_u64() == Some(1),
            key => return REPLACED.contains(&key) || is_off,
        }
        true
    }

    /// Whether the scores of the next token stay what they are, after this many tokens.
    pub fn is_plain(&self, made: u64) -> bool {
        self.repetition_penalty.is_none()
            && self.no_repeat_ngram_size == 0
            && self.bad_words.is_empty()
            && self.suppressed.is_empty()
            && made >= self.min_new_tokens
    }

    /// Changes the scores `[vocab]` of the next token after a prompt and what was answered so far. `ends` are the tokens that end an
    /// answer.
    pub fn apply(&self, scores: &mut [f32], prompt: &[u32], answer: &[u32], ends: &[u32]) {
        let so_far = [prompt, answer].concat();
        if let Some(penalty) = self.repetition_penalty {
            let penalty = penalty as f32;
            let seen: std::collections::BTreeSet<u32> = so_far.iter().copied().collect();
            for token in seen {
                if let Some(score) = scores.get_mut(token as usize) {
                    *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
                }
            }
        }
        let mut ban = |token: u32| {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = f32::NEG_INFINITY;
            }
        };
        let n = self.no_repeat_ngram_size;
        if n > 0 && so_far.len() + 1 >= n {
            let last = &so_far[so_far.len() + 1 - n..];
            so_far.windows(n).filter(|run| run[..n - 1] == *last).for_each(|run| ban(run[n - 1]));
        }
        for words in &self.bad_words {
            if let Some((end, before)) = words.split_last()
                && so_far.ends_with(before)
            {
                ban(*end);
            }
        }
        if (answer.len() as u64) < self.min_new_tokens {
            ends.iter().copied().for_each(&mut ban);
        }
        self.suppressed.iter().copied().for_each(ban);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> GenerationDefaults {
        GenerationDefaults::read(value.as_object().unwrap())
    }

    #[test]
    fn sampling_settings_do_not_count_and_a_penalty_does() {
        let defaults =
            read(json!({ "do_sample": true, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 2.0 }));
        assert!(defaults.unsupported.is_empty() && !defaults.is_plain(0));
        let mut scores = [1.0, -1.0, 3.0];
        defaults.apply(&mut scores, &[0], &[1, 1], &[]);
        assert_eq!(scores, [0.5, -2.0, 3.0]);
    }

    #[test]
    fn what_may_not_follow_is_impossible() {
        let banned = |defaults: GenerationDefaults, prompt: &[u32], answer: &[u32]| {
            let mut scores = [0.0f32; 4];
            defaults.apply(&mut scores, prompt, answer, &[3]);
            (0..4).filter(|token| scores[*token].is_infinite()).collect::<Vec<_>>()
        };
        assert_eq!(banned(read(json!({ "no_repeat_ngram_size": 2 })), &[0, 1], &[0]), [1]);
        assert_eq!(banned(read(json!({ "bad_words_ids": [[2], [0, 1]] })), &[0], &[]), [1, 2]);
        assert_eq!(banned(read(json!({ "suppress_tokens": [0] })), &[0], &[]), [0]);
        assert_eq!(banned(read(json!({ "min_new_tokens": 1 })), &[0], &[]), [3]);
        assert!(read(json!({ "min_new_tokens": 1 })).is_plain(1));
    }

    #[test]
    fn what_would_change_answers_and_is_not_known_is_named() {
        let defaults = read(
            json!({ "num_beams": 4, "stop_strings": ["x"], "diversity_penalty": 0.0, "num_beam_groups": 1 }),
        );
        assert_eq!(defaults.unsupported, ["num_beams = 4", "stop_strings = [\"x\"]"]);
    }
}
