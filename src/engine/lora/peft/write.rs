//! Writing an adapter in PEFT's format.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

use floor::job::{Digest, Init, LoraConfig, Scaling, Variant};
use floor::pretrained::{LayerName, sync_folder, sync_parent, write_safetensors};
use serde_json::{Map, json};
use tch::{Kind, Tensor};

use super::{A, B, CONFIG, HEAD, MAGNITUDE, WEIGHTS, modules, tensor_name};
use crate::failure::EngineError;
use crate::lora::{Adapter, Pair};
use crate::model::{Model, row_norms};
use crate::tensor::to_f32;

/// Writes the folder under a temporary name next to `folder` and renames it, so it is never partial. Layers that share
/// a matrix become one adapter: summed rank, alpha scaled to keep the product, A stacked, B in blocks at each layer's
/// rows. Errors: I/O.
pub(crate) fn write_adapter(
    folder: &Path,
    adapter: &Adapter,
    model: &Model,
    lora: &LoraConfig,
    base_name: &str,
) -> Result<Digest, EngineError> {
    let io = |what: &str| {
        let what = format!("{what} {}", folder.display());
        move |source| EngineError::Io { what, source }
    };
    let beside = folder.with_extension(format!("{}.partial", std::process::id()));
    match std::fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("clearing")(error)),
        _ => {}
    }
    std::fs::create_dir_all(&beside).map_err(io("creating"))?;
    let mut tensors = Vec::new();
    let mut targets: Vec<String> = Vec::new();
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for (module, layers) in modules(&model.config, HEAD) {
        let pairs: Vec<(LayerName, &Pair)> =
            layers.iter().filter_map(|name| Some((*name, adapter.pair(*name)?.1))).collect();
        if pairs.is_empty() {
            continue;
        }
        let target = module.rsplit('.').next().unwrap_or(&module).to_owned();
        if pairs.len() > 1 {
            let count = pairs.len() as f64;
            let factor = if lora.scaling == Scaling::RankStabilized { count.sqrt() } else { count };
            ranks.insert(target.clone(), json!(lora.rank * pairs.len() as u64));
            alphas.insert(target.clone(), json!(lora.alpha * factor));
        }
        if !targets.contains(&target) {
            targets.push(target);
        }
        for (name, tensor) in joined(model, &layers, &pairs) {
            let shape = tensor.size().iter().map(|&n| n as usize).collect();
            tensors.push((tensor_name(&module, name), shape, to_f32(&tensor)?));
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
        "target_modules": targets,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": match lora.init {
            Init::Kaiming => json!(true),
            Init::Gaussian => json!("gaussian"),
        },
        "inference_mode": true,
        "modules_to_save": null,
        "use_rslora": lora.scaling == Scaling::RankStabilized,
        "use_dora": lora.variant == Variant::Dora,
    });
    let text = serde_json::to_string_pretty(&config).unwrap_or_default();
    let digest = put_in_place(&beside, folder, &text).map_err(io("writing"));
    if digest.is_err() {
        // Remove a partial folder.
        let _ = std::fs::remove_dir_all(&beside);
    }
    digest
}

/// Writes the configuration to the temporary folder and renames it, after all bytes and names are synced to disk.
fn put_in_place(beside: &Path, folder: &Path, config: &str) -> std::io::Result<Digest> {
    let mut file = std::fs::File::create(beside.join(CONFIG))?;
    file.write_all(config.as_bytes())?;
    file.sync_all()?;
    let digest = Digest::of_reader(&mut std::fs::File::open(beside.join(WEIGHTS))?)?;
    sync_folder(beside)?;
    match std::fs::rename(beside, folder) {
        // The target folder is not empty: an adapter with the same key, swapped for this one atomically.
        Err(error) if folder.is_dir() => exchange(beside, folder).map_err(|_| error)?,
        renamed => renamed?,
    }
    sync_parent(folder)?;
    Ok(digest)
}

/// Swaps two folders atomically, so the path always exists, and removes the old one.
fn exchange(beside: &Path, folder: &Path) -> std::io::Result<()> {
    let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
    nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, beside, nix::fcntl::AT_FDCWD, folder, flags)
        // File systems without an atomic swap: remove the old one first.
        .or_else(|_| std::fs::remove_dir_all(folder).and_then(|()| std::fs::rename(beside, folder)))?;
    match std::fs::remove_dir_all(beside) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A, B and magnitudes of a module from its layers.
fn joined(model: &Model, layers: &[LayerName], pairs: &[(LayerName, &Pair)]) -> Vec<(&'static str, Tensor)> {
    let config = &model.config;
    if let ([only], [(_, pair)]) = (layers, pairs)
        && config.place(*only).rows.is_none()
    {
        let magnitude = pair.magnitude.as_ref().map(|magnitude| (MAGNITUDE, magnitude.detach()));
        return [(A, pair.a.detach()), (B, pair.b.detach())].into_iter().chain(magnitude).collect();
    }
    let out = layers.iter().map(|layer| config.shape(*layer)[0]).sum::<u64>() as i64;
    let stacked: Vec<Tensor> = pairs.iter().map(|(_, pair)| pair.a.detach()).collect();
    let a = Tensor::cat(&stacked, 0);
    let b = Tensor::zeros([out, a.size()[0]], (a.kind(), a.device()));
    let mut column = 0;
    // PEFT's magnitudes cover every row; layers without an adapter get W's norms, which change nothing.
    let has_magnitudes = pairs.iter().any(|(_, pair)| pair.magnitude.is_some());
    let mut magnitudes = has_magnitudes.then(|| Tensor::zeros([out], (a.kind(), a.device())));
    for layer in layers {
        let rows: Vec<i64> =
            config.place(*layer).rows.into_iter().flatten().flatten().map(|row| row as i64).collect();
        let rows = Tensor::from_slice(&rows).to_device(a.device());
        let pair = pairs.iter().find(|(name, _)| name == layer).map(|(_, pair)| *pair);
        if let Some(pair) = pair {
            let rank = pair.b.size()[1];
            let _ = b.narrow(1, column, rank).index_copy_(0, &rows, &pair.b.detach());
            column += rank;
        }
        if let Some(magnitudes) = &mut magnitudes {
            let magnitude = pair.and_then(|pair| pair.magnitude.as_ref()).map(Tensor::detach);
            let norms = || model.linear(*layer).map(|linear| row_norms(&linear.weight.dense()));
            if let Some(magnitude) = magnitude.or_else(norms) {
                let _ = magnitudes.index_copy_(0, &rows, &magnitude.to_kind(Kind::Float).to_kind(a.kind()));
            }
        }
    }
    [(A, a), (B, b)].into_iter().chain(magnitudes.map(|magnitudes| (MAGNITUDE, magnitudes))).collect()
}
