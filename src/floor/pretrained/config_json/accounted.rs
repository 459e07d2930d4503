//! Keys of `config.json` known not to affect the forward pass; any other unread key is reported to the user.

use serde_json::{Map, Value as Json};

/// Keys about creating, saving, initializing or generating from a checkpoint.
const IDLE: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "add_cross_attention",
    "apply_residual_connection_post_layernorm",
    "architectures",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "original_max_position_embeddings",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// The base model's dropout, which training omits: adapters have their own.
const DROPOUTS: &[&str] = &[
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_dropout",
    "embd_pdrop",
    "hidden_dropout",
    "hidden_dropout_prob",
    "resid_pdrop",
];

/// Notes for the user about these keys.
pub(super) fn notes(rest: &Map<String, Json>) -> Vec<String> {
    let mut notes = Vec::new();
    for (key, value) in rest {
        if IDLE.contains(&key.as_str()) {
            continue;
        }
        if DROPOUTS.contains(&key.as_str()) {
            if value.as_f64().is_some_and(|p| p > 0.0) && key != "classifier_dropout" {
                notes.push(format!("{key} = {value} of config.json is not applied in training"));
            }
            continue;
        }
        if !value.is_null() {
            notes.push(format!("'{key}' of config.json is not known and not used"));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_idle_by_name_or_named() {
        let json = r#"{"use_cache":true,"resid_pdrop":0.1,"attention_dropout":0.0,"residual_multiplier":0.2,"x":null}"#;
        assert_eq!(
            notes(&serde_json::from_str(json).unwrap()),
            [
                "resid_pdrop = 0.1 of config.json is not applied in training",
                "'residual_multiplier' of config.json is not known and not used"
            ]
        );
    }
}
