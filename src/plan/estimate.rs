//! Estimates of a job before it runs. Each formula is an upper bound that is simple enough to check by hand.

use serde::Serialize;

use crate::device::DeviceKind;
use crate::job::{AdapterDType, Bytes, DType, Dequantize, LoraConfig, Quantize, Seconds, TrainConfig};
use crate::pretrained::{ModelConfig, trainable_parameters};

/// Memory of one training job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// Base weights: parameters × bytes of the compute dtype. Quantized block matrices take half a byte and a scale of 4 bytes per 64
    /// elements; with double quantization the scale is 1 byte plus 4 bytes per 256 scales.
    pub weights: Bytes,
    /// Adapter and its gradient: 2 × parameters × 4 bytes, or × bytes of the compute dtype.
    pub adapter: Bytes,
    /// Moments in the adapter's dtype: two for AdamW, one for SGD with momentum, none for plain SGD.
    pub optimizer: Bytes,
    /// Activations kept for backward: per token and layer, 12 rows of the hidden width and 5 of the feed-forward width, at 1.5 bytes.
    /// Measured: 1.24 bytes in single precision on a CPU (SmolLM2-135M, 0.54 MB per token), 1.4 in bf16 on a GPU (Llama 2 7B, 4.6 MB per
    /// token). With gradient checkpointing: one row of the hidden width in the compute dtype per layer, plus the activations of one
    /// layer.
    pub activations: Bytes,
    /// Logits of one chunk of 256 rows, three copies in single precision.
    pub logits: Bytes,
    /// libtorch with its threads' buffers: 0.5 GB, measured on a CPU; 1 GB on a GPU with the CUDA context and memory that the allocator
    /// cannot use.
    pub runtime: Bytes,
}

impl MemoryEstimate {
    /// The estimate for a model and a configuration on a device, given the tokens of the longest row: a row longer than the budget is its
    /// own pass.
    pub fn of(
        model: &ModelConfig,
        train: &TrainConfig,
        lora: &LoraConfig,
        (device, longest): (DeviceKind, u64),
    ) -> Self {
        let trainable = trainable_parameters(model, lora);
        let compute = train.base.dtype.bytes();
        let adapter = match lora.dtype {
            AdapterDType::Fp32 => 4,
            AdapterDType::Compute => compute,
        };
        let moments = train.optimizer_moments();
        let widths = 12 * model.hidden_size + 5 * model.intermediate_size;
        let kept = if train.gradient_checkpointing {
            model.layers * model.hidden_size * compute + widths * 3 / 2
        } else {
            model.layers * widths * 3 / 2
        };
        Self {
            weights: weight_bytes(model, form_kept(train), train.base.quantize_head, train.base.dtype),
            adapter: Bytes(trainable * 2 * adapter),
            optimizer: Bytes(trainable * moments * adapter),
            activations: Bytes(device.token_budget().max(longest) * kept),
            logits: Bytes(3 * 256 * model.vocab_size * 4),
            runtime: Bytes(match device {
                DeviceKind::Cpu { .. } => 500_000_000,
                DeviceKind::Cuda { .. } => 1_000_000_000,
            }),
        }
    }

    /// Memory that a pack holds once, however many jobs it has: all but the adapter and its moments.
    pub fn shared(&self) -> Bytes {
        Bytes(self.total().0 - self.adapter.0 - self.optimizer.0)
    }

    /// The sum.
    pub fn total(&self) -> Bytes {
        let parts = [self.weights, self.adapter, self.optimizer, self.activations, self.logits, self.runtime];
        Bytes(parts.iter().map(|part| part.0).sum())
    }
}

/// The form in memory: matrices that are kept dequantized are in the compute dtype.
fn form_kept(train: &TrainConfig) -> Quantize {
    match train.base.dequantize {
        Dequantize::EachPass => train.base.quantize,
        Dequantize::Keep => Quantize::None,
    }
}

/// Bytes of a base model's weights; see [`MemoryEstimate::weights`].
pub fn weight_bytes(model: &ModelConfig, quantize: Quantize, quantize_head: bool, dtype: DType) -> Bytes {
    let per_element = match quantize {
        Quantize::None => return Bytes(model.parameters() * dtype.bytes()),
        Quantize::Nf4 | Quantize::Fp4 => 0.5 + 4.0 / 64.0,
        Quantize::Nf4Double | Quantize::Fp4Double => 0.5 + 1.0 / 64.0 + 4.0 / (64.0 * 256.0),
    };
    let block: u64 =
        model.projections().iter().map(|p| model.projection_shape(*p).iter().product::<u64>()).sum();
    let head = if quantize_head && !model.tied_head { model.vocab_size * model.hidden_size } else { 0 };
    let quantized = block * model.layers + head;
    Bytes((quantized as f64 * per_element) as u64 + (model.parameters() - quantized) * dtype.bytes())
}

