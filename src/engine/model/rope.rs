//! Rotary position embeddings (Su et al. 2021), in Hugging Face's layout: a pair's members are in the two halves.

use floor::pretrained::{ModelConfig, Rope, RopeScaling};
use tch::{Device, Kind, Tensor};

/// Frequencies of each of a model's tables, `[rotary_dim / 2]`, in single precision for any model dtype (a bf16 phase
/// is off by up to 0.9 within 2,000 positions).
pub(super) struct Frequencies(Vec<Tensor>);

/// Cosines and sines `[tokens, 1, rotary_dim]` in the compute dtype.
pub(super) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Frequencies {
    pub(super) fn new(config: &ModelConfig, device: Device) -> Self {
        let table = |rope: &Rope| {
            let frequencies = frequencies(rope, config.rotary_dim as i64);
            frequencies.to_device(device)
        };
        Self(config.ropes.iter().map(table).collect())
    }

    /// The rotations of these positions `[tokens]` for each table.
    pub(super) fn at(&self, positions: &Tensor, kind: Kind) -> Vec<Rotation> {
        let positions = positions.to_kind(Kind::Float);
        let turn = |frequencies: &Tensor| {
            let half = positions.outer(frequencies);
            let phase = Tensor::cat(&[&half, &half], -1).unsqueeze(1);
            Rotation { cos: phase.cos().to_kind(kind), sin: phase.sin().to_kind(kind) }
        };
        self.0.iter().map(turn).collect()
    }
}

/// θ^(−2i/d), then scaled for longer contexts as in transformers' `modeling_rope_utils`.
fn frequencies(rope: &Rope, turned: i64) -> Tensor {
    let exponents = Tensor::arange_start_step(0, turned, 2, (Kind::Float, Device::Cpu)) / turned as f64;
    let plain = Tensor::from(rope.theta as f32).pow(&exponents).reciprocal();
    match &rope.scaling {
        RopeScaling::None => plain,
        RopeScaling::Linear { factor } => plain / *factor,
        RopeScaling::Divisors { divisors } => plain / Tensor::from_slice(divisors),
        RopeScaling::Llama3 { factor, low_factor, high_factor, original_positions } => {
            let lengths = plain.reciprocal() * (2.0 * std::f64::consts::PI);
            let (low, high) = (original_positions / low_factor, original_positions / high_factor);
            let smooth =
                (lengths.reciprocal() * *original_positions - *low_factor) / (high_factor - low_factor);
            let divided = &plain / *factor;
            let between = (1.0 - &smooth) * &divided + &smooth * &plain;
            let long = lengths.gt(low);
            let short = lengths.lt(high);
            divided.where_self(&long, &plain.where_self(&short, &between))
        }
    }
}

impl Rotation {
    /// Cosines and sines `[tokens, rotary_dim]`.
    pub(super) fn tables(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    /// Rotates the first features of each head of x `[tokens, heads, head_dim]`.
    pub(super) fn rotate(&self, x: &Tensor) -> Tensor {
        let turned = *self.cos.size().last().unwrap_or(&0);
        let width = x.size()[2];
        if turned == width {
            return self.rotate_whole(x);
        }
        let parts = x.split_with_sizes([turned, width - turned], -1);
        Tensor::cat(&[&self.rotate_whole(&parts[0]), &parts[1]], -1)
    }

    fn rotate_whole(&self, x: &Tensor) -> Tensor {
        let halves = x.chunk(2, -1);
        let turned = Tensor::cat(&[&halves[1].neg(), &halves[0]], -1);
        x * &self.cos + turned * &self.sin
    }
}
