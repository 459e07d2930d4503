//! Loads a model from a checkpoint, one tensor at a time. Each tensor is converted or quantized before the next is
//! read, so there is never a second copy in memory.

use floor::job::Quantize;
use floor::pretrained::{Checkpoint, LayerName, Part, Stored};
use tch::{Device, Kind, Tensor};

use super::Model;
use super::block::Block;
use super::embedding::Embedding;
use super::group::Group;
use super::linear::{Linear, Matrix, Storage, vector};
use super::norm::NormWeights;
use super::rope::Frequencies;
use crate::failure::EngineError;
use crate::memory::give_back;
use crate::shim::Frozen;
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
    let (head, embedding) = reader.head(embedding)?;
    give_back();
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
        head,
    })
}

struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    storage: Storage,
    kind: Kind,
    device: Device,
}

impl Reader<'_> {
    /// The head, and the embedding, which a tied head that is not quantized shares.
    fn head(&self, embedding: Tensor) -> Result<(Group, Embedding), EngineError> {
        let quantize = if self.storage.quantize_head { self.storage.quantize } else { Quantize::None };
        let group = |linear| Group::new(vec![(LayerName::Head, linear)]);
        if !self.checkpoint.config().tied_head {
            return Ok((group(self.linear(LayerName::Head, quantize)?)?, Embedding::Dense(embedding)));
        }
        if quantize == Quantize::None {
            let size = embedding.size();
            let (kind, device) = (embedding.kind(), embedding.device());
            let head = group(Linear::new(Matrix::Dense(embedding.shallow_clone()), None)?)?;
            let shared = head.layer(LayerName::Head).and_then(Linear::as_packed).map(Frozen::share);
            let embedding = match shared {
                Some(frozen) => Embedding::Packed { frozen, size: [size[0], size[1]], kind, device },
                None => Embedding::Dense(embedding),
            };
            return Ok((head, embedding));
        }
        // A tied 4-bit head is a separate copy; the embedding is unchanged.
        let stored = self.checkpoint.read(LayerName::Embedding, Part::Weight)?;
        let weight = Matrix::load(stored, quantize, self.storage.dequantize, self.kind, self.device)?;
        Ok((group(Linear::new(weight, None)?)?, Embedding::Dense(embedding)))
    }

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
