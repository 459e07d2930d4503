//! Adapters in a pass.

use std::ops::Range;

use floor::pretrained::LayerName;
use tch::{Kind, Tensor};

use super::{Adapter, Masks, Pair};
use crate::model::Linear;
use crate::shim::LowRank;
use crate::tensor::wide;

/// The adapters used in a pass, each for its own rows.
#[derive(Default)]
pub(crate) struct Active<'a> {
    /// The adapters, in row order.
    pub(crate) parts: Vec<Part<'a>>,
}

/// An adapter used by some rows of a pass.
pub(crate) struct Part<'a> {
    /// The adapter.
    pub(crate) adapter: &'a Adapter,
    /// Its rows; none: all rows.
    pub(crate) rows: Option<Range<i64>>,
    /// Its rows' dropout masks; none outside training or at p = 0.
    pub(crate) masks: Option<Masks>,
}

impl Part<'_> {
    fn rows(&self, all: i64) -> Range<i64> {
        self.rows.clone().unwrap_or(0..all)
    }
}

impl<'a> Active<'a> {
    /// One adapter for all rows, outside training.
    pub(crate) fn of(adapter: &'a Adapter) -> Self {
        Self { parts: vec![Part { adapter, rows: None, masks: None }] }
    }

    /// Whether all adapters are in this dtype.
    pub(crate) fn is_of(&self, kind: Kind) -> bool {
        self.parts.iter().all(|part| part.adapter.flat.kind() == kind)
    }

    /// The low-rank updates of layers with adjacent outputs, each starting at its own column, in a pass of `rows` rows.
    /// None if an adapter does more than add a product.
    pub(crate) fn low_rank(&self, layers: &[(LayerName, i64)], rows: i64) -> Option<Vec<LowRank<'_>>> {
        let mut all = Vec::new();
        for part in &self.parts {
            for &(name, first_column) in layers {
                if name == LayerName::Head && part.adapter.head.is_some() {
                    return None;
                }
                let Some((number, pair)) = part.adapter.pair(name) else { continue };
                if pair.magnitude.is_some() {
                    return None;
                }
                let mask = part.masks.as_ref().map(|masks| masks.of_layer(number));
                let (a, b, scale) = (&pair.a, &pair.b, pair.scaling);
                all.push(LowRank { a, b, scale, rows: part.rows(rows), first_column, mask });
            }
        }
        Some(all)
    }

    /// A layer's output for any adapters: one by one, in libtorch's own operations.
    pub(crate) fn forward(&self, name: LayerName, x: &Tensor, linear: &Linear) -> Tensor {
        let mut rows = Vec::new();
        let (all, mut next) = (x.size()[0], 0);
        for part in &self.parts {
            let range = part.rows(all);
            if range.start > next {
                rows.push(linear.forward(&x.narrow(0, next, range.start - next)));
            }
            rows.push(part.forward(name, &x.narrow(0, range.start, range.end - range.start), linear));
            next = range.end;
        }
        if next < all || rows.is_empty() {
            rows.push(linear.forward(&x.narrow(0, next, all - next)));
        }
        if rows.len() == 1 { rows.swap_remove(0) } else { Tensor::cat(&rows, 0) }
    }
}

/// The members' adapters over row ranges, grouped by member.
pub(crate) fn active<'a>(
    members: &[Option<&'a Adapter>],
    runs: impl Iterator<Item = (usize, usize)>,
) -> Active<'a> {
    let (mut parts, mut start): (Vec<Part<'a>>, i64) = (Vec::new(), 0);
    let mut last = None;
    for (member, rows) in runs {
        let end = start + rows as i64;
        if let Some(adapter) = members[member] {
            match parts.last_mut().and_then(|part| part.rows.as_mut()).filter(|_| last == Some(member)) {
                Some(range) => range.end = end,
                None => parts.push(Part { adapter, rows: Some(start..end), masks: None }),
            }
        }
        last = Some(member);
        start = end;
    }
    Active { parts }
}

impl Part<'_> {
    /// The layer's output for the adapter's rows x: x·Wᵀ + b + s · dropout(x)·Aᵀ·Bᵀ (Hu et al. 2021). Computed in the
    /// adapter's dtype and rounded once to the compute dtype, as PEFT does with single-precision adapters.
    fn forward(&self, name: LayerName, x: &Tensor, linear: &Linear) -> Tensor {
        if let (LayerName::Head, Some(head)) = (name, &self.adapter.head) {
            return x.linear(head, linear.bias.as_ref());
        }
        let frozen = linear.forward(x);
        let Some((number, pair)) = self.adapter.pair(name) else { return frozen };
        let kind = self.adapter.flat.kind();
        let mut input = x.to_kind(kind);
        if let Some(masks) = &self.masks {
            let mask = masks.factors(number, x.size()[1] as usize, kind);
            // Not in place: without a conversion `input` is `x` itself.
            input = input.g_mul(&mask.to_device(x.device()));
        }
        let low_rank = input.linear(&pair.a, None::<&Tensor>).linear(&pair.b, None::<&Tensor>) * pair.scaling;
        let result = frozen.kind();
        let added = match &pair.magnitude {
            None => low_rank,
            Some(magnitude) => {
                // With dropout PEFT passes the masked input through W too.
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

/// The DoRA update (Liu et al. 2024) on x·Wᵀ: (m/n − 1) · x·Wᵀ + (m/n) · s · x·Aᵀ·Bᵀ, where n is the row norms of W +
/// s·B·A, without gradient.
fn rescaled(pair: &Pair, magnitude: &Tensor, linear: &Linear, base: &Tensor, low_rank: Tensor) -> Tensor {
    let norms = tch::no_grad(|| adapted_norms(pair, &linear.weight.dense()));
    let factor = magnitude / norms.to_kind(magnitude.kind());
    (&factor - 1.0) * base.to_kind(magnitude.kind()) + factor * low_rank
}

/// W with the adapter merged, in the adapter's dtype: W + s·B·A, rows rescaled to DoRA's magnitudes.
pub(crate) fn merged_weight(pair: &Pair, weight: &Tensor) -> Tensor {
    let weight = weight.to_kind(pair.a.kind());
    let sum = &weight + pair.product();
    match &pair.magnitude {
        None => sum,
        Some(magnitude) => sum * (magnitude.detach() / adapted_norms(pair, &weight)).unsqueeze(1),
    }
}

/// Row norms `[out]` of W + s·B·A, without forming the sum: ‖w‖² + 2s·⟨w, b·A⟩ + s²·b·(A·Aᵀ)·bᵀ.
pub(super) fn adapted_norms(pair: &Pair, weight: &Tensor) -> Tensor {
    let kind = wide(weight.kind());
    let (weight, a, b) = (weight.to_kind(kind), pair.a.detach().to_kind(kind), pair.b.detach().to_kind(kind));
    let rows = |x: &Tensor| x.sum_dim_intlist([1i64].as_slice(), false, None::<Kind>);
    let cross = rows(&(weight.matmul(&a.tr()) * &b)) * (2.0 * pair.scaling);
    let update = rows(&(b.matmul(&a.matmul(&a.tr())) * &b)) * (pair.scaling * pair.scaling);
    (rows(&weight.square()) + cross + update).sqrt()
}