/// The share of a machine's rate of matrix products that a training reaches.
const REACHED: f64 = 0.6;

/// Training throughput, and its source.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Throughput {
    /// Tokens per second in earlier trainings of this model on this kind of device.
    Measured(f64),
    /// Tokens per second from this machine's rate of matrix products, of which a training reaches a share.
    Derived(f64),
    /// Tokens per second from 6 operations per parameter and token at 400 GFLOP/s, which two CPU cores with bf16 instructions reach in
    /// matrix products.
    Guessed(f64),
}

impl Throughput {
    /// From a rate of products in floating-point operations per second: 4 operations per parameter and token, since the base
    /// is frozen, and the share of the rate that trainings of small and large models reached on two CPU cores.
    pub fn of_products(products: f64, parameters: u64) -> Self {
        Self::Derived(REACHED * products / (4.0 * parameters as f64))
    }

    /// The guess for a model with this many parameters that was never trained here.
    pub fn guess(parameters: u64) -> Self {
        Self::Guessed(400e9 / (6.0 * parameters as f64))
    }

    /// Tokens per second.
    pub fn tokens_per_second(self) -> f64 {
        match self {
            Self::Measured(rate) | Self::Derived(rate) | Self::Guessed(rate) => rate,
        }
    }
}

/// The estimate of a job.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Memory on this machine; none for scoring alone, or for a family with an unknown shape.
    pub memory: Option<MemoryEstimate>,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// Tokens to score.
    pub score_tokens: u64,
    /// Time of the missing work. Scoring needs only the forward pass and counts as three times as fast.
    pub time: Seconds,
    /// Disk for the adapter, in single precision.
    pub adapter_disk: Bytes,
    /// Disk for checkpoints during training: two, each with the adapter and its moments.
    pub checkpoint_disk: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{DType, JobConfig, LayerKind, Origin, Profile, Settings, find_key};
    use crate::pretrained::find_known;

    const CUDA: (DeviceKind, u64) = (DeviceKind::Cuda { capability: None }, 0);

    #[test]
    fn the_studys_memory_comes_out_in_the_right_order() {
        let model = find_known("meta-llama/Llama-2-7b-hf").unwrap().config;
        let mut settings = Settings::new();
        settings.set(find_key("model").unwrap(), "m".into(), Origin::Axis);
        settings.fill_defaults(Profile::LitGpt2023);
        let mut config = JobConfig::from_settings(&settings, DType::Bf16).unwrap();
        let weights = |config: &JobConfig| {
            MemoryEstimate::of(&model, &config.train, &config.lora, CUDA).weights.0 as f64 / 1e9
        };
        assert!((weights(&config) - 13.48).abs() < 0.01, "{}", weights(&config));
        config.train.base.quantize = Quantize::Nf4;
        let nf4 = weights(&config);
        // The study measured 21.33 GB against 14.18 GB.
        assert!((3.5..6.5).contains(&nf4), "{nf4}");
        config.train.base.quantize = Quantize::Nf4Double;
        assert!(weights(&config) < nf4);
        // AdamW's state at r = 256 on all layers: 2.6 GB in bf16 by the study's own sum.
        config.lora = LoraConfig {
            dtype: AdapterDType::Compute,
            ..LoraConfig::plain(256, LayerKind::WORDS.iter().filter_map(|w| LayerKind::parse(w)))
        };
        let state = MemoryEstimate::of(&model, &config.train, &config.lora, CUDA).optimizer.0;
        assert!((state as f64 / 1e9 - 2.6).abs() < 0.01, "{state}");
        // Measured on a GPU: 32.7 GB with the 7B model in bf16, and 23.7 GB with it in nf4, at passes of 4,096 tokens.
        config.lora = LoraConfig::plain(8, [LayerKind::Query, LayerKind::Value]);
        let total = |config: &JobConfig, longest| {
            let device = (CUDA.0, longest);
            MemoryEstimate::of(&model, &config.train, &config.lora, device).total().0 as f64 / 1e9
        };
        config.train.base.quantize = Quantize::None;
        assert!((32.7..38.0).contains(&total(&config, 0)), "{}", total(&config, 0));
        config.train.base.quantize = Quantize::Nf4;
        assert!((23.7..28.0).contains(&total(&config, 0)), "{}", total(&config, 0));
        // A row longer than the budget is its own pass; gradient checkpointing takes less memory.
        let long = total(&config, 8192);
        assert!(long > total(&config, 4096) + 15.0, "{long}");
        config.train.gradient_checkpointing = true;
        assert!(total(&config, 8192) < long / 2.0);
    }
}
