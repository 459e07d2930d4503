//! A PEFT adapter as llama.cpp's GGUF: its names, its order of rows, its scale.
//!
//! llama.cpp adds `alpha / rank · B·A` with one alpha for the whole file and the rank of each B (`llama-adapter.cpp`). A module whose
//! scale is another one has it in its B.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::architecture::{Family, ModelConfig};
use super::error::CheckpointError;
use super::gguf_config::{gguf_name, pairs_from_halves};
use super::names::{LayerName, Part, Projection};
use super::safetensors_file::SafetensorsFile;
use super::tensor::Elements;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";
/// Bytes to which the data of each tensor is aligned.
const ALIGNMENT: usize = 32;
/// Types of metadata values and of tensors.
const UINT32: u32 = 4;
const FLOAT32: u32 = 6;
const STRING: u32 = 8;
const F32: u32 = 0;

/// A written adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GgufAdapter {
    /// Matrices that it changes.
    pub matrices: usize,
    /// Bytes of the file.
    pub size: u64,
}

/// A tensor to write.
struct Tensor {
    name: String,
    /// Slowest dimension first.
    shape: [u64; 2],
    values: Vec<f32>,
}

/// Writes the adapter in a PEFT folder as a GGUF file for a base model of this configuration. Errors: an adapter that llama.cpp cannot
/// apply (DoRA, whole layers, a family that it has otherwise), missing or contradictory files, I/O.
pub fn write_gguf_adapter(
    folder: &Path,
    base: &ModelConfig,
    name: &str,
    out: &Path,
) -> Result<GgufAdapter, CheckpointError> {
    let unsupported = |what: &'static str, name: &str| CheckpointError::Unsupported {
        path: folder.to_owned(),
        what,
        name: name.to_owned(),
    };
    let architecture = architecture(base.family);
    let architecture = architecture.ok_or_else(|| {
        unsupported("GGUF adapter of the family", &format!("{:?}", base.family).to_lowercase())
    })?;
    let form = AdapterForm::read(folder)?;
    let weights = SafetensorsFile::open(&folder.join(WEIGHTS))?;
    let places = modules(base);
    let mut tensors = Vec::new();
    for info in weights.tensors() {
        let module = info.name.strip_prefix(PREFIX).unwrap_or(&info.name);
        let (module, is_b) =
            match (module.strip_suffix(".lora_A.weight"), module.strip_suffix(".lora_B.weight")) {
                (Some(module), _) => (module, false),
                (_, Some(module)) => (module, true),
                _ => return Err(unsupported("GGUF adapter with the tensor", &info.name)),
            };
        let place = places.get(module).ok_or_else(|| unsupported("GGUF adapter of the module", module))?;
        let data = weights.read(&info.name)?;
        let [rows, columns] = data.shape[..] else {
            return Err(unsupported("GGUF adapter with the tensor", &info.name));
        };
        let mut values: Vec<f32> = match data.elements {
            Elements::F32(values) => values,
            Elements::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
            Elements::Bf16(values) => values.iter().map(|value| value.to_f32()).collect(),
        };
        if is_b {
            let factor = form.scale(module, columns as f64) * columns as f64 / form.alpha;
            if factor != 1.0 {
                values.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
            }
            if let Some(heads) = place.heads {
                values = pairs_from_halves(&values, heads as usize, base.head_dim as usize);
            }
        }
        let kind = if is_b { "lora_b" } else { "lora_a" };
        tensors.push(Tensor { name: format!("{}.{kind}", place.tensor), shape: [rows, columns], values });
    }
    let matrices = tensors.len() / 2;
    let bytes = encoded(architecture, name, form.alpha as f32, &tensors);
    let written = write_whole(out, &bytes);
    written.map_err(|source| CheckpointError::Io { path: out.to_owned(), source })?;
    Ok(GgufAdapter { matrices, size: bytes.len() as u64 })
}

/// llama.cpp's name of a family; none: its matrices are stored there in another way.
fn architecture(family: Family) -> Option<&'static str> {
    match family {
        Family::Llama | Family::Mistral => Some("llama"),
        Family::Qwen2 => Some("qwen2"),
        Family::Qwen3 => Some("qwen3"),
        Family::Gemma => Some("gemma"),
        Family::Gemma2 => Some("gemma2"),
        Family::Gemma3Text => Some("gemma3"),
        Family::Phi3 => Some("phi3"),
        Family::Olmo2 => Some("olmo2"),
        Family::Smollm3 => Some("smollm3"),
        Family::Phi | Family::Falcon | Family::GptNeox => None,
    }
}

