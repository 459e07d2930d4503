//! Norms, each rounded where the family's reference code rounds.

use floor::pretrained::Norm;
use tch::{Device, Tensor};

use crate::shim::{RmsForm, rms_norm};
use crate::tensor::wide;

/// The weight of a norm and, for layer norms, its bias; both `[width]`.
pub(crate) struct NormWeights {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl NormWeights {
    /// Norm of x over its last dimension.
    pub(super) fn forward(&self, x: &Tensor, norm: Norm, eps: f64) -> Tensor {
        let Some(form) = rms_form(norm) else {
            let width = [*x.size().last().unwrap_or(&0)];
            return x.layer_norm(width, Some(&self.weight), self.bias.as_ref(), eps, false);
        };
        if x.device() == Device::Cpu {
            return rms_norm(x, &self.weight, eps, form);
        }
        let kind = x.kind();
        let weight = || self.weight.to_kind(wide(kind));
        match form {
            RmsForm::Rounded => rms(x, eps).to_kind(kind) * &self.weight,
            RmsForm::RoundedLast => (rms(x, eps) * weight()).to_kind(kind),
            RmsForm::PlusOne => (rms(x, eps) * (weight() + 1.0)).to_kind(kind),
        }
    }
}

/// Where a root-mean-square norm rounds; none for a layer norm.
pub(super) fn rms_form(norm: Norm) -> Option<RmsForm> {
    match norm {
        Norm::Layer => None,
        Norm::Rms => Some(RmsForm::Rounded),
        Norm::RmsRoundedLast => Some(RmsForm::RoundedLast),
        Norm::RmsPlusOne => Some(RmsForm::PlusOne),
    }
}

/// x divided by its root mean square (Zhang and Sennrich 2019), in single or double precision.
fn rms(x: &Tensor, eps: f64) -> Tensor {
    let kind = wide(x.kind());
    let x = x.to_kind(kind);
    let mean_square = x.square().mean_dim(-1, true, kind);
    x * (mean_square + eps).rsqrt()
}
