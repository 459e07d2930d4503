//! Adapters on disk in PEFT's folder format: `adapter_config.json` and `adapter_model.safetensors`.

mod config;
mod read;
mod write;

use std::path::Path;

use floor::pretrained::{LayerName, ModelConfig};

#[cfg(test)]
pub(crate) use config::read_form;
pub(crate) use read::read_adapter;
pub(crate) use write::write_adapter;

use crate::failure::EngineError;

const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";

fn unfit(folder: &Path, reason: impl Into<String>) -> EngineError {
    EngineError::Adapter { path: folder.display().to_string(), reason: reason.into() }
}

/// PEFT's name for a module's tensor.
fn tensor_name(module: &str, tensor: &str) -> String {
    format!("base_model.model.{module}.{tensor}")
}

const A: &str = "lora_A.weight";
const B: &str = "lora_B.weight";
const MAGNITUDE: &str = "lora_magnitude_vector";

/// transformers' name for the head's module; GPT-NeoX checkpoints, and transformers before 5, use `embed_out`.
const HEAD: &str = "lm_head";
const OLD_HEAD: &str = "embed_out";

/// The model's modules that can have an adapter, each with the layers in its matrix, in forward order.
fn modules(model: &ModelConfig, head: &str) -> Vec<(String, Vec<LayerName>)> {
    let mut modules: Vec<(String, Vec<LayerName>)> = Vec::new();
    let blocks = (0..model.layers as usize)
        .flat_map(|n| model.projections().iter().map(move |p| LayerName::Block(n, *p)));
    for name in blocks.chain([LayerName::Head]) {
        let module = if name == LayerName::Head { head.to_owned() } else { model.place(name).module };
        match modules.last_mut().filter(|(last, _)| *last == module) {
            Some((_, layers)) => layers.push(name),
            None => modules.push((module, vec![name])),
        }
    }
    modules
}
