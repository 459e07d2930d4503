//! One door to both kinds of checkpoint.

use std::path::{Path, PathBuf};

use half::bf16;

use super::architecture::ModelConfig;
use super::error::CheckpointError;
use super::folder;
use super::gguf::{Gguf, MetaValue};
use super::names::{LayerName, Projection};
use super::safetensors_file::SafetensorsFile;
use super::tensor::{Elements, TensorData, TensorInfo};
use crate::job::{Digest, ModelIdentity, canonical_json};

/// An open checkpoint with a configuration that its tensors obey.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: ModelConfig,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Gguf(Gguf),
    Folder(Vec<SafetensorsFile>),
}

/// Gives the SHA-256 of a file, from memory where it is known. Error: the system's.
pub trait FileDigests {
    /// The digest of the file's content.
    fn digest(&mut self, path: &Path) -> std::io::Result<Digest>;
}

impl Checkpoint {
    /// Opens a `.gguf` file or a Hugging Face folder and checks that every tensor is there in its shape. Nothing of
    /// the weights is read. Errors: see [`CheckpointError`].
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let (config, source) = if path.is_dir() {
            (folder::read_config(path)?, Source::Folder(folder::open_files(path)?))
        } else if path.is_file() {
            if path.extension().is_some_and(|e| e == "bin" || e == "pt" || e == "pth" || e == "ckpt") {
                let name = "pickle".to_owned();
                return Err(CheckpointError::Unsupported { path: path.to_owned(), what: "format", name });
            }
            let gguf = Gguf::open(path)?;
            (gguf_config(&gguf)?, Source::Gguf(gguf))
        } else {
            return Err(CheckpointError::Missing { path: path.to_owned() });
        };
        let checkpoint = Self { path: path.to_owned(), config, source };
        checkpoint.check_shapes()?;
        Ok(checkpoint)
    }

    /// The path it was opened at.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The GGUF file, if it is one.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.source {
            Source::Gguf(gguf) => Some(gguf),
            Source::Folder(_) => None,
        }
    }

    /// Every tensor of the model in Hugging Face's names, in forward order.
    pub fn tensors(&self) -> Result<Vec<TensorInfo>, CheckpointError> {
        self.config.tensors().into_iter().map(|name| self.info(name)).collect()
    }

    /// Bytes of the files.
    pub fn size(&self) -> u64 {
        self.files().iter().filter_map(|file| std::fs::metadata(file).ok()).map(|meta| meta.len()).sum()
    }

    /// A tensor of the model. Elements of a GGUF file are dequantised in f32 and rounded once to bf16, which is the
    /// checkpoint that transformers would write from it; other elements are as stored.
    pub fn read(&self, name: LayerName) -> Result<TensorData, CheckpointError> {
        match &self.source {
            Source::Gguf(gguf) => self.read_gguf(gguf, name),
            Source::Folder(files) => {
                let weight = name.weight();
                let file = files.iter().find(|file| file.contains(&weight));
                file.ok_or_else(|| self.no_tensor(weight.clone()))?.read(&weight)
            }
        }
    }

    /// What the model is, to the bit: its configuration, its tensors' names, shapes and types, and its files'
    /// content. Error: a file that cannot be read.
    pub fn identity(&self, digests: &mut dyn FileDigests) -> Result<ModelIdentity, CheckpointError> {
        let mut files = Vec::new();
        for path in self.files() {
            let io = |source| CheckpointError::Io { path: path.clone(), source };
            let size = std::fs::metadata(&path).map_err(io)?.len();
            files.push((size, digests.digest(&path).map_err(io)?));
        }
        let tensors: Vec<_> =
            self.tensors()?.into_iter().map(|info| (info.name, info.shape, info.stored_as)).collect();
        let text = canonical_json(&(&self.config, tensors, files));
        Ok(ModelIdentity(Digest::of(text.as_bytes())))
    }

    /// The files that hold weights or the tokenizer.
    fn files(&self) -> Vec<PathBuf> {
        match &self.source {
            Source::Gguf(gguf) => vec![gguf.path().to_owned()],
            Source::Folder(files) => {
                let tokenizer = self.path.join("tokenizer.json");
                let weights = files.iter().map(|file| file.path().to_owned());
                weights.chain(tokenizer.is_file().then_some(tokenizer)).collect()
            }
        }
    }

    fn info(&self, name: LayerName) -> Result<TensorInfo, CheckpointError> {
        let weight = name.weight();
        match &self.source {
            Source::Gguf(gguf) => {
                let tensor = gguf.tensors().get(&name.gguf_weight());
                let tensor = tensor.ok_or_else(|| self.no_tensor(name.gguf_weight()))?;
                let stored_as = tensor.block_type.to_string();
                Ok(TensorInfo { name: weight, shape: tensor.shape.clone(), stored_as })
            }
            Source::Folder(files) => {
                let mut all = files.iter().flat_map(SafetensorsFile::tensors);
                all.find(|info| info.name == weight).ok_or_else(|| self.no_tensor(weight))
            }
        }
    }

    fn no_tensor(&self, name: String) -> CheckpointError {
        CheckpointError::NoTensor { path: self.path.clone(), name }
    }

    fn check_shapes(&self) -> Result<(), CheckpointError> {
        for name in self.config.tensors() {
            let (found, expected) = (self.info(name)?.shape, self.config.shape(name));
            if found != expected {
                return Err(CheckpointError::Shape {
                    path: self.path.clone(),
                    name: name.weight(),
                    found,
                    expected,
                });
            }
        }
        Ok(())
    }

    fn read_gguf(&self, gguf: &Gguf, name: LayerName) -> Result<TensorData, CheckpointError> {
        let (tensor, mut values) = gguf.dequantise(&name.gguf_weight())?;
        let heads = match name {
            LayerName::Block(_, Projection::Query) => Some(self.config.heads),
            LayerName::Block(_, Projection::Key) => Some(self.config.kv_heads),
            _ => None,
        };
        if let Some(heads) = heads {
            values = halves_from_pairs(&values, heads as usize, self.config.head_dim as usize);
        }
        let elements = Elements::Bf16(values.into_iter().map(bf16::from_f32).collect());
        Ok(TensorData { shape: tensor.shape, elements })
    }
}

