//! `config.json` of Hugging Face folders, in the old format (`rope_theta`, `rope_scaling`, `torch_dtype`) and the new
//! one (`rope_parameters`). Missing keys have the defaults of transformers' own configuration class.

mod accounted;
mod defaults;
mod describe;
mod families;

use std::path::Path;

use defaults::{FeedForward, HeadDim};
pub(super) use describe::describe;
use serde::Deserialize;
use serde_json::Value as Json;

use super::architecture::*;
use super::error::CheckpointError;

/// The keys that are read, for all families.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ConfigFile {
    model_type: String,
    vocab_size: Option<u64>,
    hidden_size: Option<u64>,
    intermediate_size: Option<u64>,
    ffn_hidden_size: Option<u64>,
    num_hidden_layers: Option<u64>,
    num_attention_heads: Option<u64>,
    num_key_value_heads: Option<u64>,
    num_kv_heads: Option<u64>,
    head_dim: Option<u64>,
    rms_norm_eps: Option<f64>,
    layer_norm_eps: Option<f64>,
    layer_norm_epsilon: Option<f64>,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    activation: Option<String>,
    max_position_embeddings: Option<u64>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    bias: Option<bool>,
    rope_parameters: Option<Json>,
    rope_scaling: Option<Json>,
    rope_theta: Option<f64>,
    rotary_emb_base: Option<f64>,
    rope_local_base_freq: Option<f64>,
    partial_rotary_factor: Option<f64>,
    rotary_pct: Option<f64>,
    #[serde(deserialize_with = "said")]
    sliding_window: RawConfig<u64>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<u64>,
    layer_types: Option<Vec<String>>,
    sliding_window_pattern: Option<u64>,
    #[serde(rename = "_sliding_window_pattern")]
    sliding_window_pattern_new: Option<u64>,
    no_rope_layers: Option<Vec<u64>>,
    no_rope_layer_interval: Option<u64>,
    query_pre_attn_scalar: Option<f64>,
    #[serde(deserialize_with = "said")]
    attn_logit_softcapping: RawConfig<f64>,
    #[serde(deserialize_with = "said")]
    final_logit_softcapping: RawConfig<f64>,
    use_bidirectional_attention: Option<Json>,
    qk_layernorm: Option<bool>,
    use_qk_norm: Option<bool>,
    alibi: Option<bool>,
    parallel_attn: Option<bool>,
    multi_query: Option<bool>,
    new_decoder_architecture: Option<bool>,
    num_ln_in_parallel_attn: Option<u64>,
    use_parallel_residual: Option<bool>,
    quantization_config: Option<Quantization>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Json>,
}

/// A key for which `null` differs from absence: outer `None` means the key is absent.
type RawConfig<T> = Option<Option<T>>;

fn said<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<RawConfig<T>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Quantization {
    quant_method: Option<String>,
    load_in_4bit: Option<bool>,
}

/// Reads a Hugging Face folder's model shape from `config.json`, with or without weights, and notes about unused keys.
/// Errors: unreadable, an unsupported family or setting (by name), contradictory.
pub fn read_config(folder: &Path) -> Result<(ModelConfig, Vec<String>), CheckpointError> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
    parse_config(&path, &text)
}

/// The model shape in the contents of a `config.json`. Errors: as [`read_config`].
pub(super) fn parse_config(path: &Path, text: &str) -> Result<(ModelConfig, Vec<String>), CheckpointError> {
    let malformed = |reason: String| CheckpointError::Malformed { path: path.to_owned(), reason };
    let file: ConfigFile = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
    let config = Reading { path, file: &file }.config()?;
    match config.contradiction() {
        Some(reason) => Err(malformed(reason)),
        None => Ok((config, accounted::notes(&file.rest))),
    }
}

struct Reading<'a> {
    path: &'a Path,
    file: &'a ConfigFile,
}

