//! Adapters on disk, as the folders that PEFT writes and reads: `adapter_config.json` and
//! `adapter_model.safetensors`.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use loragrid::checkpoint::{ATTENTION_AND_MLP, LayerName, SafetensorsFile, write_safetensors};
use loragrid::job::{Init, LayerKind, LoraConfig, Scaling};
use serde::Deserialize;
use serde_json::json;
use tch::Device;

use super::{Adapter, Pair};
use crate::failure::EngineError;
use crate::model::Model;
use crate::tensor::{from_stored, to_f32, wide};

const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";
const BASE_HEAD: &str = "base_model.model.lm_head.base_layer.weight";

/// PEFT's names of a layer's two matrices.
fn tensor_names(layer: LayerName) -> [String; 2] {
    ["A", "B"].map(|part| format!("base_model.model.{}.lora_{part}.weight", layer.module()))
}

/// The target names of PEFT for these kinds of layers.
fn targets(kinds: &BTreeSet<LayerKind>) -> Vec<&'static str> {
    let blocks = ATTENTION_AND_MLP.iter().filter(|p| kinds.contains(&p.kind())).map(|p| p.target());
    blocks.chain(kinds.contains(&LayerKind::Head).then_some("lm_head")).collect()
}

/// Writes an adapter's folder beside `folder` and renames it, so that it appears whole or not at all. Errors: the
/// system's.
pub(crate) fn write_adapter(
    folder: &Path,
    adapter: &Adapter,
    lora: &LoraConfig,
    base_name: &str,
) -> Result<(), EngineError> {
    let io = |what: &str| {
        let what = format!("{what} {}", folder.display());
        move |source| EngineError::Io { what, source }
    };
    let beside = folder.with_extension("partial");
    match std::fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("clearing")(error)),
        _ => {}
    }
    std::fs::create_dir_all(&beside).map_err(io("creating"))?;
    let mut tensors = Vec::new();
    for (name, pair) in &adapter.pairs {
        for (spelled, tensor) in tensor_names(*name).into_iter().zip([&pair.a, &pair.b]) {
            let shape = tensor.size().iter().map(|&n| n as usize).collect();
            tensors.push((spelled, shape, to_f32(&tensor.detach())?));
        }
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(&beside.join(WEIGHTS), &tensors, metadata).map_err(io("writing"))?;
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": targets(&lora.layers),
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": match lora.init {
            Init::Kaiming => json!(true),
            Init::Gaussian => json!("gaussian"),
        },
        "inference_mode": true,
        "modules_to_save": null,
        "use_rslora": lora.scaling == Scaling::RankStabilised,
        "use_dora": false,
    });
    let text = serde_json::to_string_pretty(&config).unwrap_or_default();
    std::fs::write(beside.join(CONFIG), text).map_err(io("writing"))?;
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("replacing")(error)),
        _ => {}
    }
    std::fs::rename(&beside, folder).map_err(io("renaming"))
}

/// The part of `adapter_config.json` that is read.
#[derive(Deserialize)]
struct ConfigFile {
    peft_type: String,
    r: u64,
    lora_alpha: f64,
    target_modules: Vec<String>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
}

fn unfit(folder: &Path, reason: String) -> EngineError {
    EngineError::Adapter { path: folder.display().to_string(), reason }
}

/// Reads what an adapter's folder says of its form. Errors: unreadable, another kind of adapter, an unknown target.
pub(crate) fn read_lora(folder: &Path) -> Result<LoraConfig, EngineError> {
    let fail = |reason: String| unfit(folder, reason);
    let text = std::fs::read_to_string(folder.join(CONFIG)).map_err(|e| fail(format!("{CONFIG}: {e}")))?;
    let config: ConfigFile = serde_json::from_str(&text).map_err(|e| fail(format!("{CONFIG}: {e}")))?;
    if config.peft_type != "LORA" || config.use_dora || config.r == 0 {
        return Err(fail("it is no plain LoRA adapter".to_owned()));
    }
    let layers =
        kinds(&config.target_modules).map_err(|target| fail(format!("target '{target}' is not known")))?;
    let scaling = if config.use_rslora { Scaling::RankStabilised } else { Scaling::Standard };
    Ok(LoraConfig { alpha: config.lora_alpha, scaling, ..LoraConfig::plain(config.r, layers) })
}

/// Reads an adapter's folder for a model. Errors: as [`read_lora`], a target that the model lacks, a missing, unknown or
/// wrongly shaped tensor.
pub(crate) fn read_adapter(folder: &Path, model: &Model, device: Device) -> Result<Adapter, EngineError> {
    let kind = wide(model.kind);
    let fail = |reason: String| unfit(folder, reason);
    let lora = read_lora(folder)?;
    let adapter = Adapter::zeros(&model.config, &lora, kind, device);
    let file = SafetensorsFile::open(&folder.join(WEIGHTS))?;
    let mut known = BTreeSet::new();
    for (name, Pair { a, b }) in &adapter.pairs {
        for (spelled, target) in tensor_names(*name).into_iter().zip([a, b]) {
            let stored = file.read(&spelled)?;
            let shape: Vec<u64> = target.size().iter().map(|&n| n as u64).collect();
            if stored.shape != shape {
                return Err(fail(format!("'{spelled}' has shape {:?}, expected {shape:?}", stored.shape)));
            }
            adapter.fill(target, &from_stored(&stored, kind, device));
            known.insert(spelled);
        }
    }
    for info in file.tensors().iter().filter(|info| !known.contains(&info.name)) {
        // PEFT saves the frozen head beside an adapter on it; it must be this model's.
        let stored = (info.name == BASE_HEAD).then(|| file.read(BASE_HEAD)).transpose()?;
        if !stored.is_some_and(|stored| model.has_head(&from_stored(&stored, model.kind, device))) {
            return Err(fail(format!("'{}' is no tensor of this model's adapter", info.name)));
        }
    }
    Ok(adapter)
}

/// The kinds of layers that PEFT's target names mean. Error: a target that is no layer's, or half of the
/// feed-forward part.
fn kinds(names: &[String]) -> Result<BTreeSet<LayerKind>, String> {
    let all = ATTENTION_AND_MLP.iter().map(|p| (p.target(), p.kind())).chain([("lm_head", LayerKind::Head)]);
    let all: Vec<(&str, LayerKind)> = all.collect();
    let mut found = BTreeSet::new();
    for name in names {
        let kind = all.iter().find(|(target, _)| target == name).map(|(_, kind)| *kind);
        found.insert(kind.ok_or_else(|| name.clone())?);
    }
    match targets(&found).into_iter().find(|target| !names.iter().any(|name| name == target)) {
        Some(missing) => Err(format!("(all but {missing})")),
        None => Ok(found),
    }
}
