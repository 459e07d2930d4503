//! Merging an adapter into a model's weights, as a Hugging Face folder.

use std::path::Path;

use floor::job::Bytes;
use floor::pretrained::{
    Checkpoint, Elements, FolderWriter, LayerName, Part, Stored, TensorData, write_model_files,
};
use floor::protocol::{MergeBase, MergeOrder};
use half::{bf16, f16};
use tch::{Kind, Tensor};

use crate::failure::EngineError;
use crate::lora::{Adapter, merged_weight};
use crate::model::{Model, dequantized};
use crate::tensor::{from_stored, to_f32};

/// What was written.
pub(crate) struct Merged {
    /// Matrices that the adapter changed.
    pub(crate) changed: u64,
    /// Size of the weights in bytes.
    pub(crate) size: Bytes,
}

/// Writes the merged checkpoint, one module at a time. Sums are in single precision and rounded once to the stored
/// dtype (bf16 for GGUF and 4-bit checkpoints). A tied head with an adapter becomes a separate head. Errors: the
/// checkpoint's, I/O.
pub(crate) fn merge(
    checkpoint: &Checkpoint,
    model: &Model,
    adapter: &Adapter,
    order: &MergeOrder,
) -> Result<Merged, EngineError> {
    let io = |what: &str| {
        let what = format!("{what} {}", order.out.display());
        move |source| EngineError::Io { what, source }
    };
    let config = checkpoint.config();
    let trains_head = adapter.pair(LayerName::Head).is_some() || adapter.head.is_some();
    let tied = config.tied_head && !trains_head;
    let mut beside = order.out.clone().into_os_string();
    beside.push(".partial");
    let beside = Path::new(&beside);
    let mut writer = FolderWriter::create(beside).map_err(io("creating"))?;
    let mut changed = 0;
    let mut names = config.layer_names();
    if config.tied_head && trains_head {
        names.push(LayerName::Head);
    }
    let mut done: Option<String> = None;
    for name in names {
        let module = config.place(name).module;
        if done.as_ref() == Some(&module) {
            continue;
        }
        let layers = config.layers_of_module(name);
        let merger = Merger { checkpoint, model, adapter, base: order.base };
        for part in [Part::Weight, Part::Bias] {
            if part == Part::Bias && !config.has_bias(name) {
                continue;
            }
            let (tensor, touched) = merger.module(&layers, part)?;
            changed += touched;
            writer.add(format!("{module}.{}", part.suffix()), tensor).map_err(io("writing"))?;
        }
        done = Some(module);
    }
    let size = writer.finish().map_err(io("writing"))?;
    write_model_files(checkpoint, beside, tied)?;
    replace(beside, &order.out).map_err(io("renaming to"))?;
    Ok(Merged { changed, size: Bytes(size) })
}

/// The folder may exist if it is empty; nothing in it is ever overwritten.
fn replace(beside: &Path, out: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir(out) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::rename(beside, out)
}

struct Merger<'a> {
    checkpoint: &'a Checkpoint,
    model: &'a Model,
    adapter: &'a Adapter,
    base: MergeBase,
}

impl Merger<'_> {
    /// A module's tensor from its layers, and the number of layers that the adapter changed.
    fn module(&self, layers: &[LayerName], part: Part) -> Result<(TensorData, u64), EngineError> {
        let config = self.checkpoint.config();
        let mut changed = 0;
        let mut whole: Option<(Tensor, StoredKind)> = None;
        for layer in layers {
            let (tensor, kind, touched) = self.layer(*layer, part)?;
            changed += u64::from(touched);
            match config.place(*layer).rows {
                None => whole = Some((tensor, kind)),
                Some(rows) => {
                    let (all, _) = whole.get_or_insert_with(|| {
                        let mut shape = tensor.size();
                        shape[0] = layers.iter().map(|layer| config.shape(*layer)[0] as i64).sum();
                        (Tensor::zeros(shape.as_slice(), (Kind::Float, tensor.device())), kind)
                    });
                    let rows: Vec<i64> = rows.into_iter().flatten().map(|row| row as i64).collect();
                    let _ =
                        all.index_copy_(0, &Tensor::from_slice(&rows).to_device(tensor.device()), &tensor);
                }
            }
        }
        let (tensor, kind) = whole.ok_or(EngineError::NoModel)?;
        Ok((kind.store(&tensor)?, changed))
    }

    /// A layer's tensor in single precision, its output dtype, and whether the adapter changed it.
    fn layer(&self, layer: LayerName, part: Part) -> Result<(Tensor, StoredKind, bool), EngineError> {
        // A tied head is stored as the embedding.
        let tied_head = layer == LayerName::Head && self.checkpoint.config().tied_head;
        let stored = if tied_head { LayerName::Embedding } else { layer };
        let (mut weight, kind) = match self.checkpoint.read(stored, part)? {
            Stored::Dense(data) => {
                // A quantized GGUF has no dtype of its own: write bf16, rounded once.
                let kind = match self.checkpoint.gguf() {
                    Some(_) => StoredKind::Bf16,
                    None => StoredKind::of(&data),
                };
                (from_stored(&data, Kind::Float, self.model.device()), kind)
            }
            // The loaded model holds the values of these codes.
            Stored::FourBit(_) => {
                let dense = self.model.linear(layer).map(|linear| linear.weight.dense());
                (dense.ok_or(EngineError::NoModel)?.to_kind(Kind::Float), StoredKind::Bf16)
            }
        };
        if part == Part::Bias {
            return Ok((weight, kind, false));
        }
        if let (LayerName::Head, Some(head)) = (layer, &self.adapter.head) {
            return Ok((head.to_kind(Kind::Float), kind, true));
        }
        if let (MergeBase::Dequantized(quantize), LayerName::Block(..)) = (self.base, layer) {
            weight = dequantized(&weight.to_kind(self.model.kind), quantize)?.to_kind(Kind::Float);
        }
        match self.adapter.pair(layer) {
            Some((_, pair)) => Ok((merged_weight(pair, &weight), kind, true)),
            None => Ok((weight, kind, false)),
        }
    }
}

/// The dtype of a stored tensor.
#[derive(Debug, Clone, Copy)]
enum StoredKind {
    F32,
    F16,
    Bf16,
}

impl StoredKind {
    fn of(data: &TensorData) -> Self {
        match data.elements {
            Elements::F32(_) => Self::F32,
            Elements::F16(_) => Self::F16,
            Elements::Bf16(_) => Self::Bf16,
        }
    }

    fn store(self, tensor: &Tensor) -> Result<TensorData, EngineError> {
        let values = to_f32(tensor)?;
        let elements = match self {
            Self::F32 => Elements::F32(values),
            Self::F16 => Elements::F16(values.into_iter().map(f16::from_f32).collect()),
            Self::Bf16 => Elements::Bf16(values.into_iter().map(bf16::from_f32).collect()),
        };
        Ok(TensorData { shape: tensor.size().iter().map(|&n| n as u64).collect(), elements })
    }
}
