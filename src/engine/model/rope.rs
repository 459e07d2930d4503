//! Rotary positions (Su et al. 2021), in Hugging Face's layout: the two halves of a head are the pair's members.

use loragrid::checkpoint::ModelConfig;
use tch::{Device, Kind, Tensor};

/// Cosines and sines of every position, `[max_positions, head_dim]`, computed in single precision whatever the model's
/// dtype (a bf16 phase is wrong by up to 0.9 within 2,000 positions).
pub(super) struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    pub(super) fn new(config: &ModelConfig, device: Device) -> Self {
        let exponents = Tensor::arange_start_step(0, config.head_dim as i64, 2, (Kind::Float, device));
        let exponents = exponents / config.head_dim as f64;
        let frequencies =
            Tensor::from(config.rope_theta as f32).to_device(device).pow(&exponents).reciprocal();
        let positions = Tensor::arange(config.max_positions as i64, (Kind::Float, device));
        let half = positions.outer(&frequencies);
        let phase = Tensor::cat(&[&half, &half], -1);
        Self { cos: phase.cos(), sin: phase.sin() }
    }

    /// Cosines and sines `[tokens, 1, head_dim]` of these positions, in the compute dtype.
    pub(super) fn at(&self, positions: &Tensor, kind: Kind) -> (Tensor, Tensor) {
        let pick = |table: &Tensor| table.index_select(0, positions).to_kind(kind).unsqueeze(1);
        (pick(&self.cos), pick(&self.sin))
    }
}

/// Rotates x `[tokens, heads, head_dim]`.
pub(super) fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let halves = x.chunk(2, -1);
    let turned = Tensor::cat(&[&halves[1].neg(), &halves[0]], -1);
    x * cos + turned * sin
}
