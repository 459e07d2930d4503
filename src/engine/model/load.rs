//! Loads a model from a checkpoint, one tensor at a time. Each tensor is converted or quantized before the next is
//! read, so there is never a second copy in memory.

use floor::job::Quantize;
use floor::pretrained::{Checkpoint, LayerName, Part, Stored};
use tch::{Device, Kind, Tensor};

use super::Model;
use super::block::Block;
use super::group::Group;
use super::linear::{Linear, Matrix, Storage, vector};
use super::norm::NormWeights;
use super::rope::Frequencies;
use crate::failure::EngineError;
use crate::memory::give_back;
use crate::tensor::from_stored;

/// Loads every weight in the given compute dtype, matrices stored as in `storage`; `sign` is called after each block.
/// Errors: the checkpoint's, what `sign` returns.
pub(crate) fn load(
    checkpoint: &Checkpoint,
    storage: Storage,
    kind: Kind,
    device: Device,
    sign: &mut dyn FnMut() -> Result<(), EngineError>,
) -> Result<Model, EngineError> {
    let config = checkpoint.config().clone();
    let reader = Reader { checkpoint, storage, kind, device };
    let embedding = vector(checkpoint.read(LayerName::Embedding, Part::Weight)?, kind, device)?;
    let mut blocks = Vec::new();
    for number in 0..config.layers as usize {
        blocks.push(reader.block(number)?);
        give_back();
        sign()?;
    }
    let final_norm = reader.norm(LayerName::FinalNorm)?;
    let quantize_head = if storage.quantize_head { storage.quantize } else { Quantize::None };
    let head = if !config.tied_head {
        reader.linear(LayerName::Head, quantize_head)?
    } else {
        // A tied 4-bit head is a separate copy; the embedding is unchanged.
        let stored = checkpoint.read(LayerName::Embedding, Part::Weight)?;
        let weight = match quantize_head {
            Quantize::None => Matrix::Dense(embedding.shallow_clone()),
            quantize => Matrix::load(stored, quantize, storage.dequantize, kind, device)?,
        };
        Linear::new(weight, None)?
    };
    // √hidden rounded to the compute dtype, as in transformers' embedding buffer.
    let scale = Tensor::from((config.hidden_size as f64).sqrt()).to_kind(kind).to_device(device);
    Ok(Model {
        embedding_scale: config.scaled_embedding.then_some(scale),
        frequencies: Frequencies::new(&config, device),
        row_rule: std::cell::OnceCell::new(),
        config,
        kind,
        embedding,
        blocks,
        final_norm,
        head: Group::new(vec![(LayerName::Head, head)])?,
    })
}

struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    storage: Storage,
    kind: Kind,
    device: Device,
}

impl Reader<'_> {
    fn bias(&self, name: LayerName) -> Result<Option<Tensor>, EngineError> {
        if !self.checkpoint.config().has_bias(name) {
            return Ok(None);
        }
        vector(self.checkpoint.read(name, Part::Bias)?, self.kind, self.device).map(Some)
    }

    fn linear(&self, name: LayerName, quantize: Quantize) -> Result<Linear, EngineError> {
        let weight = match self.shared(name, quantize)? {
            Some(weight) => weight,
            None => {
                let stored = self.checkpoint.read(name, Part::Weight)?;
                Matrix::load(stored, quantize, self.storage.dequantize, self.kind, self.device)?
            }
        };
        Linear::new(weight, self.bias(name)?)
    }

    /// A layer's rows of a shared matrix that will be quantized: bitsandbytes quantizes whole modules.
    fn shared(&self, name: LayerName, quantize: Quantize) -> Result<Option<Matrix>, EngineError> {
        if quantize == Quantize::None {
            return Ok(None);
        }
        let config = self.checkpoint.config();
        let Some(rows) = config.place(name).rows else { return Ok(None) };
        let Some(Stored::Dense(whole)) = self.checkpoint.read_shared(name)? else { return Ok(None) };
        let whole = from_stored(&whole, self.kind, self.device);
        Matrix::load_rows(&whole, quantize, self.storage.dequantize, &rows).map(Some)
    }

    fn norm(&self, name: LayerName) -> Result<NormWeights, EngineError> {
        let weight = vector(self.checkpoint.read(name, Part::Weight)?, self.kind, self.device)?;
        Ok(NormWeights { weight, bias: self.bias(name)? })
    }

    fn block(&self, number: usize) -> Result<Block, EngineError> {
        let config = self.checkpoint.config();
        let norms = config.norms().into_iter();
        let norms = norms.map(|place| Ok((place, self.norm(LayerName::Norm(number, place))?)));
        let matrices = config.projections().iter();
        let matrices =
            matrices.map(|p| Ok((*p, self.linear(LayerName::Block(number, *p), self.storage.quantize)?)));
        Block::new(
            number,
            config.layer_forms[number],
            norms.collect::<Result<_, EngineError>>()?,
            matrices.collect::<Result<_, EngineError>>()?,
        )
    }
}
