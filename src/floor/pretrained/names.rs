//! Names of a model's layers, independent of the checkpoint's spelling.

use crate::job::LayerKind;

/// A matrix of a block that can have an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// Hidden states to queries.
    Query,
    /// Hidden states to keys.
    Key,
    /// Hidden states to values.
    Value,
    /// Attention output to hidden states.
    Output,
    /// Hidden states to the gate.
    Gate,
    /// Hidden states to the MLP width.
    Up,
    /// MLP width to hidden states.
    Down,
}

impl Projection {
    /// The kind of layer, in the study's names.
    pub fn kind(self) -> LayerKind {
        match self {
            Self::Query => LayerKind::Query,
            Self::Key => LayerKind::Key,
            Self::Value => LayerKind::Value,
            Self::Output => LayerKind::Projection,
            Self::Gate | Self::Up | Self::Down => LayerKind::Mlp,
        }
    }

    /// Whether it is the query, key or value projection.
    pub fn is_qkv(self) -> bool {
        matches!(self, Self::Query | Self::Key | Self::Value)
    }
}

/// A norm of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NormPlace {
    /// Before attention.
    BeforeAttention,
    /// After attention.
    AfterAttention,
    /// Before the MLP.
    BeforeMlp,
    /// After the MLP.
    AfterMlp,
    /// Of queries.
    Query,
    /// Of keys.
    Key,
}

/// A layer's location in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayerName {
    /// The token embedding `[vocab, hidden]`.
    Embedding,
    /// A block's norm.
    Norm(usize, NormPlace),
    /// A block's matrix.
    Block(usize, Projection),
    /// The last norm `[hidden]`.
    FinalNorm,
    /// The head `[vocab, hidden]`.
    Head,
}

/// One of the two tensors of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A matrix `[out, in]`, or a norm's factors.
    Weight,
    /// A vector `[out]`.
    Bias,
}

impl Part {
    /// Its suffix in checkpoints.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Bias => "bias",
        }
    }
}
