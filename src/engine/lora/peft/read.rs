//! Reading an adapter folder for a loaded model.

use std::collections::BTreeSet;
use std::path::Path;

use floor::pretrained::{LayerName, SafetensorsFile};
use tch::{Kind, Tensor};

use super::config::{AdaptedModule, read_form};
use super::{A, B, MAGNITUDE, WEIGHTS, tensor_name, unfit};
use crate::failure::EngineError;
use crate::lora::{Adapter, PairForm};
use crate::model::Model;
use crate::tensor::{from_stored, wide};

/// Reads an adapter folder for a model. Errors: another kind of adapter, a target that the model lacks, a missing,
/// unknown, wrongly shaped or transposed tensor.
pub(crate) fn read_adapter(folder: &Path, model: &Model) -> Result<Adapter, EngineError> {
    let (kind, device) = (wide(model.kind), model.device());
    let form = read_form(folder, &model.config)?;
    let file = SafetensorsFile::open(&folder.join(WEIGHTS))?;
    let mut reader = Reader { folder, file: &file, model, known: BTreeSet::new() };
    let mut parts = Vec::new();
    for module in &form.modules {
        parts.extend(reader.module(module, form.dora)?);
    }
    let head = if form.saved_head {
        let shape: Vec<u64> = model.config.shape(LayerName::Head);
        Some(reader.tensor(form.head, "weight", &shape)?.to_kind(model.kind))
    } else {
        None
    };
    let base_head = tensor_name(form.head, "base_layer.weight");
    let saved_head = tensor_name(form.head, "weight");
    let saved_embedding = tensor_name(&model.config.place(LayerName::Embedding).module, "weight");
    for info in file.tensors().iter().filter(|info| !reader.known.contains(&info.name)) {
        // PEFT saves the frozen head beside an adapter on it, and embeddings of a resized vocabulary; they must match
        // this model's.
        let frozen = [&base_head, &saved_head, &saved_embedding].contains(&&info.name);
        let stored = frozen.then(|| file.read(&info.name)).transpose()?;
        let stored = stored.map(|stored| from_stored(&stored, model.kind, device));
        let is_own = |stored: &Tensor| {
            if info.name == saved_embedding { model.has_embedding(stored) } else { model.has_head(stored) }
        };
        match stored {
            Some(stored) if is_own(&stored) => {}
            Some(stored) => {
                let (found, shape) = (stored.size(), model.config.shape(LayerName::Embedding));
                return Err(unfit(
                    folder,
                    format!("'{}' {found:?} is not the base model's {shape:?}", info.name),
                ));
            }
            None => {
                let shape = &info.shape;
                let reason = format!("'{}' {shape:?} is not a tensor of this model's adapter", info.name);
                return Err(unfit(folder, reason));
            }
        }
    }
    let forms: Vec<PairForm> = parts.iter().map(|part| part.form).collect();
    let mut adapter = Adapter::zeros(&model.config, &forms, kind, device);
    for ((_, pair), part) in adapter.pairs.iter().zip(&parts) {
        for (target, values) in pair.leaves().zip([&part.a, &part.b].into_iter().chain(&part.magnitude)) {
            adapter.fill(target, values);
        }
    }
    adapter.head = head;
    if adapter.is_no_op() {
        tracing::warn!("the adapter at {} changes nothing: every B is zero", folder.display());
    }
    Ok(adapter)
}

/// One layer's tensors.
struct LayerParts {
    form: PairForm,
    a: Tensor,
    b: Tensor,
    magnitude: Option<Tensor>,
}

struct Reader<'a> {
    folder: &'a Path,
    file: &'a SafetensorsFile,
    model: &'a Model,
    /// Names read so far.
    known: BTreeSet<String>,
}

impl Reader<'_> {
    fn tensor(&mut self, module: &str, tensor: &str, shape: &[u64]) -> Result<Tensor, EngineError> {
        let mut name = tensor_name(module, tensor);
        if tensor == MAGNITUDE && !self.file.contains(&name) {
            name += ".weight";
        }
        let stored = self.file.read(&name)?;
        if stored.shape != shape {
            let reversed: Vec<u64> = stored.shape.iter().rev().copied().collect();
            let hint = if reversed == shape { ": it is transposed" } else { "" };
            let found = &stored.shape;
            return Err(unfit(
                self.folder,
                format!("'{name}' has shape {found:?}, expected {shape:?}{hint}"),
            ));
        }
        self.known.insert(name);
        Ok(from_stored(&stored, wide(self.model.kind), self.model.device()))
    }

    /// A module's layers. If several share a matrix, each gets its rows of B, without the columns that are all zero
    /// there.
    fn module(&mut self, module: &AdaptedModule, dora: bool) -> Result<Vec<LayerParts>, EngineError> {
        let AdaptedModule { module: name, layers, rank, scaling } = module;
        let config = &self.model.config;
        let out = layers.iter().map(|layer| config.shape(*layer)[0]).sum::<u64>();
        let width = config.shape(layers[0])[1];
        let a = self.tensor(name, A, &[*rank as u64, width])?;
        let b = self.tensor(name, B, &[out, *rank as u64])?;
        let magnitude = dora.then(|| self.tensor(name, MAGNITUDE, &[out])).transpose()?;
        let mut parts = Vec::new();
        for layer in layers {
            let Some(rows) = config.place(*layer).rows else {
                let form = PairForm { name: *layer, rank: *rank, scaling: *scaling, dora };
                parts.push(LayerParts {
                    form,
                    a: a.shallow_clone(),
                    b: b.shallow_clone(),
                    magnitude: magnitude.as_ref().map(Tensor::shallow_clone),
                });
                continue;
            };
            let rows: Vec<i64> = rows.into_iter().flatten().map(|row| row as i64).collect();
            let rows = Tensor::from_slice(&rows).to_device(b.device());
            let b_rows = b.index_select(0, &rows);
            let used =
                b_rows.ne(0.0).sum_dim_intlist([0i64].as_slice(), false, Kind::Int64).nonzero().view([-1]);
            if used.numel() == 0 && !dora {
                continue;
            }
            // A matrix without columns is replaced by one of zeros.
            let used = if used.numel() == 0 { Tensor::zeros([1], (Kind::Int64, b.device())) } else { used };
            parts.push(LayerParts {
                form: PairForm { name: *layer, rank: used.numel() as i64, scaling: *scaling, dora },
                a: a.index_select(0, &used),
                b: b_rows.index_select(1, &used),
                magnitude: magnitude.as_ref().map(|magnitude| magnitude.index_select(0, &rows)),
            });
        }
        Ok(parts)
    }
}
