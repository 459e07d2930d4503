//! Keys and values of the tokens before, for generation.

use tch::Tensor;

/// The cache of a whole model.
pub(crate) struct Cache {
    pub(super) layers: Vec<LayerCache>,
    /// Tokens that it holds.
    pub(super) tokens: i64,
}

impl Cache {
    /// An empty one.
    pub(crate) fn new(layers: usize) -> Self {
        Self { layers: (0..layers).map(|_| LayerCache { known: None }).collect(), tokens: 0 }
    }
}

/// Keys and values of one layer, `[tokens, kv_heads, head_dim]`.
pub(crate) struct LayerCache {
    known: Option<(Tensor, Tensor)>,
}

impl LayerCache {
    /// Appends keys and values; all of them, if there were any before.
    pub(super) fn extend(&mut self, key: &Tensor, value: &Tensor) -> Option<(&Tensor, &Tensor)> {
        let continues = self.known.is_some();
        self.known = Some(match self.known.take() {
            None => (key.shallow_clone(), value.shallow_clone()),
            Some((keys, values)) => (Tensor::cat(&[&keys, key], 0), Tensor::cat(&[&values, value], 0)),
        });
        self.known.as_ref().filter(|_| continues).map(|(keys, values)| (keys, values))
    }
}
