//! Low-rank adapters: matrices in one flat buffer, and their contribution to a layer's output.

mod active;
mod dropout;
mod peft;

use std::collections::BTreeMap;

use floor::job::{Init, LoraConfig, Variant};
use floor::pretrained::{LayerName, ModelConfig};
use floor::random::{Purpose, Stream};
use tch::{Device, Kind, Tensor};

pub(crate) use active::{Active, Part, active, merged_weight};
pub(crate) use dropout::Masks;
#[cfg(test)]
pub(crate) use peft::read_form;
pub(crate) use peft::{read_adapter, write_adapter};

use crate::model::{Model, row_norms};
use crate::tensor::wide;

/// Shape and scaling of one layer's adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PairForm {
    pub(crate) name: LayerName,
    pub(crate) rank: i64,
    /// alpha / r, or alpha / √r.
    pub(crate) scaling: f64,
    /// Whether it has DoRA magnitudes.
    pub(crate) dora: bool,
}

/// The matrices of one layer; leaves that require gradients.
pub(crate) struct Pair {
    /// `[r, in]`
    pub(crate) a: Tensor,
    /// `[out, r]`
    pub(crate) b: Tensor,
    /// `[out]`, DoRA only.
    pub(crate) magnitude: Option<Tensor>,
    /// Output scale.
    pub(crate) scaling: f64,
}

impl Pair {
    /// Its tensors in flat-buffer order.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = &Tensor> {
        [&self.a, &self.b].into_iter().chain(&self.magnitude)
    }

    /// The update to W: scaling · B·A `[out, in]`, in the adapter's dtype.
    pub(crate) fn product(&self) -> Tensor {
        self.b.detach().matmul(&self.a.detach()) * self.scaling
    }
}

/// An adapter whose matrices are views of one flat buffer, so an optimizer step is a few operations.
pub(crate) struct Adapter {
    /// `[parameters]`
    pub(crate) flat: Tensor,
    /// The layers in forward order: A, B and magnitudes of each are contiguous in `flat`.
    pub(crate) pairs: Vec<(LayerName, Pair)>,
    index: BTreeMap<LayerName, usize>,
    /// A fully trained head `[vocab, hidden]` that replaces the model's.
    pub(crate) head: Option<Tensor>,
}

/// The adapter shapes of the layers in a configuration, in forward order.
pub(crate) fn forms(model: &ModelConfig, lora: &LoraConfig) -> Vec<PairForm> {
    let dora = lora.variant == Variant::Dora;
    let form = |name| PairForm { name, rank: lora.rank as i64, scaling: lora.scale(), dora };
    model.adapted(&lora.layers).into_iter().map(form).collect()
}

impl Adapter {
    /// An adapter initialized to zeros.
    pub(crate) fn zeros(model: &ModelConfig, forms: &[PairForm], kind: Kind, device: Device) -> Self {
        let shapes = |form: &PairForm| {
            let shape = model.shape(form.name);
            (shape[0] as i64, shape[1] as i64)
        };
        let size = |form: &PairForm| {
            let (out, width) = shapes(form);
            form.rank * (out + width) + if form.dora { out } else { 0 }
        };
        let flat = Tensor::zeros([forms.iter().map(size).sum::<i64>()], (kind, device));
        let mut start = 0;
        let mut view = |shape: &[i64]| {
            let size = shape.iter().product::<i64>();
            let part = flat.narrow(0, start, size).view(shape).detach();
            start += size;
            part.set_requires_grad(true)
        };
        let mut pairs = Vec::new();
        for form in forms {
            let (out, width) = shapes(form);
            let (a, b) = (view(&[form.rank, width]), view(&[out, form.rank]));
            let magnitude = form.dora.then(|| view(&[out]));
            pairs.push((form.name, Pair { a, b, magnitude, scaling: form.scaling }));
        }
        let index = pairs.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
        Self { flat, pairs, index, head: None }
    }

    /// A new adapter, initialized as in PEFT: A uniform in ±1/√in or normal with 1/r, B zero, magnitudes the row norms
    /// of W. A depends on the seed alone.
    pub(crate) fn initialized(model: &Model, lora: &LoraConfig, seed: u64, kind: Kind) -> Self {
        let adapter = Self::zeros(&model.config, &forms(&model.config, lora), kind, model.device());
        for (number, (name, pair)) in adapter.pairs.iter().enumerate() {
            let stream = Stream::new(seed, Purpose::Init, number as u64);
            let bound = 1.0 / (pair.a.size()[1] as f64).sqrt();
            let value = |n: u64| match lora.init {
                Init::Kaiming => (2.0 * stream.uniform(n) - 1.0) * bound,
                Init::Gaussian => stream.normal(n) / lora.rank as f64,
            };
            let values: Vec<f64> = (0..pair.a.numel() as u64).map(value).collect();
            adapter.fill(&pair.a, &Tensor::from_slice(&values));
            if let (Some(magnitude), Some(linear)) = (&pair.magnitude, model.linear(*name)) {
                adapter.fill(magnitude, &row_norms(&linear.weight.dense()));
            }
        }
        adapter
    }

    /// Overwrites one adapter matrix with the same number of values.
    pub(crate) fn fill(&self, matrix: &Tensor, values: &Tensor) {
        tch::no_grad(|| {
            let mut target = matrix.detach();
            target.copy_(&values.view(matrix.size().as_slice()));
        });
    }

    /// Every matrix, in `flat` order.
    #[cfg(test)]
    pub(crate) fn leaves(&self) -> Vec<&Tensor> {
        self.pairs.iter().flat_map(|(_, pair)| pair.leaves()).collect()
    }

    /// Number of parameters of the adapter.
    pub(crate) fn parameters(&self) -> u64 {
        self.flat.numel() as u64
    }

    /// Learning-rate factors `[parameters]`: 1 for A, `ratio` for B and magnitudes, which is PEFT's grouping for LoRA+
    /// (Hayou et al. 2024). None if all are 1.
    pub(crate) fn rates(&self, ratio: f64) -> Option<Tensor> {
        if ratio == 1.0 {
            return None;
        }
        let part = |leaf: &Tensor, rate: f64| {
            // A bf16 factor would differ: 1.3 would become 1.297.
            Tensor::full([leaf.numel() as i64], rate, (wide(self.flat.kind()), self.flat.device()))
        };
        let parts: Vec<Tensor> = self
            .pairs
            .iter()
            .flat_map(|(_, pair)| {
                pair.leaves().enumerate().map(|(n, leaf)| part(leaf, if n == 0 { 1.0 } else { ratio }))
            })
            .collect();
        Some(Tensor::cat(&parts, 0))
    }

    /// Whether it changes no output: every B is zero and no head was trained.
    pub(crate) fn is_no_op(&self) -> bool {
        let zero = |pair: &Pair| pair.b.count_nonzero(None::<i64>).int64_value(&[]) == 0;
        self.head.is_none() && self.pairs.iter().all(|(_, pair)| zero(pair) && pair.magnitude.is_none())
    }

    /// A layer's matrices and its number in forward order.
    pub(crate) fn pair(&self, name: LayerName) -> Option<(usize, &Pair)> {
        let at = *self.index.get(&name)?;
        Some((at, &self.pairs[at].1))
    }
}
