//! Parameter counts from the configuration alone.

use std::collections::BTreeSet;

use super::architecture::ModelConfig;
use super::names::{ATTENTION_AND_MLP, LayerName, Projection};
use crate::job::{LayerKind, LoraConfig};

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

    /// Shape of any tensor of the model.
    pub fn shape(&self, name: LayerName) -> Vec<u64> {
        match name {
            LayerName::Embedding | LayerName::Head => vec![self.vocab_size, self.hidden_size],
            LayerName::FinalNorm | LayerName::AttentionNorm(_) | LayerName::MlpNorm(_) => {
                vec![self.hidden_size]
            }
            LayerName::Block(_, projection) => self.projection_shape(projection).to_vec(),
        }
    }

    /// Every tensor that the model has, a tied head left out.
    pub fn tensors(&self) -> Vec<LayerName> {
        let mut names = vec![LayerName::Embedding];
        for n in 0..self.layers as usize {
            names.push(LayerName::AttentionNorm(n));
            names.extend(ATTENTION_AND_MLP.map(|projection| LayerName::Block(n, projection)));
            names.push(LayerName::MlpNorm(n));
        }
        names.push(LayerName::FinalNorm);
        if !self.tied_head {
            names.push(LayerName::Head);
        }
        names
    }

    /// Parameters of the model; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        let matrices = ATTENTION_AND_MLP.iter().map(|p| self.projection_shape(*p).iter().product::<u64>());
        let block = matrices.sum::<u64>() + 2 * self.hidden_size;
        let vocabulary = self.vocab_size * self.hidden_size;
        let ends = if self.tied_head { vocabulary } else { 2 * vocabulary };
        self.layers * block + self.hidden_size + ends
    }

    /// The matrices that carry an adapter when these kinds do, in forward order.
    pub fn adapted(&self, kinds: &BTreeSet<LayerKind>) -> Vec<LayerName> {
        let mut names = Vec::new();
        for n in 0..self.layers as usize {
            let chosen = ATTENTION_AND_MLP.into_iter().filter(|p| kinds.contains(&p.kind()));
            names.extend(chosen.map(|p| LayerName::Block(n, p)));
        }
        if kinds.contains(&LayerKind::Head) {
            names.push(LayerName::Head);
        }
        names
    }
}

/// Parameters of an adapter: rank × (in + out) for each adapted matrix.
pub fn trainable_parameters(config: &ModelConfig, lora: &LoraConfig) -> u64 {
    let chosen = ATTENTION_AND_MLP.iter().filter(|projection| lora.layers.contains(&projection.kind()));
    let block: u64 = chosen.map(|projection| config.projection_shape(*projection).iter().sum::<u64>()).sum();
    let head =
        if lora.layers.contains(&LayerKind::Head) { config.vocab_size + config.hidden_size } else { 0 };
    lora.rank * (block * config.layers + head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::find_known;

    fn llama_2_7b() -> ModelConfig {
        find_known("meta-llama/Llama-2-7b-hf").unwrap().config.unwrap()
    }

    fn lora(rank: u64, layers: &[LayerKind]) -> LoraConfig {
        LoraConfig::plain(rank, layers.iter().copied())
    }

    #[test]
    fn counts_are_those_of_the_tensors_one_by_one() {
        let mut config = llama_2_7b();
        for tied_head in [false, true] {
            config.tied_head = tied_head;
            let sizes = config.tensors().into_iter().map(|name| config.shape(name).iter().product::<u64>());
            assert_eq!(config.parameters(), sizes.sum::<u64>());
        }
        let lora = lora(8, &[LayerKind::Query, LayerKind::Mlp, LayerKind::Head]);
        let sizes =
            config.adapted(&lora.layers).into_iter().map(|name| config.shape(name).iter().sum::<u64>());
        assert_eq!(trainable_parameters(&config, &lora), 8 * sizes.sum::<u64>());
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