impl Reading<'_> {
    fn unsupported(&self, what: &'static str, name: impl Into<String>) -> CheckpointError {
        CheckpointError::Unsupported { path: self.path.to_owned(), what, name: name.into() }
    }

    /// An error for an unsupported feature, if `refused`.
    fn refuse(&self, refused: bool, name: &str) -> Result<(), CheckpointError> {
        if refused { Err(self.unsupported("option", name)) } else { Ok(()) }
    }

    fn need(&self, value: Option<u64>, key: &str) -> Result<u64, CheckpointError> {
        value.ok_or_else(|| CheckpointError::Malformed {
            path: self.path.to_owned(),
            reason: format!("'{key}' is missing"),
        })
    }

    fn config(&self) -> Result<ModelConfig, CheckpointError> {
        let file = self.file;
        let family = match file.model_type.as_str() {
            "llama" => Family::Llama,
            "mistral" => Family::Mistral,
            "phi" => Family::Phi,
            "phi3" => Family::Phi3,
            "falcon" => Family::Falcon,
            "gpt_neox" => Family::GptNeox,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            "gemma" => Family::Gemma,
            "gemma2" => Family::Gemma2,
            "gemma3_text" => Family::Gemma3Text,
            "olmo2" => Family::Olmo2,
            "smollm3" => Family::Smollm3,
            "" => return Err(self.unsupported("architecture", "none named")),
            other => return Err(self.unsupported("architecture", other)),
        };
        if let Some(stored) = &file.quantization_config {
            let method = stored.quant_method.as_deref().unwrap_or("bitsandbytes");
            if method != "bitsandbytes" || stored.load_in_4bit != Some(true) {
                let bits = if method == "bitsandbytes" { "bitsandbytes 8-bit" } else { method };
                return Err(self.unsupported("quantized format", bits));
            }
        }
        let mut config = self.common(family)?;
        self.family_rules(&mut config)?;
        Ok(config)
    }

    /// Settings common to all families; Llama's defaults for the rest.
    fn common(&self, family: Family) -> Result<ModelConfig, CheckpointError> {
        let file = self.file;
        let hidden_size = self.need(file.hidden_size, "hidden_size")?;
        let heads = self.need(file.num_attention_heads, "num_attention_heads")?;
        let layers = self.need(file.num_hidden_layers, "num_hidden_layers")?;
        if layers > 1 << 16 {
            let reason = format!("num_hidden_layers is {layers}");
            return Err(CheckpointError::Malformed { path: self.path.to_owned(), reason });
        }
        let shared = hidden_size.checked_div(heads).unwrap_or_default();
        let defaults = family.defaults();
        // Falcon uses another name for its MLP width, or omits it.
        let wide = match defaults.feed_forward {
            FeedForward::Named => file.intermediate_size,
            FeedForward::FourTimes => file.ffn_hidden_size.or(Some(hidden_size.saturating_mul(4))),
        };
        let head_dim = match defaults.head_dim {
            HeadDim::Unless(width) => file.head_dim.unwrap_or(width),
            HeadDim::UnlessShared => file.head_dim.unwrap_or(shared),
            HeadDim::Shared => shared,
        };
        let sizes = LlamaSizes {
            vocab_size: self.need(file.vocab_size, "vocab_size")?,
            hidden_size,
            intermediate_size: self.need(wide, "intermediate_size")?,
            layers,
            heads,
            kv_heads: file.num_key_value_heads.unwrap_or(heads),
            head_dim,
        };
        let mut config = ModelConfig::llama(sizes);
        config.family = family;
        config.norm_eps = file
            .rms_norm_eps
            .or(file.layer_norm_eps)
            .or(file.layer_norm_epsilon)
            .unwrap_or(defaults.norm_eps);
        config.activation = self.activation(family)?;
        config.max_positions = file.max_position_embeddings.unwrap_or(2048);
        config.tied_head = file.tie_word_embeddings.unwrap_or(defaults.tied_head);
        self.rotary(&mut config)?;
        Ok(config)
    }

    fn activation(&self, family: Family) -> Result<Activation, CheckpointError> {
        let file = self.file;
        let name = match family {
            Family::Falcon => file.activation.as_deref(),
            // The first Gemma files say `gelu` but mean its tanh approximation.
            Family::Gemma => {
                let named = file.hidden_activation.as_deref().or(file.hidden_act.as_deref());
                named.filter(|name| *name != "gelu")
            }
            Family::Gemma2 | Family::Gemma3Text => file.hidden_activation.as_deref(),
            Family::Llama
            | Family::Mistral
            | Family::Phi
            | Family::Phi3
            | Family::GptNeox
            | Family::Qwen2
            | Family::Qwen3
            | Family::Olmo2
            | Family::Smollm3 => file.hidden_act.as_deref(),
        };
        match name.unwrap_or(family.defaults().activation) {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            other => Err(self.unsupported("activation", other)),
        }
    }

    /// Rotary positions: one table, its scaling, the fraction of a head that is rotated.
    fn rotary(&self, config: &mut ModelConfig) -> Result<(), CheckpointError> {
        let file = self.file;
        let parameters = file.rope_parameters.as_ref().filter(|p| !p.is_null());
        let theta = file.rope_theta.or(file.rotary_emb_base);
        let rope = match parameters {
            // One table per layer type; the family reads the local one.
            Some(json) if json["full_attention"].is_object() => self.rope(&json["full_attention"], theta)?,
            Some(json) => self.rope(json, theta)?,
            None => self.rope(file.rope_scaling.as_ref().unwrap_or(&Json::Null), theta)?,
        };
        config.ropes = vec![rope];
        let part = parameters.and_then(|json| json["partial_rotary_factor"].as_f64());
        let part = part
            .or(file.partial_rotary_factor)
            .or(file.rotary_pct)
            .unwrap_or(config.family.defaults().rotary_part);
        if !(0.0..=1.0).contains(&part) {
            let reason = format!("partial_rotary_factor is {part}");
            return Err(CheckpointError::Malformed { path: self.path.to_owned(), reason });
        }
        config.rotary_dim = (config.head_dim as f64 * part) as u64;
        Ok(())
    }

    fn rope(&self, json: &Json, outer_theta: Option<f64>) -> Result<Rope, CheckpointError> {
        let number = |key: &str| {
            json[key].as_f64().ok_or_else(|| CheckpointError::Malformed {
                path: self.path.to_owned(),
                reason: format!("rotary scaling has no '{key}'"),
            })
        };
        let scaling = match json["rope_type"].as_str().or(json["type"].as_str()).unwrap_or("default") {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: number("factor")? },
            "llama3" => RopeScaling::Llama3 {
                factor: number("factor")?,
                low_factor: number("low_freq_factor")?,
                high_factor: number("high_freq_factor")?,
                original_positions: number("original_max_position_embeddings")?,
            },
            other => return Err(self.unsupported("rotary scaling", other)),
        };
        Ok(Rope { theta: json["rope_theta"].as_f64().or(outer_theta).unwrap_or(1e4), scaling })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelConfig, CheckpointError> {
        parse_config(Path::new("config.json"), text).map(|(config, _)| config)
    }

    fn with(family: &str, rest: &str) -> String {
        format!(
            r#"{{"model_type":"{family}","vocab_size":32,"hidden_size":16,"intermediate_size":24,
               "num_hidden_layers":4,"num_attention_heads":4{rest}}}"#
        )
    }

    #[test]
    fn old_and_new_spellings_of_rotary_positions_mean_the_same() {
        let old = r#","rope_theta":5e5,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":64}"#;
        let new = r#","rope_parameters":{"rope_theta":5e5,"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":64}"#;
        assert_eq!(parse(&with("llama", old)).unwrap(), parse(&with("llama", new)).unwrap());
        let old =
            r#","rope_theta":1e6,"rope_local_base_freq":1e4,"sliding_window":8,"sliding_window_pattern":2"#;
        let new = r#","rope_parameters":{"full_attention":{"rope_theta":1e6},"sliding_attention":{"rope_theta":1e4}},"sliding_window":8,"layer_types":["sliding_attention","full_attention","sliding_attention","full_attention"]"#;
        assert_eq!(parse(&with("gemma3_text", old)).unwrap(), parse(&with("gemma3_text", new)).unwrap());
    }

    #[test]
    fn what_the_block_cannot_do_is_refused_by_name() {
        for (family, rest, name) in [
            ("mamba", "", "mamba"),
            ("llama", r#","rope_scaling":{"type":"yarn","factor":2.0}"#, "yarn"),
            ("llama", r#","hidden_act":"relu""#, "relu"),
            ("falcon", r#","alibi":true"#, "alibi"),
            ("phi", r#","qk_layernorm":true"#, "qk_layernorm"),
            ("qwen3", r#","use_sliding_window":true,"layer_types":["linear_attention"]"#, "linear_attention"),
        ] {
            let error = parse(&with(family, rest)).unwrap_err().to_string();
            assert!(error.contains(&format!("'{name}'")), "{family}: {error}");
        }
    }

    #[test]
    fn a_tied_head_follows_the_familys_default() {
        for (family, tied) in
            [("llama", false), ("gemma", true), ("qwen2", false), ("smollm3", true), ("phi3", false)]
        {
            assert_eq!(parse(&with(family, "")).unwrap().tied_head, tied, "{family}");
        }
    }

    #[test]
    fn numbers_that_no_model_has_are_refused() {
        for rest in [
            r#","head_dim":0"#,
            r#","rope_theta":-1.0"#,
            r#","sliding_window":0"#,
            r#","num_key_value_heads":3"#,
            r#","rms_norm_eps":0"#,
        ] {
            let error = parse(&with("mistral", rest)).unwrap_err();
            assert!(matches!(error, CheckpointError::Malformed { .. }), "{rest}: {error}");
        }
    }
}
