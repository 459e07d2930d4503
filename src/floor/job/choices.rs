//! Enumerated configuration values.

use super::words::words;

words! {
    /// Compute dtype of the frozen model.
    DType {
        /// bfloat16.
        Bf16 = "bf16",
        /// IEEE single.
        Fp32 = "fp32",
        /// IEEE double, for tests.
        Fp64 = "fp64",
    }
}

impl DType {
    /// Size of one element in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Bf16 => 2,
            Self::Fp32 => 4,
            Self::Fp64 => 8,
        }
    }
}

words! {
    /// Storage of the frozen block weights, in Lit-GPT's names for bitsandbytes.
    Quantize {
        /// In the compute dtype.
        None = "none",
        /// 4-bit NormalFloat, blocks of 64.
        Nf4 = "bnb.nf4",
        /// The same with quantized block scales.
        Nf4Double = "bnb.nf4-dq",
        /// 4-bit float, blocks of 64.
        Fp4 = "bnb.fp4",
        /// The same with quantized block scales.
        Fp4Double = "bnb.fp4-dq",
    }
}

words! {
    /// When 4-bit matrices are dequantized. Results are identical.
    Dequantize {
        /// In every forward and backward pass: least memory.
        EachPass = "each_pass",
        /// Once, and kept in the compute dtype: the speed of an unquantized model.
        Keep = "keep",
    }
}

words! {
    /// Presets for rules that differ between training systems.
    Profile {
        /// PEFT with transformers' trainer.
        Peft = "peft",
        /// Lit-GPT's `finetune/lora.py` of autumn 2023, used by the study.
        LitGpt2023 = "litgpt-2023",
    }
}

words! {
    /// A kind of layer that can have an adapter, in the study's names.
    LayerKind {
        /// The query projection.
        Query = "query",
        /// The key projection.
        Key = "key",
        /// The value projection.
        Value = "value",
        /// The attention's output projection.
        Projection = "projection",
        /// Every MLP matrix.
        Mlp = "mlp",
        /// The language model head, from hidden states to the vocabulary.
        Head = "head",
    }
}

words! {
    /// How the loss weights tokens.
    Loss {
        /// Sum over the window's scored tokens divided by their count (transformers' rule).
        Token = "token",
        /// Mean over each micro-batch's scored tokens, then mean over micro-batches (Lit-GPT's rule).
        MicroBatch = "micro_batch",
    }
}

words! {
    /// Which tokens the loss scores.
    Labels {
        /// Every token after the first.
        All = "all",
        /// The response with its end-of-sequence token.
        Response = "response",
        /// Every turn of the assistant.
        Assistant = "assistant",
    }
}

words! {
    /// The optimizer.
    Optimizer {
        /// AdamW (Loshchilov and Hutter 2019), as torch computes it.
        Adamw = "adamw",
        /// Stochastic gradient descent with momentum, as torch computes it.
        Sgd = "sgd",
    }
}

words! {
    /// The learning rate after the warm-up.
    Schedule {
        /// Constant at its peak.
        Constant = "constant",
        /// Linear decay to 0.
        Linear = "linear",
        /// Cosine decay to `min_lr_ratio` of the peak.
        Cosine = "cosine",
    }
}

words! {
    /// Variant of the cosine schedule.
    ScheduleForm {
        /// transformers: over the steps after warm-up.
        Transformers = "transformers",
        /// Lit-GPT of autumn 2023: its period is all steps and it decays only after warm-up.
        LitGpt2023 = "litgpt-2023",
    }
}

words! {
    /// Order of the rows.
    RowOrder {
        /// A new permutation each epoch.
        Shuffle = "shuffle",
        /// File order.
        Sequential = "sequential",
        /// Sampled with replacement, the longest row first (Lit-GPT).
        WithReplacement = "with_replacement",
    }
}

words! {
    /// How a last window with fewer micro-batches is handled.
    LastWindow {
        /// It ends with a step.
        Step = "step",
        /// It is dropped (Lit-GPT).
        Drop = "drop",
    }
}

words! {
    /// How a row with more tokens than `max_seq_length` is handled.
    Overlong {
        /// Truncated at its end.
        Truncate = "truncate",
        /// Dropped.
        Drop = "drop",
        /// An error.
        Refuse = "refuse",
    }
}

words! {
    /// Scale of the adapter's output.
    Scaling {
        /// alpha / r (Hu et al. 2021).
        Standard = "alpha/r",
        /// alpha / √r (rsLoRA, Kalajdzievski 2023).
        RankStabilized = "alpha/sqrt(r)",
    }
}

words! {
    /// Adapter type.
    Variant {
        /// Two low-rank factors.
        Lora = "lora",
        /// A trained magnitude over a low-rank direction (DoRA, Liu et al. 2024).
        Dora = "dora",
    }
}

words! {
    /// Initial values of the factor A; B is zero.
    Init {
        /// Uniform in ±1/√in, PEFT's default.
        Kaiming = "kaiming",
        /// Normal with standard deviation 1/r, PEFT's `gaussian`.
        Gaussian = "gaussian",
    }
}

words! {
    /// Dtype of the adapter.
    AdapterDType {
        /// Single precision over any base (PEFT).
        Fp32 = "fp32",
        /// The compute dtype (Lit-GPT's bf16-true).
        Compute = "compute",
    }
}

words! {
    /// Dtype for log-likelihoods from logits.
    Softmax {
        /// Single precision.
        Fp32 = "fp32",
        /// The model's compute dtype, rounding each token's and their sum, as in lm_eval by default.
        Model = "model",
    }
}

words! {
    /// Prompt format for tasks.
    PromptProfile {
        /// lm_eval's.
        LmEval = "lm_eval",
        /// Lit-GPT's harness adapter of autumn 2023.
        LitGpt2023 = "litgpt-2023",
    }
}
