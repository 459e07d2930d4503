//! A layer's location in a checkpoint: the module's name in its family, and its rows if several layers are stored as
//! one matrix.

use std::ops::Range;

use super::architecture::{BlockForm, Family, ModelConfig, QkvRows};
use super::names::{LayerName, NormPlace, Projection};

/// A layer's storage location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorLocation {
    /// The module's Hugging Face name: `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// The layer's rows in the module's matrix, in order; none: all of them.
    pub rows: Option<Vec<Range<u64>>>,
}

/// A family's module names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Llama,
    Phi3,
    Phi,
    Falcon,
    GptNeox,
}

impl Family {
    /// Exhaustive: a new family must define its names.
    fn spelling(self) -> Spelling {
        match self {
            Self::Llama
            | Self::Mistral
            | Self::Qwen2
            | Self::Qwen3
            | Self::Gemma
            | Self::Gemma2
            | Self::Gemma3Text
            | Self::Olmo2
            | Self::Smollm3 => Spelling::Llama,
            Self::Phi3 => Spelling::Phi3,
            Self::Phi => Spelling::Phi,
            Self::Falcon => Spelling::Falcon,
            Self::GptNeox => Spelling::GptNeox,
        }
    }
}

impl ModelConfig {
    /// A layer's location in a Hugging Face checkpoint.
    pub fn place(&self, name: LayerName) -> TensorLocation {
        let final_norm = if self.family.spelling() == Spelling::Phi { "final_layernorm" } else { "norm" };
        let module = match name {
            LayerName::Embedding => self.spell(["embed_tokens", "word_embeddings", "embed_in"], None),
            LayerName::FinalNorm => self.spell([final_norm, "ln_f", "final_layer_norm"], None),
            LayerName::Head => match self.family.spelling() {
                Spelling::GptNeox => "embed_out".to_owned(),
                Spelling::Llama | Spelling::Phi3 | Spelling::Phi | Spelling::Falcon => "lm_head".to_owned(),
            },
            LayerName::Norm(n, place) => self.norm_module(n, place),
            LayerName::Block(n, projection) => {
                let (part, target) = self.target(projection);
                self.spell([&format!("{part}.{target}"); 3], Some(n))
            }
        };
        let rows = match name {
            LayerName::Block(_, projection) => self.rows(projection),
            LayerName::Embedding | LayerName::FinalNorm | LayerName::Head | LayerName::Norm(..) => None,
        };
        TensorLocation { module, rows }
    }

