//! Optimizers over one flat buffer. Their whole state is in the struct, so it can be saved and resumed.

use floor::job::{self, TrainConfig};
use tch::{Device, Kind, Tensor};

use crate::shim::{AdamWStep, adamw};
use crate::tensor::wide;

/// The optimizer of a run.
pub(crate) struct Optimizer {
    rule: Rule,
    weight_decay: f64,
    /// Learning-rate factors `[parameters]`; none if all are 1.
    rates: Option<Tensor>,
}

enum Rule {
    AdamW(AdamW),
    Sgd(Sgd),
}

impl Optimizer {
    /// A fresh state for this buffer.
    pub(crate) fn new(parameters: &Tensor, train: &TrainConfig, rates: Option<Tensor>) -> Self {
        let rule = match train.optimizer {
            job::Optimizer::Adamw => Rule::AdamW(AdamW::new(parameters, train)),
            job::Optimizer::Sgd => {
                Rule::Sgd(Sgd { velocity: None, momentum: train.momentum, device: parameters.device() })
            }
        };
        Self { rule, weight_decay: train.weight_decay, rates }
    }

    /// The state for the next step, by name, `[parameters]` each.
    pub(crate) fn state(&self) -> Vec<(&'static str, &Tensor)> {
        match &self.rule {
            Rule::AdamW(adamw) => vec![("first", &adamw.first), ("second", &adamw.second)],
            Rule::Sgd(sgd) => sgd.velocity.iter().map(|velocity| ("velocity", velocity)).collect(),
        }
    }

    /// Restores such a state. `false`: it belongs to another optimizer.
    pub(crate) fn restore(&mut self, tensors: &[(String, Tensor)]) -> bool {
        let find = |name: &str| {
            tensors.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor.shallow_clone())
        };
        // The state stays on its device; a state read from a file is on the CPU.
        tch::no_grad(|| match &mut self.rule {
            Rule::AdamW(adamw) => {
                let (Some(first), Some(second)) = (find("first"), find("second")) else { return false };
                adamw.first.copy_(&first);
                adamw.second.copy_(&second);
                true
            }
            Rule::Sgd(sgd) => {
                sgd.velocity = find("velocity").map(|velocity| velocity.to_device(sgd.device));
                true
            }
        })
    }

    /// Step count for bias correction.
    pub(crate) fn steps(&self) -> i32 {
        match &self.rule {
            Rule::AdamW(adamw) => adamw.steps,
            Rule::Sgd(_) => 0,
        }
    }

    /// Sets that count.
    pub(crate) fn set_steps(&mut self, steps: i32) {
        if let Rule::AdamW(adamw) = &mut self.rule {
            adamw.steps = steps;
        }
    }

    /// One step. Parameters below single precision are updated in single precision and rounded once, as are the
    /// moments, which have the parameters' dtype.
    pub(crate) fn step(&mut self, parameters: &mut Tensor, gradient: &Tensor, learning_rate: f64) {
        tch::no_grad(|| {
            let rate = Rate { learning_rate, factors: self.rates.as_ref() };
            match &mut self.rule {
                Rule::AdamW(adamw) => adamw.step(parameters, gradient, &rate, self.weight_decay),
                Rule::Sgd(sgd) => sgd.step(parameters, gradient, &rate, self.weight_decay),
            }
        });
    }
}

/// The learning rate of a step, times its factors `[parameters]`.
struct Rate<'a> {
    learning_rate: f64,
    factors: Option<&'a Tensor>,
}

impl Rate<'_> {
    fn tensor(&self, kind: Kind) -> Tensor {
        match self.factors {
            Some(factors) => factors * self.learning_rate,
            None => Tensor::from(self.learning_rate).to_kind(kind),
        }
    }
}

/// Clips a gradient to the given norm, as in torch's `clip_grad_norm_`; 0: no clipping. Returns the norm before
/// clipping, which is not finite if any element is not.
pub(crate) fn clip(gradient: &mut Tensor, norm: f64) -> f64 {
    let gradient_norm = gradient.norm().to_kind(Kind::Double).double_value(&[]);
    let factor = norm / (gradient_norm + 1e-6);
    if norm > 0.0 && factor < 1.0 {
        let _ = gradient.g_mul_scalar_(factor);
    }
    gradient_norm
}

/// Stochastic gradient descent with momentum, in torch's order of operations: weight decay is added to the gradient,
/// the first momentum is the first gradient.
struct Sgd {
    velocity: Option<Tensor>,
    momentum: f64,
    /// The parameters' device.
    device: Device,
}

