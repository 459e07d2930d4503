//! Low-rank adapters (Hu et al. 2021): y = x·Wᵀ + (alpha / r) · dropout(x)·Aᵀ·Bᵀ, with A `[r, in]` and B `[out, r]`.

mod dropout;
mod peft;

use std::collections::BTreeMap;

use loragrid::checkpoint::{LayerName, ModelConfig};
use loragrid::job::{Init, LoraConfig};
use loragrid::passes::random::{Purpose, Stream};
use tch::{Device, Kind, Tensor};

pub(crate) use dropout::{MaskedRow, RowMasks};
#[cfg(test)]
pub(crate) use peft::read_lora;
pub(crate) use peft::{read_adapter, write_adapter};

/// The two matrices of one layer; leaves that take gradients.
pub(crate) struct Pair {
    /// `[r, in]`
    pub(crate) a: Tensor,
    /// `[out, r]`
    pub(crate) b: Tensor,
}

/// An adapter whose matrices are views of one flat buffer, so that an optimizer step is a handful of operations.
pub(crate) struct Adapter {
    /// `[parameters]`
    pub(crate) flat: Tensor,
    /// The layers in forward order: A, then B of each lie one after another in `flat`.
    pub(crate) pairs: Vec<(LayerName, Pair)>,
    index: BTreeMap<LayerName, usize>,
    /// alpha / r
    pub(crate) scaling: f64,
}

impl Adapter {
    /// An adapter of zeros for the layers that the configuration names.
    pub(crate) fn zeros(model: &ModelConfig, lora: &LoraConfig, kind: Kind, device: Device) -> Self {
        let rank = lora.rank as i64;
        let names = model.adapted(&lora.layers);
        let size = |name: &LayerName| rank * model.shape(*name).iter().sum::<u64>() as i64;
        let flat = Tensor::zeros([names.iter().map(size).sum::<i64>()], (kind, device));
        let mut start = 0;
        let mut view = |rows: i64, columns: i64| {
            let part = flat.narrow(0, start, rows * columns).view([rows, columns]).detach();
            start += rows * columns;
            part.set_requires_grad(true)
        };
        let mut pairs = Vec::new();
        for name in names {
            let shape = model.shape(name);
            let (out, width) = (shape[0] as i64, shape[1] as i64);
            pairs.push((name, Pair { a: view(rank, width), b: view(out, rank) }));
        }
        let index = pairs.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
        Self { flat, pairs, index, scaling: lora.scale() }
    }

    /// A new adapter: A uniform in ±1/√in or normal with 1/r, B zero, as PEFT initialises; a function of the seed alone.
    pub(crate) fn initialised(
        model: &ModelConfig,
        lora: &LoraConfig,
        seed: u64,
        kind: Kind,
        device: Device,
    ) -> Self {
        let adapter = Self::zeros(model, lora, kind, device);
        for (number, (_, pair)) in adapter.pairs.iter().enumerate() {
            let stream = Stream::new(seed, Purpose::Init, number as u64);
            let bound = 1.0 / (pair.a.size()[1] as f64).sqrt();
            let value = |n: u64| match lora.init {
                Init::Kaiming => (2.0 * stream.uniform(n) - 1.0) * bound,
                Init::Gaussian => stream.normal(n) / lora.rank as f64,
            };
            let values: Vec<f64> = (0..pair.a.numel() as u64).map(value).collect();
            adapter.fill(&pair.a, &Tensor::from_slice(&values));
        }
        adapter
    }

    /// Overwrites one of the adapter's matrices with as many values.
    pub(crate) fn fill(&self, matrix: &Tensor, values: &Tensor) {
        tch::no_grad(|| {
            let mut target = matrix.detach();
            target.copy_(&values.view(matrix.size().as_slice()));
        });
    }

    /// Every matrix, in the order in which they lie in `flat`.
    pub(crate) fn leaves(&self) -> Vec<&Tensor> {
        self.pairs.iter().flat_map(|(_, pair)| [&pair.a, &pair.b]).collect()
    }

    /// Parameters of the adapter.
    pub(crate) fn parameters(&self) -> u64 {
        self.flat.numel() as u64
    }

    /// The matrices of a layer and the layer's number in forward order.
    fn pair(&self, name: LayerName) -> Option<(usize, &Pair)> {
        let at = *self.index.get(&name)?;
        Some((at, &self.pairs[at].1))
    }
}

/// An adapter in use by a pass, with the pass's dropout masks while training.
pub(crate) struct Active<'a> {
    /// The adapter.
    pub(crate) adapter: &'a Adapter,
    /// Masks of the pass's rows; none outside training or at p = 0.
    pub(crate) masks: Option<RowMasks>,
}

impl Active<'_> {
    /// Adds the layer's low-rank part to x·Wᵀ, if the layer has one. Computed in the adapter's own dtype, with the sum
    /// rounded once to the compute dtype, as PEFT does with single-precision adapters.
    pub(crate) fn add(&self, name: LayerName, x: &Tensor, frozen: Tensor) -> Tensor {
        let Some((number, pair)) = self.adapter.pair(name) else { return frozen };
        let kind = self.adapter.flat.kind();
        let mut input = x.to_kind(kind);
        if let Some(masks) = &self.masks {
            let mask = masks.mask(number, x.size()[1] as usize, name == LayerName::Head, kind);
            // Not in place: where no conversion was needed `input` is `x` itself.
            input = input.g_mul(&mask);
        }
        let low_rank = input.linear(&pair.a, None::<&Tensor>).linear(&pair.b, None::<&Tensor>);
        let result = frozen.kind();
        (frozen.to_kind(kind) + low_rank * self.adapter.scaling).to_kind(result)
    }
}
