//! The embedding, which may be the head's matrix.

use tch::{Device, Kind, Tensor};

use crate::shim::Frozen;

/// A vector for each token, `[vocab, hidden]`.
pub(super) enum Embedding {
    Dense(Tensor),
    /// The packed matrix of a tied head.
    Packed {
        frozen: Frozen,
        size: [i64; 2],
        kind: Kind,
        device: Device,
    },
}

impl Embedding {
    /// The vectors `[count, hidden]` of tokens `[count]`.
    pub(super) fn of(&self, tokens: &Tensor) -> Tensor {
        match self {
            Self::Dense(weight) => weight.index_select(0, tokens),
            Self::Packed { frozen, .. } => frozen.picked(tokens),
        }
    }

    pub(super) fn device(&self) -> Device {
        match self {
            Self::Dense(weight) => weight.device(),
            Self::Packed { device, .. } => *device,
        }
    }

    /// Whether a tensor equals it bit for bit.
    pub(super) fn equals(&self, other: &Tensor) -> bool {
        match self {
            Self::Dense(weight) => weight.size() == other.size() && weight.equal(other),
            Self::Packed { frozen, size, kind, .. } => {
                other.size() == size && frozen.weight(*kind).equal(other)
            }
        }
    }
}
