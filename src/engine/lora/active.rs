//! An adapter in a pass.

use loragrid::checkpoint::LayerName;
use tch::{Kind, Tensor};

use super::{Adapter, Pair, RowMasks};
use crate::model::Linear;
use crate::tensor::wide;

/// An adapter in use by a pass, with the pass's dropout masks while training.
pub(crate) struct Active<'a> {
    /// The adapter.
    pub(crate) adapter: &'a Adapter,
    /// Masks of the pass's rows; none outside training or at p = 0.
    pub(crate) masks: Option<RowMasks>,
}

impl<'a> Active<'a> {
    /// An adapter outside training.
    pub(crate) fn of(adapter: &'a Adapter) -> Self {
        Self { adapter, masks: None }
    }

    /// The layer's output with its low-rank part: x·Wᵀ + b + s · dropout(x)·Aᵀ·Bᵀ (Hu et al. 2021). Computed in the
    /// adapter's own dtype, with the sum rounded once to the compute dtype, as PEFT does with single-precision adapters.
    pub(crate) fn forward(&self, name: LayerName, x: &Tensor, linear: &Linear) -> Tensor {
        if let (LayerName::Head, Some(head)) = (name, &self.adapter.head) {
            return x.linear(head, linear.bias.as_ref());
        }
        let frozen = linear.forward(x);
        let Some((number, pair)) = self.adapter.pair(name) else { return frozen };
        let kind = self.adapter.flat.kind();
        let mut input = x.to_kind(kind);
        if let Some(masks) = &self.masks {
            let mask = masks.mask(number, x.size()[1] as usize, name == LayerName::Head, kind);
            // Not in place: where no conversion was needed `input` is `x` itself.
            input = input.g_mul(&mask.to_device(x.device()));
        }
        let low_rank = input.linear(&pair.a, None::<&Tensor>).linear(&pair.b, None::<&Tensor>) * pair.scaling;
        let result = frozen.kind();
        let added = match &pair.magnitude {
            None => low_rank,
            Some(magnitude) => {
                // With dropout PEFT sends the masked input through W too.
                let base = match self.masks {
                    Some(_) => linear.weight_only(&input.to_kind(x.kind())),
                    None => linear.without_bias(&frozen),
                };
                rescaled(pair, magnitude, linear, &base, low_rank)
            }
        };
        (frozen.to_kind(kind) + added).to_kind(result)
    }
}

/// What DoRA (Liu et al. 2024) adds to x·Wᵀ: (m/n − 1) · x·Wᵀ + (m/n) · s · x·Aᵀ·Bᵀ with n the norms of the rows of
/// W + s·B·A, which take no gradient.
fn rescaled(pair: &Pair, magnitude: &Tensor, linear: &Linear, base: &Tensor, low_rank: Tensor) -> Tensor {
    let norms = tch::no_grad(|| adapted_norms(pair, &linear.weight.dense()));
    let factor = magnitude / norms.to_kind(magnitude.kind());
    (&factor - 1.0) * base.to_kind(magnitude.kind()) + factor * low_rank
}

/// W with the adapter added, in the adapter's dtype: W + s·B·A, its rows rescaled to the magnitudes of DoRA.
pub(crate) fn merged_weight(pair: &Pair, weight: &Tensor) -> Tensor {
    let weight = weight.to_kind(pair.a.kind());
    let sum = &weight + pair.product();
    match &pair.magnitude {
        None => sum,
        Some(magnitude) => sum * (magnitude.detach() / adapted_norms(pair, &weight)).unsqueeze(1),
    }
}

/// Norms `[out]` of the rows of W + s·B·A, without the sum itself: ‖w‖² + 2s·⟨w, b·A⟩ + s²·b·(A·Aᵀ)·bᵀ.
pub(super) fn adapted_norms(pair: &Pair, weight: &Tensor) -> Tensor {
    let kind = wide(weight.kind());
    let (weight, a, b) = (weight.to_kind(kind), pair.a.detach().to_kind(kind), pair.b.detach().to_kind(kind));
    let rows = |x: &Tensor| x.sum_dim_intlist([1i64].as_slice(), false, None::<Kind>);
    let cross = rows(&(weight.matmul(&a.tr()) * &b)) * (2.0 * pair.scaling);
    let own = rows(&(b.matmul(&a.matmul(&a.tr())) * &b)) * (pair.scaling * pair.scaling);
    (rows(&weight.square()) + cross + own).sqrt()
}
