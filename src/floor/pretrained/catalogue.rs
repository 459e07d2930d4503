//! The study's models by hub id, so that a sweep over them can be planned before anything is downloaded.

use super::architecture::*;

/// A published model with a known shape.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownModel {
    /// Its hub id.
    pub id: &'static str,
    /// Its shape.
    pub config: ModelConfig,
}

/// Id, then vocabulary, hidden, feed-forward, layers, heads, key heads, head width, positions.
const MODELS: &[(&str, [u64; 8])] = &[
    ("meta-llama/Llama-2-7b-hf", [32_000, 4096, 11_008, 32, 32, 32, 128, 4096]),
    ("meta-llama/Llama-2-7b-chat-hf", [32_000, 4096, 11_008, 32, 32, 32, 128, 4096]),
    ("meta-llama/Llama-2-13b-hf", [32_000, 5120, 13_824, 40, 40, 40, 128, 4096]),
    ("mistralai/Mistral-7B-v0.1", [32_000, 4096, 14_336, 32, 32, 8, 128, 32_768]),
    ("microsoft/phi-1_5", [51_200, 2048, 8192, 24, 32, 32, 64, 2048]),
    ("tiiuae/falcon-40b", [65_024, 8192, 32_768, 60, 128, 8, 64, 2048]),
];

/// The model with this hub id.
pub fn find_known(id: &str) -> Option<KnownModel> {
    let (id, sizes) = MODELS.iter().find(|(known, _)| *known == id)?;
    let [vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads, head_dim, max_positions] =
        *sizes;
    let sizes = LlamaSizes { vocab_size, hidden_size, intermediate_size, layers, heads, kv_heads, head_dim };
    let mut config = ModelConfig { max_positions, ..ModelConfig::llama(sizes) };
    match *id {
        "mistralai/Mistral-7B-v0.1" => {
            config.family = Family::Mistral;
            config.layer_forms.iter_mut().for_each(|form| form.window = Some(4096));
        }
        "microsoft/phi-1_5" => {
            config.family = Family::Phi;
            config.norm = Norm::Layer;
            config.block = BlockForm::Parallel;
            config.activation = Activation::GeluTanh;
            config.gated = false;
            config.rotary_dim = 32;
            config.biases = Biases { query_key_value: true, output: true, mlp: true, head: true };
        }
        "tiiuae/falcon-40b" => {
            config.family = Family::Falcon;
            config.norm = Norm::Layer;
            config.block = BlockForm::ParallelTwoNorms;
            config.activation = Activation::Gelu;
            config.gated = false;
            config.qkv = QkvRows::ByKeyHead;
            config.tied_head = true;
        }
        _ => {}
    }
    Some(KnownModel { id, config })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_parameter_counts_come_out() {
        let count = |id| find_known(id).unwrap().config.parameters();
        assert_eq!(count("meta-llama/Llama-2-7b-hf"), 6_738_415_616);
        assert_eq!(count("meta-llama/Llama-2-13b-hf"), 13_015_864_320);
        assert_eq!(count("mistralai/Mistral-7B-v0.1"), 7_241_732_096);
        assert_eq!(count("microsoft/phi-1_5"), 1_418_270_720);
        assert_eq!(count("tiiuae/falcon-40b"), 41_303_293_952);
        assert_eq!(find_known("someone/else"), None);
    }
}
