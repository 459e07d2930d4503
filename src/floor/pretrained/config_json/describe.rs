//! The `config.json` of a model from a GGUF file.

use serde_json::{Map, Value as Json, json};

use super::super::architecture::*;

/// The configuration in Hugging Face's format, for the families supported in GGUF.
pub(in crate::pretrained) fn describe(config: &ModelConfig) -> Json {
    let (model_type, class) = match config.family {
        Family::Llama => ("llama", "LlamaForCausalLM"),
        Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        Family::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
        Family::Gemma3Text => ("gemma3_text", "Gemma3ForCausalLM"),
        // Unsupported GGUF families are rejected earlier.
        Family::Mistral => ("mistral", "MistralForCausalLM"),
        Family::Phi => ("phi", "PhiForCausalLM"),
        Family::Phi3 => ("phi3", "Phi3ForCausalLM"),
        Family::Falcon => ("falcon", "FalconForCausalLM"),
        Family::GptNeox => ("gpt_neox", "GPTNeoXForCausalLM"),
        Family::Gemma => ("gemma", "GemmaForCausalLM"),
        Family::Gemma2 => ("gemma2", "Gemma2ForCausalLM"),
        Family::Olmo2 => ("olmo2", "Olmo2ForCausalLM"),
        Family::Smollm3 => ("smollm3", "SmolLM3ForCausalLM"),
    };
    let mut json = json!({
        "architectures": [class],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.tied_head,
        "torch_dtype": "bfloat16",
        "rope_theta": config.ropes[0].theta,
    });
    json["rope_scaling"] = scaling(config);
    if config.family == Family::Gemma3Text {
        json["hidden_activation"] = json!("gelu_pytorch_tanh");
        json["query_pre_attn_scalar"] = json!(config.attention_scale.powi(-2).round() as u64);
        json["rope_local_base_freq"] = json!(config.ropes[1].theta);
        json["sliding_window"] = json!(config.layer_forms.iter().find_map(|form| form.window));
        let kind =
            |form: &LayerForm| if form.window.is_some() { "sliding_attention" } else { "full_attention" };
        json["layer_types"] = config.layer_forms.iter().map(kind).collect();
    } else {
        json["hidden_act"] = json!("silu");
    }
    json
}

/// A GGUF file's divisors follow Llama 3's rule, which is recovered from them: the largest is the factor, the published
/// bounds are 1 and 4, and a divisor in between gives the number of original positions.
fn scaling(config: &ModelConfig) -> Json {
    match &config.ropes[0].scaling {
        RopeScaling::None => Json::Null,
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 { factor, low_factor, high_factor, original_positions } => {
            llama3(*factor, *low_factor, *high_factor, *original_positions)
        }
        RopeScaling::Divisors { divisors } => {
            let largest = f64::from(divisors.iter().copied().fold(1.0f32, f32::max));
            let factor = (1e4 * largest).round() / 1e4;
            llama3(factor, 1.0, 4.0, original_positions(config, divisors, factor))
        }
    }
}

/// For a wave of length λ with divisor d: 1/d = (1 − s)/factor + s with s = (positions/λ − 1)/3.
fn original_positions(config: &ModelConfig, divisors: &[f32], factor: f64) -> f64 {
    let between = |d: &f32| f64::from(*d) > 1.001 && f64::from(*d) < 0.999 * factor;
    let length = |at: usize| {
        let exponent = 2.0 * at as f64 / config.rotary_dim as f64;
        2.0 * std::f64::consts::PI * config.ropes[0].theta.powf(exponent)
    };
    let Some(at) = divisors.iter().position(between) else {
        // Any number between the longest kept wave and the shortest divided one is equivalent.
        let divided = divisors.iter().position(|d| *d > 1.001).unwrap_or(divisors.len());
        let kept = divided.checked_sub(1).map_or(1.0, |last| 4.0 * length(last));
        return (kept * length(divided).max(kept)).sqrt().round();
    };
    let length = length(at);
    let part = (1.0 / f64::from(divisors[at]) - 1.0 / factor) / (1.0 - 1.0 / factor);
    (length * (3.0 * part + 1.0)).round()
}

fn llama3(factor: f64, low: f64, high: f64, original: f64) -> Json {
    let mut map = Map::new();
    map.insert("rope_type".into(), json!("llama3"));
    map.insert("factor".into(), json!(factor));
    map.insert("low_freq_factor".into(), json!(low));
    map.insert("high_freq_factor".into(), json!(high));
    map.insert("original_max_position_embeddings".into(), json!(original as u64));
    Json::Object(map)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse_config;
    use super::*;

    #[test]
    fn what_is_described_is_read_back() {
        let sizes = LlamaSizes {
            vocab_size: 32,
            hidden_size: 16,
            intermediate_size: 24,
            layers: 6,
            heads: 4,
            kv_heads: 2,
            head_dim: 4,
        };
        let mut config = ModelConfig::llama(sizes);
        for family in [Family::Llama, Family::Qwen2, Family::Qwen3, Family::Gemma3Text] {
            config.family = family;
            let text = describe(&config_of(config.clone())).to_string();
            assert_eq!(parse_config(Path::new("config.json"), &text).unwrap().0, config_of(config.clone()));
        }
    }

    /// The settings implied by a file's family.
    fn config_of(mut config: ModelConfig) -> ModelConfig {
        match config.family {
            Family::Qwen2 => config.biases.query_key_value = true,
            Family::Qwen3 => config.query_key_norm = QueryKeyNorm::EachHead,
            Family::Gemma3Text => {
                config.norm = Norm::RmsPlusOne;
                config.activation = Activation::GeluTanh;
                config.block = BlockForm::Sandwich;
                config.query_key_norm = QueryKeyNorm::EachHead;
                config.scaled_embedding = true;
                config.ropes.push(Rope { theta: 5e3, scaling: RopeScaling::None });
                for (n, form) in config.layer_forms.iter_mut().enumerate() {
                    let slides = n != 5;
                    *form = LayerForm { window: slides.then_some(9), rope: Some(usize::from(slides)) };
                }
            }
            _ => {}
        }
        config
    }

    #[test]
    fn the_rule_behind_listed_divisors_is_found_again() {
        let sizes = LlamaSizes {
            vocab_size: 32,
            hidden_size: 256,
            intermediate_size: 24,
            layers: 1,
            heads: 2,
            kv_heads: 2,
            head_dim: 128,
        };
        let mut config = ModelConfig::llama(sizes);
        config.ropes[0].theta = 5e5;
        let divisor = |n: usize| {
            let length = 2.0 * std::f64::consts::PI * 5e5f64.powf(n as f64 / 64.0);
            let part = ((8192.0 / length - 1.0) / 3.0).clamp(0.0, 1.0);
            (1.0 / ((1.0 - part) / 8.0 + part)) as f32
        };
        config.ropes[0].scaling = RopeScaling::Divisors { divisors: (0..64).map(divisor).collect() };
        let json = describe(&config);
        let scaling = &json["rope_scaling"];
        assert_eq!(
            (scaling["factor"].as_f64(), scaling["original_max_position_embeddings"].as_u64()),
            (Some(8.0), Some(8192))
        );
    }
}
