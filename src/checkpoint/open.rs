//! One door to both kinds of checkpoint.

use std::path::{Path, PathBuf};

use half::bf16;

use super::architecture::ModelConfig;
use super::bnb::{self, StoredFourBit};
use super::config_json::read_config;
use super::error::CheckpointError;
use super::folder;
use super::gguf::Gguf;
use super::gguf_config::{as_hugging_face, gguf_config, gguf_name};
use super::names::{LayerName, Part};
use super::safetensors_file::SafetensorsFile;
use super::stamp::FileStamp;
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

/// A tensor as a checkpoint has it.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// Numbers.
    Dense(TensorData),
    /// 4-bit codes that bitsandbytes made.
    FourBit(StoredFourBit),
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
            (read_config(path)?, Source::Folder(folder::open_files(path)?))
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

    /// Every stored tensor that the model uses, in Hugging Face's names and forward order; a matrix that several
    /// layers share is named once.
    pub fn tensors(&self) -> Result<Vec<TensorInfo>, CheckpointError> {
        let mut infos: Vec<TensorInfo> = Vec::new();
        for (name, part) in self.config.tensors() {
            let info = self.info(name, part)?;
            if !infos.iter().rev().take(8).any(|known| known.name == info.name) {
                infos.push(info);
            }
        }
        Ok(infos)
    }

    /// Bytes of the files.
    pub fn size(&self) -> u64 {
        self.files().iter().filter_map(|file| std::fs::metadata(file).ok()).map(|meta| meta.len()).sum()
    }

    /// A tensor of the model as it is stored; a layer that shares its matrix with others has its own rows. Elements of
    /// a GGUF file are dequantised in f32 and rounded once to bf16, which is the checkpoint that transformers would
    /// write from it. Errors: absent, of a type that is not read.
    pub fn read(&self, name: LayerName, part: Part) -> Result<Stored, CheckpointError> {
        match &self.source {
            Source::Gguf(gguf) => {
                let (tensor, values) = gguf.dequantise(&gguf_name(name, part))?;
                let values = match part {
                    Part::Weight => as_hugging_face(&self.config, name, values),
                    Part::Bias => values,
                };
                let elements = Elements::Bf16(values.into_iter().map(bf16::from_f32).collect());
                Ok(Stored::Dense(TensorData { shape: tensor.shape, elements }))
            }
            Source::Folder(_) => {
                let (file, tensor) = self.find(name, part)?;
                let place = self.config.place(name);
                if part == Part::Weight && bnb::is_four_bit(file, &tensor) {
                    let whole = bnb::read(file, &tensor, &self.module_shape(name))?;
                    return Ok(Stored::FourBit(match &place.rows {
                        Some(rows) => whole.rows(rows, file.path())?,
                        None => whole,
                    }));
                }
                let whole = file.read(&tensor)?;
                file.release(&tensor);
                Ok(Stored::Dense(match &place.rows {
                    Some(rows) => whole.rows(rows),
                    None => whole,
                }))
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

    /// The files that the model is read from, with what tells later that they are unchanged. Error: the system's.
    pub fn stamps(&self) -> std::io::Result<Vec<(PathBuf, FileStamp)>> {
        let mut files = self.files();
        if let Source::Folder(_) = &self.source {
            let beside = ["config.json", "tokenizer_config.json"].map(|name| self.path.join(name));
            files.extend(beside.into_iter().filter(|path| path.is_file()));
        }
        files.into_iter().map(|path| Ok((path.clone(), FileStamp::of(&path)?))).collect()
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

    /// The file of a folder that has a tensor, and the tensor's name.
    fn find(&self, name: LayerName, part: Part) -> Result<(&SafetensorsFile, String), CheckpointError> {
        let tensor = format!("{}.{}", self.config.place(name).module, part.suffix());
        let files = match &self.source {
            Source::Folder(files) => files.as_slice(),
            Source::Gguf(_) => &[],
        };
        match files.iter().find(|file| file.contains(&tensor)) {
            Some(file) => Ok((file, tensor)),
            None => Err(CheckpointError::NoTensor { path: self.path.clone(), name: tensor }),
        }
    }

    /// Shape of the matrix that a layer's module stores.
    fn module_shape(&self, name: LayerName) -> Vec<u64> {
        let mut shape = self.config.shape(name);
        if self.config.place(name).rows.is_some() {
            shape[0] = self.config.layers_of_module(name).into_iter().map(|n| self.config.shape(n)[0]).sum();
        }
        shape
    }

    fn info(&self, name: LayerName, part: Part) -> Result<TensorInfo, CheckpointError> {
        match &self.source {
            Source::Gguf(gguf) => {
                let stored = gguf_name(name, part);
                let tensor = gguf.tensors().get(&stored);
                let tensor = tensor.ok_or_else(|| CheckpointError::NoTensor {
                    path: self.path.clone(),
                    name: stored.clone(),
                })?;
                let name = format!("{}.{}", self.config.place(name).module, part.suffix());
                let stored_as = tensor.block_type.to_string();
                Ok(TensorInfo { name, shape: tensor.shape.clone(), stored_as })
            }
            Source::Folder(_) => {
                let (file, tensor) = self.find(name, part)?;
                if part == Part::Weight && bnb::is_four_bit(file, &tensor) {
                    let (shape, stored_as) = bnb::describe(file, &tensor)?;
                    return Ok(TensorInfo { name: tensor, shape, stored_as });
                }
                file.info(&tensor)
            }
        }
    }

    fn check_shapes(&self) -> Result<(), CheckpointError> {
        for (name, part) in self.config.tensors() {
            let mut expected = match self.source {
                Source::Gguf(_) => self.config.shape(name),
                Source::Folder(_) => self.module_shape(name),
            };
            if part == Part::Bias {
                expected.truncate(1);
            }
            let TensorInfo { name, shape: found, .. } = self.info(name, part)?;
            if found != expected {
                return Err(CheckpointError::Shape { path: self.path.clone(), name, found, expected });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
