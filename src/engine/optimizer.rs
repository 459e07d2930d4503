//! Optimizers over one flat buffer. Their whole state is in the struct, so that it can be saved and continued.

use loragrid::job::{self, TrainConfig};
use tch::{Kind, Tensor};

/// The optimizer of a run.
pub(crate) enum Optimizer {
    AdamW(AdamW),
    Sgd(Sgd),
}

impl Optimizer {
    /// A fresh state for this buffer.
    pub(crate) fn new(parameters: &Tensor, train: &TrainConfig) -> Self {
        match train.optimizer {
            job::Optimizer::Adamw => Self::AdamW(AdamW::new(parameters, train)),
            job::Optimizer::Sgd => Self::Sgd(Sgd::new(train)),
        }
    }

    /// One step.
    pub(crate) fn step(&mut self, parameters: &mut Tensor, gradient: &Tensor, learning_rate: f64) {
        match self {
            Self::AdamW(adamw) => adamw.step(parameters, gradient, learning_rate),
            Self::Sgd(sgd) => sgd.step(parameters, gradient, learning_rate),
        }
    }
}

/// Scales a gradient down to the given norm, as torch's `clip_grad_norm_`; 0: not at all.
pub(crate) fn clip(gradient: &mut Tensor, norm: f64) {
    if norm > 0.0 {
        let own = gradient.norm().to_kind(Kind::Double).double_value(&[]);
        let factor = norm / (own + 1e-6);
        if factor < 1.0 {
            let _ = gradient.g_mul_scalar_(factor);
        }
    }
}

/// Stochastic gradient descent with momentum, in the order of operations of torch's own: weight decay is part of the
/// gradient, the first momentum is the first gradient.
pub(crate) struct Sgd {
    velocity: Option<Tensor>,
    momentum: f64,
    weight_decay: f64,
}

impl Sgd {
    fn new(train: &TrainConfig) -> Self {
        Self { velocity: None, momentum: train.momentum, weight_decay: train.weight_decay }
    }

    fn step(&mut self, parameters: &mut Tensor, gradient: &Tensor, learning_rate: f64) {
        tch::no_grad(|| {
            let gradient = gradient + &*parameters * self.weight_decay;
            let direction = match &mut self.velocity {
                _ if self.momentum == 0.0 => gradient,
                None => {
                    self.velocity = Some(gradient.copy());
                    gradient
                }
                Some(velocity) => {
                    let _ = velocity.g_mul_scalar_(self.momentum);
                    *velocity += gradient;
                    velocity.shallow_clone()
                }
            };
            *parameters -= direction * learning_rate;
        });
    }
}

/// AdamW (Loshchilov and Hutter 2019), in the order of operations of torch's own.
pub(crate) struct AdamW {
    /// Mean of gradients `[parameters]`.
    first: Tensor,
    /// Mean of squared gradients `[parameters]`.
    second: Tensor,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    /// Steps made.
    steps: i32,
}

impl AdamW {
    fn new(parameters: &Tensor, train: &TrainConfig) -> Self {
        Self {
            first: parameters.zeros_like(),
            second: parameters.zeros_like(),
            betas: train.betas,
            eps: train.eps,
            weight_decay: train.weight_decay,
            steps: 0,
        }
    }

    /// One step: decays `parameters` by lr × weight_decay, then moves them by the bias-corrected moments.
    fn step(&mut self, parameters: &mut Tensor, gradient: &Tensor, learning_rate: f64) {
        self.steps += 1;
        let [beta1, beta2] = self.betas;
        tch::no_grad(|| {
            let _ = parameters.g_mul_scalar_(1.0 - learning_rate * self.weight_decay);
            let _ = self.first.lerp_(gradient, 1.0 - beta1);
            let _ = self.second.g_mul_scalar_(beta2);
            self.second += gradient.square() * (1.0 - beta2);
            let correction1 = 1.0 - beta1.powi(self.steps);
            let correction2 = (1.0 - beta2.powi(self.steps)).sqrt();
            let denominator = self.second.sqrt() / correction2 + self.eps;
            *parameters -= &self.first / denominator * (learning_rate / correction1);
        });
    }
}
