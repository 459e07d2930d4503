//! Optimizers over one flat buffer. Their whole state is in the struct, so that it can be saved and continued.

use loragrid::job::TrainConfig;
use tch::Tensor;

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
    /// A fresh state for this buffer.
    pub(crate) fn new(parameters: &Tensor, train: &TrainConfig) -> Self {
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
    pub(crate) fn step(&mut self, parameters: &mut Tensor, gradient: &Tensor, learning_rate: f64) {
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