/// Where a module is in a GGUF file.
struct GgufPlace {
    /// The base tensor.
    tensor: String,
    /// Heads whose rows are stored as rotary pairs.
    heads: Option<u64>,
}

/// The modules of all blocks by their Hugging Face names.
fn modules(base: &ModelConfig) -> BTreeMap<String, GgufPlace> {
    let has_pairs = matches!(base.family, Family::Llama | Family::Mistral | Family::Smollm3);
    let mut found = BTreeMap::new();
    for n in 0..base.layers as usize {
        for projection in base.projections() {
            let name = LayerName::Block(n, *projection);
            let place = base.place(name);
            // Matrices that are one module are one tensor there too.
            let tensor = match (place.rows.is_some(), projection) {
                (true, Projection::Query | Projection::Key | Projection::Value) => {
                    format!("blk.{n}.attn_qkv.weight")
                }
                (true, _) => format!("blk.{n}.ffn_up.weight"),
                (false, _) => gguf_name(name, Part::Weight),
            };
            let heads = match projection {
                Projection::Query if has_pairs => Some(base.heads),
                Projection::Key if has_pairs => Some(base.kv_heads),
                _ => None,
            };
            found.entry(place.module).or_insert(GgufPlace { tensor, heads });
        }
    }
    found
}

/// What `adapter_config.json` says of the scale. Other fields that change an adapter are refused.
struct AdapterForm {
    alpha: f64,
    alphas: Map<String, Json>,
    is_rank_stabilized: bool,
}

impl AdapterForm {
    fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(CONFIG);
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
        let malformed = |reason: String| CheckpointError::Malformed { path: path.clone(), reason };
        let config: Map<String, Json> =
            serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        let is_set = |key: &str| match config.get(key) {
            None | Some(Json::Null | Json::Bool(false)) => false,
            Some(Json::Array(list)) => !list.is_empty(),
            Some(Json::Object(object)) => !object.is_empty(),
            Some(Json::String(text)) => text != "none",
            Some(_) => true,
        };
        let refused =
            ["use_dora", "modules_to_save", "bias", "fan_in_fan_out", "lora_bias", "trainable_token_indices"];
        if let Some(key) = refused.iter().find(|key| is_set(key)) {
            return Err(CheckpointError::Unsupported {
                path: folder.to_owned(),
                what: "GGUF adapter with",
                name: (*key).to_owned(),
            });
        }
        let alpha = config.get("lora_alpha").and_then(Json::as_f64).filter(|alpha| *alpha > 0.0);
        Ok(Self {
            alpha: alpha.ok_or_else(|| malformed("lora_alpha is not a number above 0".to_owned()))?,
            alphas: config.get("alpha_pattern").and_then(Json::as_object).cloned().unwrap_or_default(),
            is_rank_stabilized: config.get("use_rslora").and_then(Json::as_bool).unwrap_or(false),
        })
    }

    /// The factor of a module's product.
    fn scale(&self, module: &str, rank: f64) -> f64 {
        let named = self.alphas.iter().find(|(name, _)| {
            module == name.as_str()
                || module.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))
        });
        let alpha = named.and_then(|(_, alpha)| alpha.as_f64()).unwrap_or(self.alpha);
        alpha / if self.is_rank_stabilized { rank.sqrt() } else { rank }
    }
}

