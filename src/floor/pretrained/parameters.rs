//! Tensors, shapes and parameter counts derived from the configuration.

use std::collections::BTreeSet;

use super::architecture::{ModelConfig, Norm, QueryKeyNorm};
use super::names::{LayerName, NormPlace, Part, Projection};
use crate::job::{LayerKind, LoraConfig, Variant};

impl ModelConfig {
    /// Shape `[out, in]` of a block's matrix.
    pub fn projection_shape(&self, projection: Projection) -> [u64; 2] {
        let (hidden, wide) = (self.hidden_size, self.intermediate_size);
        match projection {
            Projection::Query => [self.query_width(), hidden],
            Projection::Key | Projection::Value => [self.kv_width(), hidden],
            Projection::Output => [hidden, self.query_width()],
            Projection::Gate | Projection::Up => [wide, hidden],
            Projection::Down => [hidden, wide],
        }
    }

    /// Shape `[out, in]` of a layer's matrix, `[width]` of a norm.
    pub fn shape(&self, name: LayerName) -> Vec<u64> {
        match name {
            LayerName::Embedding | LayerName::Head => vec![self.vocab_size, self.hidden_size],
            LayerName::Norm(_, place @ (NormPlace::Query | NormPlace::Key)) => {
                let heads = if place == NormPlace::Query { self.heads } else { self.kv_heads };
                let whole = self.query_key_norm == QueryKeyNorm::Whole;
                vec![if whole { heads * self.head_dim } else { self.head_dim }]
            }
            LayerName::FinalNorm | LayerName::Norm(..) => vec![self.hidden_size],
            LayerName::Block(_, projection) => self.projection_shape(projection).to_vec(),
        }
    }

    /// Whether a layer has a bias.
    pub fn has_bias(&self, name: LayerName) -> bool {
        match name {
            LayerName::Embedding => false,
            LayerName::Head => self.biases.head,
            LayerName::FinalNorm | LayerName::Norm(..) => self.norm == Norm::Layer,
            LayerName::Block(_, Projection::Output) => self.biases.output,
            LayerName::Block(_, projection) if projection.is_qkv() => self.biases.query_key_value,
            LayerName::Block(..) => self.biases.mlp,
        }
    }

    /// Every layer of one block.
    fn block_layers(&self, n: usize) -> Vec<LayerName> {
        let norms = self.norms().into_iter().map(|place| LayerName::Norm(n, place));
        norms.chain(self.projections().iter().map(|p| LayerName::Block(n, *p))).collect()
    }

    /// Every layer with its own tensors: a tied head is excluded.
    pub fn layer_names(&self) -> Vec<LayerName> {
        let mut names = vec![LayerName::Embedding];
        names.extend((0..self.layers as usize).flat_map(|n| self.block_layers(n)));
        names.push(LayerName::FinalNorm);
        if !self.tied_head {
            names.push(LayerName::Head);
        }
        names
    }

    /// Every tensor of the model.
    pub fn tensors(&self) -> Vec<(LayerName, Part)> {
        let parts = |name| {
            let bias = self.has_bias(name).then_some((name, Part::Bias));
            std::iter::once((name, Part::Weight)).chain(bias)
        };
        self.layer_names().into_iter().flat_map(parts).collect()
    }

    fn size(&self, name: LayerName) -> u64 {
        let shape = self.shape(name);
        shape.iter().product::<u64>() + if self.has_bias(name) { shape[0] } else { 0 }
    }

    /// Parameters of the model; a tied head is counted once.
    pub fn parameters(&self) -> u64 {
        let block: u64 = self.block_layers(0).into_iter().map(|name| self.size(name)).sum();
        let head = if self.tied_head { 0 } else { self.size(LayerName::Head) };
        self.layers * block + self.size(LayerName::Embedding) + self.size(LayerName::FinalNorm) + head
    }

    /// The matrices with an adapter for these layer kinds, in forward order.
    pub fn adapted(&self, kinds: &BTreeSet<LayerKind>) -> Vec<LayerName> {
        let mut names = Vec::new();
        for n in 0..self.layers as usize {
            let chosen = self.projections().iter().filter(|p| kinds.contains(&p.kind()));
            names.extend(chosen.map(|p| LayerName::Block(n, *p)));
        }
        if kinds.contains(&LayerKind::Head) {
            names.push(LayerName::Head);
        }
        names
    }
}

/// Parameters of an adapter: rank × (in + out) per adapted matrix, plus out for DoRA's magnitudes.
pub fn trainable_parameters(config: &ModelConfig, lora: &LoraConfig) -> u64 {
    let size = |[out, width]: [u64; 2]| {
        lora.rank * (out + width) + if lora.variant == Variant::Dora { out } else { 0 }
    };
    let chosen = config.projections().iter().filter(|projection| lora.layers.contains(&projection.kind()));
    let block: u64 = chosen.map(|projection| size(config.projection_shape(*projection))).sum();
    let has_head = lora.layers.contains(&LayerKind::Head);
    block * config.layers + if has_head { size([config.vocab_size, config.hidden_size]) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::find_known;

    fn llama_2_7b() -> ModelConfig {
        find_known("meta-llama/Llama-2-7b-hf").unwrap().config
    }

    fn lora(rank: u64, layers: &[LayerKind]) -> LoraConfig {
        LoraConfig::plain(rank, layers.iter().copied())
    }

    #[test]
    fn counts_are_those_of_the_tensors_one_by_one() {
        let mut config = llama_2_7b();
        for tied_head in [false, true] {
            config.tied_head = tied_head;
            let sizes = config.layer_names().into_iter().map(|name| config.size(name));
            assert_eq!(config.parameters(), sizes.sum::<u64>());
        }
        let mut lora = lora(8, &[LayerKind::Query, LayerKind::Mlp, LayerKind::Head]);
        let sum = |size: &dyn Fn(&[u64]) -> u64, lora: &LoraConfig| {
            config.adapted(&lora.layers).into_iter().map(|name| size(&config.shape(name))).sum::<u64>()
        };
        assert_eq!(trainable_parameters(&config, &lora), sum(&|shape| 8 * (shape[0] + shape[1]), &lora));
        lora.variant = Variant::Dora;
        assert_eq!(
            trainable_parameters(&config, &lora),
            sum(&|shape| 8 * (shape[0] + shape[1]) + shape[0], &lora)
        );
    }

    #[test]
    fn the_studys_parameter_counts_come_out() {
        use LayerKind::*;
        let all = [Query, Key, Value, Projection, Mlp, Head];
        let trainable = |rank, layers: &[LayerKind]| trainable_parameters(&llama_2_7b(), &lora(rank, layers));
        assert_eq!(llama_2_7b().parameters(), 6_738_415_616);
        assert_eq!(trainable(8, &[Query, Value]), 4_194_304);
        assert_eq!(trainable(8, &all), 20_277_248);
        assert_eq!(trainable(16, &all), 40_554_496);
        assert_eq!(trainable(256, &all), 648_871_936);
    }
}