    /// The last component of the module's name, PEFT's target name. `q_proj`, `query_key_value`.
    pub fn target_name(&self, projection: Projection) -> &'static str {
        self.target(projection).1
    }

    /// The layers in one module, ordered by first row.
    pub fn layers_of_module(&self, name: LayerName) -> Vec<LayerName> {
        let LayerName::Block(n, projection) = name else { return vec![name] };
        let target = self.target_name(projection);
        let all = self.projections().iter().filter(|p| self.target_name(**p) == target);
        all.map(|p| LayerName::Block(n, *p)).collect()
    }

    /// The names in Llama-style, Falcon and GPT-NeoX checkpoints, inside block `n` if one is given.
    fn spell(&self, [llama, falcon, neox]: [&str; 3], n: Option<usize>) -> String {
        let (root, blocks, name) = match self.family.spelling() {
            Spelling::Falcon => ("transformer", "h", falcon),
            Spelling::GptNeox => ("gpt_neox", "layers", neox),
            Spelling::Llama | Spelling::Phi3 | Spelling::Phi => ("model", "layers", llama),
        };
        match n {
            Some(n) => format!("{root}.{blocks}.{n}.{name}"),
            None => format!("{root}.{name}"),
        }
    }

    fn norm_module(&self, n: usize, place: NormPlace) -> String {
        let two_norms = self.family == Family::Falcon && self.block == BlockForm::ParallelTwoNorms;
        let name = match place {
            NormPlace::BeforeAttention if two_norms => "ln_attn",
            NormPlace::BeforeMlp if two_norms => "ln_mlp",
            NormPlace::BeforeAttention => "input_layernorm",
            NormPlace::AfterAttention => "post_attention_layernorm",
            NormPlace::BeforeMlp if self.block == BlockForm::Sandwich => "pre_feedforward_layernorm",
            NormPlace::BeforeMlp => "post_attention_layernorm",
            NormPlace::AfterMlp => "post_feedforward_layernorm",
            NormPlace::Query => "self_attn.q_norm",
            NormPlace::Key => "self_attn.k_norm",
        };
        self.spell([name; 3], Some(n))
    }

    /// The block's submodule and the module's name in it.
    fn target(&self, projection: Projection) -> (&'static str, &'static str) {
        use Projection::*;
        match (self.family.spelling(), projection) {
            (Spelling::Falcon, Query | Key | Value) => ("self_attention", "query_key_value"),
            (Spelling::Falcon, Output) => ("self_attention", "dense"),
            (Spelling::GptNeox, Query | Key | Value) => ("attention", "query_key_value"),
            (Spelling::GptNeox, Output) => ("attention", "dense"),
            (Spelling::Falcon | Spelling::GptNeox, Gate | Up) => ("mlp", "dense_h_to_4h"),
            (Spelling::Falcon | Spelling::GptNeox, Down) => ("mlp", "dense_4h_to_h"),
            (Spelling::Phi3, Query | Key | Value) => ("self_attn", "qkv_proj"),
            (Spelling::Phi3, Gate | Up) => ("mlp", "gate_up_proj"),
            (Spelling::Phi, Output) => ("self_attn", "dense"),
            (Spelling::Phi, Gate | Up) => ("mlp", "fc1"),
            (Spelling::Phi, Down) => ("mlp", "fc2"),
            (Spelling::Llama | Spelling::Phi, Query) => ("self_attn", "q_proj"),
            (Spelling::Llama | Spelling::Phi, Key) => ("self_attn", "k_proj"),
            (Spelling::Llama | Spelling::Phi, Value) => ("self_attn", "v_proj"),
            (Spelling::Llama | Spelling::Phi3, Output) => ("self_attn", "o_proj"),
            (Spelling::Llama, Gate) => ("mlp", "gate_proj"),
            (Spelling::Llama, Up) => ("mlp", "up_proj"),
            (Spelling::Llama | Spelling::Phi3, Down) => ("mlp", "down_proj"),
        }
    }

    /// A matrix's rows in its module, if the module holds others too.
    fn rows(&self, projection: Projection) -> Option<Vec<Range<u64>>> {
        let (query, kv, wide) = (self.query_width(), self.kv_width(), self.intermediate_size);
        let ranges = |rows: Range<u64>| Some(Vec::from([rows]));
        match (projection, self.qkv) {
            (Projection::Gate, _) if self.gate_up_stacked => ranges(0..wide),
            (Projection::Up, _) if self.gate_up_stacked => ranges(wide..2 * wide),
            (Projection::Query, QkvRows::Stacked) => ranges(0..query),
            (Projection::Key, QkvRows::Stacked) => ranges(query..query + kv),
            (Projection::Value, QkvRows::Stacked) => ranges(query + kv..query + 2 * kv),
            (Projection::Query | Projection::Key | Projection::Value, QkvRows::ByKeyHead) => {
                let (group, head) = (self.heads / self.kv_heads, self.head_dim);
                let (skip, take) = match projection {
                    Projection::Query => (0, group),
                    Projection::Key => (group, 1),
                    Projection::Value
                    | Projection::Output
                    | Projection::Gate
                    | Projection::Up
                    | Projection::Down => (group + 1, 1),
                };
                let start = |n: u64| (n * (group + 2) + skip) * head;
                Some((0..self.kv_heads).map(|n| start(n)..start(n) + take * head).collect())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::LlamaSizes;

    fn sizes() -> LlamaSizes {
        LlamaSizes {
            vocab_size: 32,
            hidden_size: 8,
            intermediate_size: 16,
            layers: 1,
            heads: 4,
            kv_heads: 2,
            head_dim: 2,
        }
    }

    #[test]
    fn the_rows_of_a_shared_matrix_cover_it_once() {
        for qkv in [QkvRows::Stacked, QkvRows::ByKeyHead] {
            let config = ModelConfig { qkv, family: Family::Phi3, ..ModelConfig::llama(sizes()) };
            let mut rows: Vec<u64> = Vec::new();
            for layer in config.layers_of_module(LayerName::Block(0, Projection::Key)) {
                rows.extend(config.place(layer).rows.unwrap().into_iter().flatten());
            }
            rows.sort_unstable();
            assert_eq!(rows, (0..16).collect::<Vec<u64>>(), "{qkv:?}");
        }
    }

    #[test]
    fn a_matrix_by_key_head_has_each_heads_queries_before_its_key() {
        let config = ModelConfig { qkv: QkvRows::ByKeyHead, ..ModelConfig::llama(sizes()) };
        let rows = |projection| config.place(LayerName::Block(0, projection)).rows.unwrap();
        assert_eq!(rows(Projection::Query), [0..4, 8..12]);
        assert_eq!(rows(Projection::Key), [4..6, 12..14]);
        assert_eq!(rows(Projection::Value), [6..8, 14..16]);
    }
}
