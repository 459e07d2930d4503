//! Model shape and tensor names of a GGUF file.

use std::path::Path;

use super::architecture::*;
use super::error::CheckpointError;
use super::gguf::{Gguf, MetaValue};
use super::names::{LayerName, NormPlace, Part, Projection};

/// The tensor of rotary frequency divisors.
pub(super) const ROPE_FREQUENCIES: &str = "rope_freqs.weight";

/// The configuration in a GGUF file's metadata. Errors: another architecture, a missing key, contradictory numbers.
pub(super) fn gguf_config(gguf: &Gguf) -> Result<ModelConfig, CheckpointError> {
    let path = gguf.path();
    let architecture = match gguf.meta("general.architecture") {
        Some(MetaValue::Text(name)) => name.as_str(),
        _ => "none named",
    };
    let family = match architecture {
        "llama" => Family::Llama,
        "qwen2" => Family::Qwen2,
        "qwen3" => Family::Qwen3,
        "gemma3" => Family::Gemma3Text,
        other => return Err(unsupported(path, "architecture", other)),
    };
    let keys = Keys { gguf, architecture };
    let mut config = keys.common(family)?;
    match family {
        Family::Qwen2 => config.biases.query_key_value = true,
        Family::Qwen3 => config.query_key_norm = QueryKeyNorm::EachHead,
        Family::Gemma3Text => keys.gemma3(&mut config),
        Family::Llama => {}
        // None of the architecture names above maps to these.
        Family::Mistral
        | Family::Phi
        | Family::Phi3
        | Family::Falcon
        | Family::GptNeox
        | Family::Gemma
        | Family::Gemma2
        | Family::Olmo2
        | Family::Smollm3 => return Err(unsupported(path, "architecture", architecture)),
    }
    config.contradiction().map_or(Ok(config), |reason| Err(malformed(path, reason)))
}

fn malformed(path: &Path, reason: String) -> CheckpointError {
    CheckpointError::Malformed { path: path.to_owned(), reason }
}

fn unsupported(path: &Path, what: &'static str, name: &str) -> CheckpointError {
    CheckpointError::Unsupported { path: path.to_owned(), what, name: name.to_owned() }
}

