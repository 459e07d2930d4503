//! Key-value cache for generation.

use tch::Tensor;

use super::attention::{Attend, Rules, causal, next_token};
use super::batch::Run;

/// The key-value cache of a whole model.
pub(crate) struct Cache {
    /// Keys and values of each layer, `[tokens, kv_heads, head_dim]`; none before the first tokens.
    layers: Vec<Option<(Tensor, Tensor)>>,
    /// Number of cached tokens.
    pub(super) tokens: i64,
}

impl Cache {
    /// An empty cache.
    pub(crate) fn new(layers: usize) -> Self {
        Self { layers: (0..layers).map(|_| None).collect(), tokens: 0 }
    }
}

/// Tokens after the cached ones: the whole prompt if the cache is empty, then one token at a time.
pub(super) struct Following<'a> {
    pub(super) cache: &'a mut Cache,
    pub(super) runs: &'a [Run],
}

impl Attend for Following<'_> {
    fn attend(&mut self, layer: usize, query: &Tensor, key: &Tensor, value: &Tensor, rules: Rules) -> Tensor {
        match self.cache.layers[layer].take() {
            None => {
                self.cache.layers[layer] = Some((key.shallow_clone(), value.shallow_clone()));
                causal(query, key, value, self.runs, rules)
            }
            Some((keys, values)) => {
                let (keys, values) = (Tensor::cat(&[&keys, key], 0), Tensor::cat(&[&values, value], 0));
                let attended = next_token(query, &keys, &values, rules);
                self.cache.layers[layer] = Some((keys, values));
                attended
            }
        }
    }
}
