//! Hugging Face folders: `config.json` beside one safetensors file, or several with an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::architecture::ModelConfig;
use super::error::CheckpointError;
use super::safetensors_file::SafetensorsFile;

/// The part of `config.json` that is read. Old files keep `rope_theta` at the top, new ones in `rope_parameters`.
#[derive(Deserialize)]
struct ConfigFile {
    model_type: String,
    vocab_size: u64,
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<serde_json::Value>,
    max_position_embeddings: Option<u64>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    hidden_act: Option<String>,
}

#[derive(Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads the shape of a Hugging Face folder from its `config.json`, weights there or not. Errors: unreadable, of an unsupported family or rule, contradictory.
pub fn read_config(folder: &Path) -> Result<ModelConfig, CheckpointError> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
    let malformed = |reason: String| CheckpointError::Malformed { path: path.clone(), reason };
    let file: ConfigFile = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
    let unsupported =
        |what, name: &str| CheckpointError::Unsupported { path: path.clone(), what, name: name.to_owned() };
    if file.model_type != "llama" {
        return Err(unsupported("architecture", &file.model_type));
    }
    let act = file.hidden_act.as_deref().unwrap_or("silu");
    if act != "silu" {
        return Err(unsupported("activation", act));
    }
    if file.attention_bias == Some(true) || file.mlp_bias == Some(true) {
        return Err(unsupported("option", "bias"));
    }
    let rope = file.rope_parameters.as_ref();
    let rope_type = rope.and_then(|r| r.rope_type.as_deref()).unwrap_or("default");
    if rope_type != "default" || file.rope_scaling.is_some_and(|scaling| !scaling.is_null()) {
        return Err(unsupported("rotary scaling", rope_type));
    }
    let heads = file.num_attention_heads;
    let config = ModelConfig {
        vocab_size: file.vocab_size,
        hidden_size: file.hidden_size,
        intermediate_size: file.intermediate_size,
        layers: file.num_hidden_layers,
        heads,
        kv_heads: file.num_key_value_heads.unwrap_or(heads),
        head_dim: file.head_dim.unwrap_or_else(|| file.hidden_size.checked_div(heads).unwrap_or_default()),
        norm_eps: file.rms_norm_eps.unwrap_or(1e-6),
        rope_theta: rope.and_then(|r| r.rope_theta).or(file.rope_theta).unwrap_or(1e4),
        max_positions: file.max_position_embeddings.unwrap_or(2048),
        tied_head: file.tie_word_embeddings.unwrap_or(false),
    };
    config.contradiction().map_or(Ok(config), |reason| Err(malformed(reason)))
}

/// The safetensors files of a folder: those of the index, or `model.safetensors`. Errors: none there, a shard
/// missing (named), an unreadable header.
pub(super) fn open_files(folder: &Path) -> Result<Vec<SafetensorsFile>, CheckpointError> {
    let index = folder.join("model.safetensors.index.json");
    let names: BTreeSet<String> = if index.is_file() {
        let text = std::fs::read_to_string(&index)
            .map_err(|source| CheckpointError::Io { path: index.clone(), source })?;
        let parsed: Index = serde_json::from_str(&text)
            .map_err(|e| CheckpointError::Malformed { path: index.clone(), reason: e.to_string() })?;
        parsed.weight_map.into_values().collect()
    } else {
        BTreeSet::from(["model.safetensors".to_owned()])
    };
    let open = |name: &String| {
        // A shard's name is a file name of this folder, never a path that leads out of it.
        let plain = Path::new(name).file_name().is_some_and(|file| file == name.as_str());
        let path: PathBuf = folder.join(name);
        if !plain {
            return Err(CheckpointError::Malformed {
                path: index.clone(),
                reason: format!("shard name '{name}'"),
            });
        }
        if !path.is_file() {
            return Err(CheckpointError::Missing { path });
        }
        SafetensorsFile::open(&path)
    };
    names.iter().map(open).collect()
}
