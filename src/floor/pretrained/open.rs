//! One entry point for both kinds of checkpoint.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::architecture::ModelConfig;
use super::bnb::{self, StoredFourBit};
use super::config_json::read_config;
use super::error::CheckpointError;
use super::folder;
use super::gguf::Gguf;
use super::gguf_config::{ROPE_FREQUENCIES, as_hugging_face, gguf_config, gguf_name};
use super::names::{LayerName, Part};
use super::safetensors_file::SafetensorsFile;
use super::stamp::FileStamp;
use super::tensor::{Elements, TensorData, TensorInfo};
use super::tokenizer::{ModelTokenizer, TOKENIZER_FILES};
use crate::job::{Digest, ModelIdentity, canonical_json};

/// An open checkpoint whose tensors match its configuration.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: ModelConfig,
    source: Source,
    notes: Vec<String>,
}

#[derive(Debug)]
enum Source {
    Gguf(Gguf),
    Folder(Vec<SafetensorsFile>),
}

/// A tensor as stored in a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// Numbers.
    Dense(TensorData),
    /// 4-bit codes made by bitsandbytes.
    FourBit(StoredFourBit),
}

/// Returns a file's SHA-256, cached if known. Error: I/O.
pub trait FileDigests {
    /// The digest of the file's content.
    fn digest(&mut self, path: &Path) -> std::io::Result<Digest>;
}

