//! Layers that read the same input, computed as one product.

use floor::pretrained::LayerName;
use tch::Tensor;

use super::linear::{Linear, Matrix};
use crate::failure::EngineError;
use crate::lora::Active;
use crate::shim::{FourBitParts, Frozen, LowRank, PANEL};

/// Layers that read the same input; their outputs are the columns of one tensor, in order.
pub(super) struct Group {
    layers: Vec<(LayerName, Linear)>,
    /// All of their matrices; none if only some are in 4 bits.
    frozen: Option<Frozen>,
}

impl Group {
    /// Stacks the layers' matrices vertically; the layers keep views of the result. Dense matrices are packed where the CPU
    /// has micro-kernels for them.
    pub(super) fn new(mut layers: Vec<(LayerName, Linear)>) -> Result<Self, EngineError> {
        if layers.len() == 1 {
            let packed = layers.into_iter().map(|(name, linear)| Ok((name, linear.packed()?)));
            return Ok(Self { layers: packed.collect::<Result<_, EngineError>>()?, frozen: None });
        }
        let bias = joined_bias(&layers);
        let dense: Vec<&Tensor> = layers.iter().filter_map(|(_, linear)| linear.weight.as_dense()).collect();
        let parts: Vec<FourBitParts<'_>> =
            layers.iter().filter_map(|(_, linear)| linear.weight.as_four_bit()).collect();
        if parts.len() == layers.len() {
            let frozen = Frozen::new(None, &parts, bias.as_ref())?;
            drop(parts);
            return Ok(Self { layers, frozen: Some(frozen) });
        }
        if dense.len() < layers.len() {
            return Ok(Self { layers, frozen: None });
        }
        let all = Tensor::cat(&dense, 0);
        drop((dense, parts));
        let in_panels = layers.iter().all(|(_, linear)| linear.out() % PANEL == 0);
        let packed = if in_panels { Frozen::packed(&all, bias.as_ref())? } else { None };
        let mut row = 0;
        for (_, linear) in &mut layers {
            let rows = linear.out();
            match &packed {
                Some(packed) => linear.pack_as_part(packed, row, all.kind())?,
                None => {
                    let bias = linear.bias.take();
                    *linear = Linear::new(Matrix::Dense(all.narrow(0, row, rows)), bias)?;
                }
            }
            row += rows;
        }
        let frozen = match packed {
            Some(packed) => packed,
            None => Frozen::new(Some(&all), &[], bias.as_ref())?,
        };
        Ok(Self { layers, frozen: Some(frozen) })
    }

    /// Outputs `[tokens, columns of all layers]` for x `[tokens, in]`, adapters included.
    pub(super) fn forward(&self, x: &Tensor, adapter: Option<&Active<'_>>) -> Tensor {
        let Some(frozen) = self.frozen() else {
            let outputs = self.layers.iter().map(|(name, linear)| match adapter {
                Some(active) => active.forward(*name, x, linear),
                None => linear.forward(x),
            });
            return Tensor::cat(&outputs.collect::<Vec<_>>(), 1);
        };
        let Some(active) = adapter else { return frozen.forward(x, &[]) };
        match self.low_rank(active, x.size()[0]) {
            Some(parts) => frozen.forward(x, &parts),
            None => {
                let outputs = self.layers.iter().map(|(name, linear)| active.forward(*name, x, linear));
                Tensor::cat(&outputs.collect::<Vec<_>>(), 1)
            }
        }
    }

    /// All of its matrices as one; none if only some are in 4 bits.
    pub(super) fn frozen(&self) -> Option<&Frozen> {
        match (&self.frozen, self.layers.as_slice()) {
            (Some(frozen), _) => Some(frozen),
            (None, [(_, linear)]) => Some(linear.frozen()),
            (None, _) => None,
        }
    }

    /// The adapters' low-rank updates of its output in a pass of `rows` rows. None if an adapter does more than add a product.
    pub(super) fn low_rank<'a>(&self, active: &'a Active<'_>, rows: i64) -> Option<Vec<LowRank<'a>>> {
        let mut column = 0;
        let mut places = Vec::with_capacity(self.layers.len());
        for (name, linear) in &self.layers {
            places.push((*name, column));
            column += linear.out();
        }
        active.low_rank(&places, rows)
    }

    /// Columns of its input.
    pub(super) fn input_width(&self) -> i64 {
        self.layers.first().map_or(0, |(_, linear)| linear.input())
    }

    /// Output columns per layer.
    pub(super) fn widths(&self) -> Vec<i64> {
        self.layers.iter().map(|(_, linear)| linear.out()).collect()
    }

    pub(super) fn layer(&self, name: LayerName) -> Option<&Linear> {
        self.layers.iter().find(|(known, _)| *known == name).map(|(_, linear)| linear)
    }
}

/// The concatenated biases, zeros for layers without one; none if no layer has one.
fn joined_bias(layers: &[(LayerName, Linear)]) -> Option<Tensor> {
    let like = layers.iter().find_map(|(_, linear)| linear.bias.as_ref())?;
    let bias = |(_, linear): &(LayerName, Linear)| match &linear.bias {
        Some(bias) => bias.shallow_clone(),
        None => Tensor::zeros([linear.out()], (like.kind(), like.device())),
    };
    Some(Tensor::cat(&layers.iter().map(bias).collect::<Vec<_>>(), 0))
}