/// GGUF's llama files order the rows of a head so that rotary pairs are neighbours (0, d/2, 1, d/2+1, …); Hugging
/// Face keeps the two halves apart. `values` is `[heads × head_dim, in]`.
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

/// The configuration that a GGUF file's metadata states. Errors: another architecture, a missing key.
fn gguf_config(gguf: &Gguf) -> Result<ModelConfig, CheckpointError> {
    let path = gguf.path().to_owned();
    let architecture = match gguf.meta("general.architecture") {
        Some(MetaValue::Text(name)) => name.as_str(),
        _ => "none named",
    };
    if architecture != "llama" {
        let name = architecture.to_owned();
        return Err(CheckpointError::Unsupported { path, what: "architecture", name });
    }
    let malformed = |reason: String| CheckpointError::Malformed { path: path.clone(), reason };
    let optional = |key: &str| match gguf.meta(&format!("llama.{key}")) {
        Some(MetaValue::Integer(n)) => u64::try_from(*n).ok(),
        _ => None,
    };
    let integer =
        |key: &str| optional(key).ok_or_else(|| malformed(format!("metadata 'llama.{key}' is missing")));
    let float = |key: &str| match gguf.meta(&format!("llama.{key}")) {
        Some(MetaValue::Float(x)) => Some(*x),
        _ => None,
    };
    if gguf.tensors().contains_key("rope_freqs.weight") {
        let name = "rope_freqs".to_owned();
        return Err(CheckpointError::Unsupported { path: path.clone(), what: "rotary scaling", name });
    }
    let embedding = gguf.tensors().get("token_embd.weight").ok_or_else(|| CheckpointError::NoTensor {
        path: path.clone(),
        name: "token_embd.weight".to_owned(),
    })?;
    let (hidden_size, heads) = (integer("embedding_length")?, integer("attention.head_count")?);
    let config = ModelConfig {
        vocab_size: embedding.shape.first().copied().unwrap_or_default(),
        hidden_size,
        intermediate_size: integer("feed_forward_length")?,
        layers: integer("block_count")?,
        heads,
        kv_heads: optional("attention.head_count_kv").unwrap_or(heads),
        head_dim: optional("attention.key_length")
            .unwrap_or_else(|| hidden_size.checked_div(heads).unwrap_or_default()),
        norm_eps: float("attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
        rope_theta: float("rope.freq_base").unwrap_or(1e4),
        max_positions: integer("context_length")?,
        tied_head: !gguf.tensors().contains_key("output.weight"),
    };
    config.contradiction().map_or(Ok(config), |reason| Err(malformed(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_become_halves_within_each_head() {
        let rows: Vec<f32> = (0..8).map(|n| n as f32).collect(); // two heads of four rows, width 1
        assert_eq!(halves_from_pairs(&rows, 2, 4), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn a_pickle_is_refused_by_name() {
        let file = tempfile::Builder::new().suffix(".bin").tempfile().unwrap();
        let error = Checkpoint::open(file.path()).unwrap_err();
        assert!(
            matches!(error, CheckpointError::Unsupported { ref name, .. } if name == "pickle"),
            "{error}"
        );
    }
}
