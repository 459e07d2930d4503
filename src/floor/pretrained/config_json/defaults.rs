//! Defaults of `config.json`, as in each family's configuration class in transformers.

use crate::pretrained::architecture::Family;

/// A family's defaults.
pub(super) struct FamilyDefaults {
    pub(super) feed_forward: FeedForward,
    pub(super) head_dim: HeadDim,
    pub(super) norm_eps: f64,
    pub(super) activation: &'static str,
    pub(super) tied_head: bool,
    /// The fraction of a head that is rotated.
    pub(super) rotary_part: f64,
    /// Positions visible in a sliding layer.
    pub(super) window: Option<u64>,
}

/// Where the MLP width is found.
pub(super) enum FeedForward {
    /// In `intermediate_size`.
    Named,
    /// In `ffn_hidden_size`, else four times the hidden size.
    FourTimes,
}

/// Head width.
pub(super) enum HeadDim {
    /// `head_dim`, else this.
    Unless(u64),
    /// `head_dim`, else hidden size / heads.
    UnlessShared,
    /// Hidden size / heads; the file's value is ignored.
    Shared,
}

const LLAMA: FamilyDefaults = FamilyDefaults {
    feed_forward: FeedForward::Named,
    head_dim: HeadDim::UnlessShared,
    norm_eps: 1e-6,
    activation: "silu",
    tied_head: false,
    rotary_part: 1.0,
    window: Some(4096),
};

const GEMMA: FamilyDefaults = FamilyDefaults {
    head_dim: HeadDim::Unless(256),
    activation: "gelu_pytorch_tanh",
    tied_head: true,
    ..LLAMA
};

impl Family {
    /// Exhaustive: a new family must define its defaults.
    pub(super) const fn defaults(self) -> FamilyDefaults {
        match self {
            Self::Llama | Self::Mistral | Self::Qwen2 => LLAMA,
            Self::Qwen3 => FamilyDefaults { head_dim: HeadDim::Unless(128), ..LLAMA },
            Self::Smollm3 => FamilyDefaults { tied_head: true, ..LLAMA },
            Self::Olmo2 => FamilyDefaults { norm_eps: 1e-5, ..LLAMA },
            Self::Phi3 => FamilyDefaults { norm_eps: 1e-5, window: None, ..LLAMA },
            Self::Phi => FamilyDefaults {
                head_dim: HeadDim::Shared,
                norm_eps: 1e-5,
                activation: "gelu_new",
                rotary_part: 0.5,
                ..LLAMA
            },
            Self::GptNeox => FamilyDefaults {
                head_dim: HeadDim::Shared,
                norm_eps: 1e-5,
                activation: "gelu",
                rotary_part: 0.25,
                ..LLAMA
            },
            Self::Falcon => FamilyDefaults {
                feed_forward: FeedForward::FourTimes,
                head_dim: HeadDim::Shared,
                norm_eps: 1e-5,
                activation: "gelu",
                tied_head: true,
                ..LLAMA
            },
            Self::Gemma | Self::Gemma2 | Self::Gemma3Text => GEMMA,
        }
    }
}
