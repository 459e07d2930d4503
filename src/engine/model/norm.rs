//! Norms, each rounded where the family's own code rounds.

use loragrid::checkpoint::Norm;
use tch::{Kind, Tensor};

use crate::tensor::wide;

/// The factors of a norm and, for layer norms, its bias; both `[width]`.
pub(crate) struct NormWeights {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl NormWeights {
    /// Norm of x over its last dimension.
    pub(super) fn forward(&self, x: &Tensor, norm: Norm, eps: f64) -> Tensor {
        let kind = x.kind();
        match norm {
            Norm::Layer => {
                let width = [*x.size().last().unwrap_or(&0)];
                x.layer_norm(width, Some(&self.weight), self.bias.as_ref(), eps, false)
            }
            Norm::Rms => rms(x, eps).to_kind(kind) * &self.weight,
            Norm::RmsRoundedLast => (rms(x, eps) * self.wide_weight(kind)).to_kind(kind),
            Norm::RmsPlusOne => (rms(x, eps) * (self.wide_weight(kind) + 1.0)).to_kind(kind),
        }
    }

    fn wide_weight(&self, kind: Kind) -> Tensor {
        self.weight.to_kind(wide(kind))
    }
}

/// x over its root mean square (Zhang and Sennrich 2019), in single or double precision.
fn rms(x: &Tensor, eps: f64) -> Tensor {
    let kind = wide(x.kind());
    let x = x.to_kind(kind);
    let mean_square = x.square().mean_dim(-1, true, kind);
    x * (mean_square + eps).rsqrt()
}