/// The metadata under an architecture's name.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn find(&self, key: &str) -> Option<&MetaValue> {
        self.gguf.meta(&format!("{}.{key}", self.architecture))
    }

    fn integer(&self, key: &str) -> Option<u64> {
        match self.find(key)? {
            MetaValue::Integer(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    fn float(&self, key: &str) -> Option<f64> {
        match self.find(key)? {
            MetaValue::Float(x) => Some(*x),
            _ => None,
        }
    }

    fn need(&self, key: &str) -> Result<u64, CheckpointError> {
        let missing =
            || malformed(self.gguf.path(), format!("metadata '{}.{key}' is missing", self.architecture));
        self.integer(key).ok_or_else(missing)
    }

    fn common(&self, family: Family) -> Result<ModelConfig, CheckpointError> {
        let gguf = self.gguf;
        let embedding = gguf.tensors().get("token_embd.weight").ok_or_else(|| CheckpointError::NoTensor {
            path: gguf.path().to_owned(),
            name: "token_embd.weight".to_owned(),
        })?;
        let (hidden_size, heads) = (self.need("embedding_length")?, self.need("attention.head_count")?);
        let layers = self.need("block_count")?;
        if layers > 1 << 16 {
            return Err(malformed(gguf.path(), format!("block_count is {layers}")));
        }
        let head_dim = hidden_size.checked_div(heads).unwrap_or_default();
        let mut config = ModelConfig::llama(LlamaSizes {
            vocab_size: embedding.shape.first().copied().unwrap_or_default(),
            hidden_size,
            intermediate_size: self.need("feed_forward_length")?,
            layers,
            heads,
            kv_heads: self.integer("attention.head_count_kv").unwrap_or(heads),
            head_dim: self.integer("attention.key_length").unwrap_or(head_dim),
        });
        config.family = family;
        config.norm_eps = self.float("attention.layer_norm_rms_epsilon").unwrap_or(1e-5);
        config.max_positions = self.need("context_length")?;
        config.tied_head = !gguf.tensors().contains_key("output.weight");
        if let Some(turned) = self.integer("rope.dimension_count") {
            config.rotary_dim = turned;
        }
        config.ropes =
            vec![Rope { theta: self.float("rope.freq_base").unwrap_or(1e4), scaling: self.scaling()? }];
        Ok(config)
    }

    /// Frequency divisors as a tensor, or a factor in the metadata.
    fn scaling(&self) -> Result<RopeScaling, CheckpointError> {
        if self.gguf.tensors().contains_key(ROPE_FREQUENCIES) {
            let (_, divisors) = self.gguf.dequantize(ROPE_FREQUENCIES)?;
            return Ok(RopeScaling::Divisors { divisors });
        }
        let factor = self.float("rope.scaling.factor").or(self.float("rope.scale_linear"));
        match (self.find("rope.scaling.type"), factor) {
            (None, None) => Ok(RopeScaling::None),
            (None, Some(factor)) => Ok(RopeScaling::Linear { factor }),
            (Some(MetaValue::Text(kind)), factor) => match (kind.as_str(), factor) {
                ("none", _) => Ok(RopeScaling::None),
                ("linear", Some(factor)) => Ok(RopeScaling::Linear { factor }),
                (other, _) => Err(unsupported(self.gguf.path(), "rotary scaling", other)),
            },
            (Some(_), _) => Err(unsupported(self.gguf.path(), "rotary scaling", "of no text")),
        }
    }

    /// Defaults missing from Gemma 3 files: every sixth layer has full attention, the others have their own frequencies.
    fn gemma3(&self, config: &mut ModelConfig) {
        config.norm = Norm::RmsPlusOne;
        config.block = BlockForm::Sandwich;
        config.activation = Activation::GeluTanh;
        config.query_key_norm = QueryKeyNorm::EachHead;
        config.scaled_embedding = true;
        if self.float("rope.freq_base").is_none() {
            config.ropes[0].theta = 1e6;
        }
        let theta = self.float("rope.freq_base_swa").unwrap_or(1e4);
        config.ropes.push(Rope { theta, scaling: RopeScaling::None });
        let window = self.integer("attention.sliding_window").unwrap_or(1024);
        let every = self.integer("attention.sliding_window_pattern").unwrap_or(6).max(1) as usize;
        for (n, form) in config.layer_forms.iter_mut().enumerate() {
            let slides = !(n + 1).is_multiple_of(every);
            *form = LayerForm { window: slides.then_some(window), rope: Some(usize::from(slides)) };
        }
        // Only the 27B divides by hidden size / heads instead of the head width.
        if config.layers == 62 {
            config.attention_scale = 1.0 / (config.hidden_size as f64 / config.heads as f64).sqrt();
        }
    }
}

/// The tensor's name in a GGUF file.
pub(super) fn gguf_name(name: LayerName, part: Part) -> String {
    let layer = match name {
        LayerName::Embedding => "token_embd".to_owned(),
        LayerName::FinalNorm => "output_norm".to_owned(),
        LayerName::Head => "output".to_owned(),
        LayerName::Norm(n, place) => {
            let norm = match place {
                NormPlace::BeforeAttention => "attn_norm",
                NormPlace::AfterAttention => "post_attention_norm",
                NormPlace::BeforeMlp => "ffn_norm",
                NormPlace::AfterMlp => "post_ffw_norm",
                NormPlace::Query => "attn_q_norm",
                NormPlace::Key => "attn_k_norm",
            };
            format!("blk.{n}.{norm}")
        }
        LayerName::Block(n, projection) => {
            let matrix = match projection {
                Projection::Query => "attn_q",
                Projection::Key => "attn_k",
                Projection::Value => "attn_v",
                Projection::Output => "attn_output",
                Projection::Gate => "ffn_gate",
                Projection::Up => "ffn_up",
                Projection::Down => "ffn_down",
            };
            format!("blk.{n}.{matrix}")
        }
    };
    format!("{layer}.{}", part.suffix())
}

/// Elements as in transformers. Llama's query and key rows are stored with rotary pairs adjacent (0, d/2, 1, d/2+1, …);
/// Gemma's norms are stored with their 1 added.
pub(super) fn as_hugging_face(config: &ModelConfig, name: LayerName, mut values: Vec<f32>) -> Vec<f32> {
    let heads = match name {
        LayerName::Block(_, Projection::Query) => config.heads,
        LayerName::Block(_, Projection::Key) => config.kv_heads,
        LayerName::Norm(..) | LayerName::FinalNorm if config.norm == Norm::RmsPlusOne => {
            values.iter_mut().for_each(|x| *x -= 1.0);
            return values;
        }
        _ => return values,
    };
    if config.family != Family::Llama {
        return values;
    }
    halves_from_pairs(&values, heads as usize, config.head_dim as usize)
}

/// `values` is `[heads × head_dim, in]`.
fn halves_from_pairs(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    let width = values.len() / (heads * head_dim);
    let mut out = Vec::with_capacity(values.len());
    for head in 0..heads {
        for row in 0..head_dim {
            let (half, pair) = (row / (head_dim / 2), row % (head_dim / 2));
            let from = (head * head_dim + 2 * pair + half) * width;
            out.extend_from_slice(&values[from..from + width]);
        }
    }
    out
}

/// The other way: rows of halves as rotary pairs. `values` is `[heads × head_dim, in]`.
pub(super) fn pairs_from_halves(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    let width = values.len() / (heads * head_dim);
    let mut out = Vec::with_capacity(values.len());
    for head in 0..heads {
        for row in 0..head_dim {
            let (pair, half) = (row / 2, row % 2);
            let from = (head * head_dim + half * (head_dim / 2) + pair) * width;
            out.extend_from_slice(&values[from..from + width]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_become_halves_within_each_head() {
        let rows: Vec<f32> = (0..8).map(|n| n as f32).collect(); // two heads of four rows, width 1
        assert_eq!(halves_from_pairs(&rows, 2, 4), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(pairs_from_halves(&halves_from_pairs(&rows, 2, 4), 2, 4), rows);
    }
}