impl Checkpoint {
    /// Opens a `.gguf` file or a Hugging Face folder. Checks that every tensor exists with its shape and a supported
    /// type, and that every other tensor is known to be unused. No weights are read, except a head and embedding stored
    /// twice although tied. Errors: see [`CheckpointError`].
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let (config, mut notes, source) = if path.is_dir() {
            let (config, notes) = read_config(path)?;
            (config, notes, Source::Folder(folder::open_files(path)?))
        } else if path.is_file() {
            if path.extension().is_some_and(|e| e == "bin" || e == "pt" || e == "pth" || e == "ckpt") {
                let name = "pickle".to_owned();
                return Err(CheckpointError::Unsupported { path: path.to_owned(), what: "format", name });
            }
            let gguf = Gguf::open(path)?;
            gguf.check_whole()?;
            (gguf_config(&gguf)?, Vec::new(), Source::Gguf(gguf))
        } else {
            return Err(CheckpointError::Missing { path: path.to_owned() });
        };
        notes.sort();
        let mut checkpoint = Self { path: path.to_owned(), config, source, notes };
        checkpoint.settle_head()?;
        checkpoint.check_tensors()?;
        checkpoint.account_for_tensors()?;
        Ok(checkpoint)
    }

    /// Warnings about the files: unused keys and tensors, a wrong flag.
    pub fn notes(&self) -> &[String] {
        &self.notes
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

    /// Every stored tensor that the model uses, with Hugging Face's names, in forward order; a matrix shared by several
    /// layers is listed once.
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

    /// Total size of the files in bytes.
    pub fn size(&self) -> u64 {
        self.files().iter().filter_map(|file| std::fs::metadata(file).ok()).map(|meta| meta.len()).sum()
    }

    /// A stored tensor of the model; a layer that shares its matrix gets its own rows. GGUF elements are dequantized in
    /// f32 and not rounded. Errors: absent, of an unsupported type.
    pub fn read(&self, name: LayerName, part: Part) -> Result<Stored, CheckpointError> {
        match &self.source {
            Source::Gguf(gguf) => {
                let (tensor, values) = gguf.dequantize(&gguf_name(name, part))?;
                let values = match part {
                    Part::Weight => as_hugging_face(&self.config, name, values),
                    Part::Bias => values,
                };
                Ok(Stored::Dense(TensorData { shape: tensor.shape, elements: Elements::F32(values) }))
            }
            Source::Folder(_) => {
                let (file, tensor) = self.find(name, part)?;
                let place = self.config.place(name);
                match (self.read_module(file, name, part, &tensor)?, &place.rows) {
                    (Stored::FourBit(whole), Some(rows)) => {
                        Ok(Stored::FourBit(whole.rows(rows, file.path())?))
                    }
                    (Stored::Dense(whole), Some(rows)) => Ok(Stored::Dense(whole.rows(rows))),
                    (whole, None) => Ok(whole),
                }
            }
        }
    }

    /// The whole matrix of a module shared by several layers, which is what bitsandbytes quantizes. None: the layer has
    /// its own matrix. Errors: as [`Self::read`].
    pub fn read_shared(&self, name: LayerName) -> Result<Option<Stored>, CheckpointError> {
        if self.gguf().is_some() || self.config.place(name).rows.is_none() {
            return Ok(None);
        }
        let (file, tensor) = self.find(name, Part::Weight)?;
        self.read_module(file, name, Part::Weight, &tensor).map(Some)
    }

    fn read_module(
        &self,
        file: &SafetensorsFile,
        name: LayerName,
        part: Part,
        tensor: &str,
    ) -> Result<Stored, CheckpointError> {
        if part == Part::Weight && bnb::is_four_bit(file, tensor) {
            return bnb::read(file, tensor, &self.module_shape(name)).map(Stored::FourBit);
        }
        let whole = file.read(tensor)?;
        file.release(tensor);
        Ok(Stored::Dense(whole))
    }

    /// The model's exact identity: configuration, tensor names, shapes and types, file contents, and the tokenizer's
    /// other files. Error: a file that cannot be read.
    pub fn identity(
        &self,
        tokenizer: &ModelTokenizer,
        digests: &mut dyn FileDigests,
    ) -> Result<ModelIdentity, CheckpointError> {
        let mut files = Vec::new();
        for path in self.files() {
            let io = |source| CheckpointError::Io { path: path.clone(), source };
            let size = std::fs::metadata(&path).map_err(io)?.len();
            files.push((size, digests.digest(&path).map_err(io)?));
        }
        let tensors: Vec<_> =
            self.tensors()?.into_iter().map(|info| (info.name, info.shape, info.stored_as)).collect();
        let text = canonical_json(&(&self.config, tensors, files, tokenizer.facts()));
        Ok(ModelIdentity(Digest::of(text.as_bytes())))
    }

    /// The model's files, with stamps to detect changes. Error: I/O.
    pub fn stamps(&self) -> std::io::Result<Vec<(PathBuf, FileStamp)>> {
        let mut files = self.files();
        if let Source::Folder(_) = &self.source {
            let beside = TOKENIZER_FILES.iter().map(|name| self.path.join(name));
            files.extend(beside.filter(|path| path.is_file()));
        }
        files.into_iter().map(|path| Ok((path.clone(), FileStamp::of(&path)?))).collect()
    }

    /// The files with weights or the tokenizer.
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

    /// The folder's file with a tensor, and the tensor's name in it.
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

    /// Shape of the matrix stored for a layer's module.
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

    /// Whether the head is tied to the embedding: as configured, unless a different head is stored.
    fn settle_head(&mut self) -> Result<(), CheckpointError> {
        let Source::Folder(files) = &self.source else { return Ok(()) };
        let stored = |name| {
            let tensor = format!("{}.weight", self.config.place(name).module);
            files.iter().find(|file| file.contains(&tensor)).map(|file| (file, tensor))
        };
        let (true, Some((file, head))) = (self.config.tied_head, stored(LayerName::Head)) else {
            return Ok(());
        };
        let Some((other, embedding)) = stored(LayerName::Embedding) else { return Ok(()) };
        if !bnb::is_four_bit(file, &head) && file.equals(&head, other, &embedding)? {
            return Ok(());
        }
        self.config.tied_head = false;
        self.notes.push(format!(
            "tie_word_embeddings is true and '{head}' is not the embedding; the stored head is used"
        ));
        Ok(())
    }

    fn check_tensors(&self) -> Result<(), CheckpointError> {
        for (name, part) in self.config.tensors() {
            let mut expected = match self.source {
                Source::Gguf(_) => self.config.shape(name),
                Source::Folder(_) => self.module_shape(name),
            };
            if part == Part::Bias {
                expected.truncate(1);
            }
            let TensorInfo { name: tensor, shape: found, .. } = self.info(name, part)?;
            if found != expected {
                return Err(CheckpointError::Shape {
                    path: self.path.clone(),
                    name: tensor,
                    found,
                    expected,
                });
            }
            if let Source::Folder(_) = self.source {
                let (file, tensor) = self.find(name, part)?;
                if part == Part::Weight && bnb::is_four_bit(file, &tensor) {
                    bnb::check(file, &tensor)?;
                } else {
                    file.check_readable(&tensor)?;
                }
            }
        }
        Ok(())
    }

    /// Every tensor is used, known to be unused, or reported. In a GGUF file an unused tensor is an error: these files
    /// store only what their model computes with.
    fn account_for_tensors(&mut self) -> Result<(), CheckpointError> {
        let used: BTreeSet<String> = self
            .config
            .tensors()
            .into_iter()
            .map(|(name, part)| match &self.source {
                Source::Gguf(_) => gguf_name(name, part),
                Source::Folder(_) => format!("{}.{}", self.config.place(name).module, part.suffix()),
            })
            .collect();
        let files = match &self.source {
            Source::Gguf(gguf) => {
                let stray =
                    gguf.tensors().keys().find(|name| !used.contains(*name) && *name != ROPE_FREQUENCIES);
                return stray.map_or(Ok(()), |name| {
                    Err(CheckpointError::UnusedTensor { path: self.path.clone(), name: name.clone() })
                });
            }
            Source::Folder(files) => files,
        };
        let head = format!("{}.weight", self.config.place(LayerName::Head).module);
        let names = files.iter().flat_map(SafetensorsFile::names);
        let mut stray: Vec<String> = names
            .filter(|name| !used.contains(name) && *name != head && !is_idle(name))
            .filter(|name| !bnb::weight_of(name).is_some_and(|weight| used.contains(weight)))
            .collect();
        stray.sort();
        if let Some(first) = stray.first() {
            let others =
                if stray.len() > 1 { format!(" and {} more", stray.len() - 1) } else { String::new() };
            self.notes.push(format!("tensors that the model does not use: '{first}'{others}"));
        }
        Ok(())
    }
}

/// Tensors derived from the configuration.
fn is_idle(name: &str) -> bool {
    const BUFFERS: [&str; 6] = [
        "rotary_emb.inv_freq",
        "rotary_emb.cos_cached",
        "rotary_emb.sin_cached",
        "attention.bias",
        "attention.masked_bias",
        "attn.masked_bias",
    ];
    BUFFERS.iter().any(|buffer| name.ends_with(buffer))
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