/// The file: header, metadata, directory, data (GGUF 3, little endian).
fn encoded(architecture: &str, name: &str, alpha: f32, tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    let texts = [
        ("general.type", "adapter"),
        ("general.architecture", architecture),
        ("general.name", name),
        ("adapter.type", "lora"),
    ];
    out.extend((texts.len() as u64 + 2).to_le_bytes());
    for (key, value) in texts {
        push_text(&mut out, key);
        out.extend(STRING.to_le_bytes());
        push_text(&mut out, value);
    }
    push_text(&mut out, "adapter.lora.alpha");
    out.extend(FLOAT32.to_le_bytes());
    out.extend(alpha.to_le_bytes());
    // All tensors are in single precision.
    push_text(&mut out, "general.file_type");
    out.extend(UINT32.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    let mut offset = 0;
    for tensor in tensors {
        push_text(&mut out, &tensor.name);
        out.extend(2u32.to_le_bytes());
        // The fastest dimension first.
        out.extend(tensor.shape[1].to_le_bytes());
        out.extend(tensor.shape[0].to_le_bytes());
        out.extend(F32.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += (4 * tensor.values.len()).next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    for tensor in tensors {
        tensor.values.iter().for_each(|value| out.extend(value.to_le_bytes()));
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    }
    out
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Beside its place and renamed, so that nobody sees half of it.
fn write_whole(out: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = out.with_extension("partial");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, out)?;
    super::sync_parent(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::gguf::Gguf;
    use crate::pretrained::{Checkpoint, write_safetensors};

    fn reference(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference").join(name)
    }

    /// An adapter of a query and of an output matrix, with this configuration.
    fn folder(base: &ModelConfig, config: Json) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let hidden = base.hidden_size as usize;
        let out = (base.heads * base.head_dim) as usize;
        let numbers = |count: usize| (0..count).map(|n| n as f32 / 64.0).collect::<Vec<f32>>();
        let tensor = |module: &str, rows: usize, columns: usize| {
            (
                format!("{PREFIX}model.layers.0.self_attn.{module}.weight"),
                vec![rows, columns],
                numbers(rows * columns),
            )
        };
        let tensors = [
            tensor("q_proj.lora_A", 2, hidden),
            tensor("q_proj.lora_B", out, 2),
            tensor("o_proj.lora_A", 4, out),
            tensor("o_proj.lora_B", hidden, 4),
        ];
        write_safetensors(&folder.path().join(WEIGHTS), &tensors, Default::default()).unwrap();
        std::fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
        folder
    }

    #[test]
    fn names_rows_and_scales_are_llama_cpps() {
        let checkpoint = Checkpoint::open(&reference("llama")).unwrap();
        let base = checkpoint.config();
        let config = serde_json::json!({ "r": 2, "lora_alpha": 8, "use_rslora": true, "alpha_pattern": { "o_proj": 16 } });
        let adapter = folder(base, config);
        let out = adapter.path().join("adapter.gguf");
        let written = write_gguf_adapter(adapter.path(), base, "a", &out).unwrap();
        assert_eq!((written.matrices, written.size), (2, std::fs::metadata(&out).unwrap().len()));
        let file = Gguf::open(&out).unwrap();
        let names: Vec<&str> = file.tensors().keys().map(String::as_str).collect();
        let expected = [
            "attn_output.weight.lora_a",
            "attn_output.weight.lora_b",
            "attn_q.weight.lora_a",
            "attn_q.weight.lora_b",
        ];
        assert_eq!(names, expected.map(|name| format!("blk.0.{name}")));
        let (tensor, b) = file.dequantize("blk.0.attn_q.weight.lora_b").unwrap();
        assert_eq!(tensor.shape.as_slice(), [base.heads * base.head_dim, 2]);
        // llama.cpp multiplies by 8 / 2; PEFT by 8 / √2. Row 1 of the file is the first row of the second half.
        let (factor, half) = (2f64.sqrt(), base.head_dim as usize / 2);
        let near = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-6 * b.abs().max(1.0), "{a} {b}");
        near(b[2], (2 * half) as f64 / 64.0 * factor);
        near(b[4], 2.0 / 64.0 * factor);
        // 8 / 4 against 16 / √4.
        let (_, b) = file.dequantize("blk.0.attn_output.weight.lora_b").unwrap();
        near(b[1], 1.0 / 64.0 * 4.0);
    }

    #[test]
    fn what_llama_cpp_cannot_apply_is_refused_by_name() {
        let checkpoint = Checkpoint::open(&reference("llama")).unwrap();
        let base = checkpoint.config();
        for (config, name) in [
            (serde_json::json!({ "r": 2, "lora_alpha": 8, "use_dora": true }), "use_dora"),
            (
                serde_json::json!({ "r": 2, "lora_alpha": 8, "modules_to_save": ["lm_head"] }),
                "modules_to_save",
            ),
            (serde_json::json!({ "r": 2 }), "lora_alpha"),
        ] {
            let adapter = folder(base, config);
            let error =
                write_gguf_adapter(adapter.path(), base, "a", &adapter.path().join("a.gguf")).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let other = Checkpoint::open(&reference("falcon_7b")).unwrap();
        let adapter = folder(base, serde_json::json!({ "r": 2, "lora_alpha": 8 }));
        let error = write_gguf_adapter(adapter.path(), other.config(), "a", &adapter.path().join("a.gguf"));
        assert!(error.unwrap_err().to_string().contains("falcon"));
    }
}
