//! The study's models by hub id, so that a sweep over them can be planned before anything is downloaded.

use super::architecture::ModelConfig;

/// A published model of which the shape is known.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownModel {
    /// Its hub id.
    pub id: &'static str,
    /// Its shape, where it is a family that loragrid trains.
    pub config: Option<ModelConfig>,
    /// All its parameters.
    pub parameters: u64,
}

/// Id, then vocabulary, hidden, feed-forward, layers, heads, key heads, positions.
type LlamaRow = (&'static str, [u64; 7]);

/// Models with Llama's block, head of 128, untied.
const LLAMA: &[LlamaRow] = &[
    ("meta-llama/Llama-2-7b-hf", [32_000, 4096, 11_008, 32, 32, 32, 4096]),
    ("meta-llama/Llama-2-7b-chat-hf", [32_000, 4096, 11_008, 32, 32, 32, 4096]),
    ("meta-llama/Llama-2-13b-hf", [32_000, 5120, 13_824, 40, 40, 40, 4096]),
    ("mistralai/Mistral-7B-v0.1", [32_000, 4096, 14_336, 32, 32, 8, 32_768]),
];

/// Models of other families with their parameters.
const OTHERS: &[(&str, u64)] = &[("microsoft/phi-1_5", 1_418_270_720), ("tiiuae/falcon-40b", 41_303_293_952)];

/// The model of this hub id.
pub fn find_known(id: &str) -> Option<KnownModel> {
    if let Some((id, sizes)) = LLAMA.iter().find(|(known, _)| *known == id) {
        let config = llama(*sizes);
        return Some(KnownModel { id, parameters: config.parameters(), config: Some(config) });
    }
    let (id, parameters) = OTHERS.iter().find(|(known, _)| *known == id)?;
    Some(KnownModel { id, config: None, parameters: *parameters })
}

fn llama(
    [vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads, max_positions]: [u64; 7],
) -> ModelConfig {
    ModelConfig {
        vocab_size,
        hidden_size,
        intermediate_size,
        layers,
        heads,
        kv_heads,
        head_dim: 128,
        norm_eps: 1e-5,
        rope_theta: 1e4,
        max_positions,
        tied_head: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_parameter_counts_come_out() {
        let count = |id| find_known(id).unwrap().parameters;
        assert_eq!(count("meta-llama/Llama-2-7b-hf"), 6_738_415_616);
        assert_eq!(count("meta-llama/Llama-2-13b-hf"), 13_015_864_320);
        assert_eq!(count("mistralai/Mistral-7B-v0.1"), 7_241_732_096);
        assert_eq!(find_known("someone/else"), None);
    }
}
