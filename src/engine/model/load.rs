//! From a checkpoint to a model, one tensor at a time.

use loragrid::checkpoint::{Checkpoint, LayerName, Projection};
use tch::{Device, Kind, Tensor};

use super::rope::Rope;
use super::{Block, Model};
use crate::failure::EngineError;
use crate::tensor::from_stored;

/// Loads every weight in the given compute dtype. Errors: the checkpoint's.
pub(crate) fn load(checkpoint: &Checkpoint, kind: Kind, device: Device) -> Result<Model, EngineError> {
    let config = checkpoint.config().clone();
    let read = |name: LayerName| -> Result<Tensor, EngineError> {
        Ok(from_stored(&checkpoint.read(name)?, kind, device))
    };
    let block = |n: usize| -> Result<Block, EngineError> {
        let matrix = |projection| read(LayerName::Block(n, projection));
        Ok(Block {
            attention_norm: read(LayerName::AttentionNorm(n))?,
            query: matrix(Projection::Query)?,
            key: matrix(Projection::Key)?,
            value: matrix(Projection::Value)?,
            output: matrix(Projection::Output)?,
            mlp_norm: read(LayerName::MlpNorm(n))?,
            gate: matrix(Projection::Gate)?,
            up: matrix(Projection::Up)?,
            down: matrix(Projection::Down)?,
        })
    };
    let embedding = read(LayerName::Embedding)?;
    let head = if config.tied_head { embedding.shallow_clone() } else { read(LayerName::Head)? };
    Ok(Model {
        kind,
        blocks: (0..config.layers as usize).map(block).collect::<Result<_, _>>()?,
        final_norm: read(LayerName::FinalNorm)?,
        rope: Rope::new(&config, device),
        embedding,
        head,
        config,
    })
}
