//! The parts of a model by name, whatever their checkpoint calls them.

use crate::job::LayerKind;

/// A matrix of a block that can carry an adapter.
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
    /// Hidden states to the feed-forward width.
    Up,
    /// Feed-forward width to hidden states.
    Down,
}

impl Projection {
    /// The kind of layer, in the study's words.
    pub fn kind(self) -> LayerKind {
        match self {
            Self::Query => LayerKind::Query,
            Self::Key => LayerKind::Key,
            Self::Value => LayerKind::Value,
            Self::Output => LayerKind::Projection,
            Self::Gate | Self::Up | Self::Down => LayerKind::Mlp,
        }
    }

    /// Whether it makes queries, keys or values.
    pub fn is_qkv(self) -> bool {
        matches!(self, Self::Query | Self::Key | Self::Value)
    }
}

/// A norm of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NormPlace {
    /// Of the states that attention reads.
    BeforeAttention,
    /// Of what attention adds.
    AfterAttention,
    /// Of the states that the feed-forward part reads.
    BeforeMlp,
    /// Of what the feed-forward part adds.
    AfterMlp,
    /// Of queries.
    Query,
    /// Of keys.
    Key,
}

/// The place of a layer in the model.
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
    /// Its ending in checkpoints.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Bias => "bias",
        }
    }
}