impl Sgd {
    fn step(&mut self, parameters: &mut Tensor, gradient: &Tensor, rate: &Rate<'_>, weight_decay: f64) {
        let (kind, wide_kind) = (parameters.kind(), wide(parameters.kind()));
        let rate = rate.tensor(wide_kind);
        let current = parameters.to_kind(wide_kind);
        let gradient = gradient.to_kind(wide_kind) + &current * weight_decay;
        let direction = match &self.velocity {
            Some(velocity) => velocity.to_kind(wide_kind) * self.momentum + &gradient,
            None => gradient,
        };
        parameters.copy_(&(current - &direction * rate));
        if self.momentum > 0.0 {
            self.velocity = Some(direction.to_kind(kind));
        }
    }
}

/// AdamW (Loshchilov and Hutter 2019), in torch's order of operations.
struct AdamW {
    /// Mean of gradients `[parameters]`.
    first: Tensor,
    /// Mean of squared gradients `[parameters]`.
    second: Tensor,
    betas: [f64; 2],
    eps: f64,
    /// Number of steps.
    steps: i32,
}

impl AdamW {
    fn new(parameters: &Tensor, train: &TrainConfig) -> Self {
        Self {
            first: parameters.zeros_like(),
            second: parameters.zeros_like(),
            betas: train.betas,
            eps: train.eps,
            steps: 0,
        }
    }

    /// One step: decays `parameters` by rate × weight_decay, then moves them by the bias-corrected moments.
    fn step(&mut self, parameters: &mut Tensor, gradient: &Tensor, rate: &Rate<'_>, weight_decay: f64) {
        self.steps += 1;
        let [beta1, beta2] = self.betas;
        let correction1 = 1.0 - beta1.powi(self.steps);
        let correction2 = (1.0 - beta2.powi(self.steps)).sqrt();
        if parameters.device() == Device::Cpu {
            let (rate, factors) = (rate.learning_rate, rate.factors);
            let by = AdamWStep { rate, weight_decay, beta1, beta2, eps: self.eps, correction1, correction2 };
            return adamw(by, parameters, gradient, [&mut self.first, &mut self.second], factors);
        }
        let rate = rate.tensor(wide(parameters.kind()));
        let wide_kind = wide(parameters.kind());
        let gradient = gradient.to_kind(wide_kind);
        let first = self.first.to_kind(wide_kind).lerp(&gradient, 1.0 - beta1);
        let second = self.second.to_kind(wide_kind) * beta2 + gradient.square() * (1.0 - beta2);
        let denominator = second.sqrt() / correction2 + self.eps;
        let decayed = parameters.to_kind(wide_kind) * (1.0 - &rate * weight_decay);
        parameters.copy_(&(decayed - &first / denominator * (rate / correction1)));
        self.first.copy_(&first);
        self.second.copy_(&second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(words: &str) -> TrainConfig {
        let mut settings = job::Settings::new();
        settings.set(job::find_key("model").unwrap(), "m".into(), job::Origin::Axis);
        settings.set(job::find_key("train.optimizer").unwrap(), words.into(), job::Origin::Axis);
        settings.fill_defaults(job::Profile::Peft);
        job::JobConfig::from_settings(&settings, job::DType::Fp32).unwrap().train
    }

    #[test]
    fn a_state_that_is_read_goes_where_the_parameters_are() {
        let parameters = Tensor::zeros([3], (Kind::Float, Device::Cpu));
        let mut optimizer = Optimizer::new(&parameters, &train("adamw"), None);
        let before = optimizer.state()[0].1.data_ptr();
        let read = Tensor::from_slice(&[1.0f32, 2.0, 3.0]);
        let tensors = ["first", "second"].map(|name| (name.to_owned(), read.shallow_clone()));
        assert!(optimizer.restore(&tensors));
        assert_eq!(optimizer.state()[0].1.data_ptr(), before, "a tensor of a file is not the optimizer's");
        assert!(optimizer.state()[1].1.equal(&read));
        assert!(!optimizer.restore(&tensors[..1]));
    }

    #[test]
    fn a_gradient_with_an_infinite_number_is_seen() {
        for norm in [0.0, 1.0] {
            let mut gradient = Tensor::from_slice(&[1.0f32, f32::INFINITY]);
            assert!(!clip(&mut gradient, norm).is_finite());
            assert!(clip(&mut Tensor::from_slice(&[3.0f32, 4.0]), norm) == 5.0);
        }
    }
}
