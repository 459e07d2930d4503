//! Writing Hugging Face folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::config_json::describe;
use super::error::CheckpointError;
use super::open::Checkpoint;
use super::safetensors_file::write_tensors;
use super::tensor::TensorData;
use super::tokenizer::ModelTokenizer;

/// Bytes per weights file, which limits memory use.
const SHARD: u64 = 1 << 30;
/// Files copied from a folder besides its weights.
const COPIED: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
];

/// Writes weights one tensor at a time, into one file or several with an index.
#[derive(Debug)]
pub struct FolderWriter {
    folder: PathBuf,
    waiting: Vec<(String, TensorData)>,
    waiting_size: u64,
    /// Tensor names of each written file.
    written: Vec<Vec<String>>,
    size: u64,
}

impl FolderWriter {
    /// Creates the folder, or empties it if it exists. Error: I/O.
    pub fn create(folder: &Path) -> std::io::Result<Self> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            waiting: Vec::new(),
            waiting_size: 0,
            written: Vec::new(),
            size: 0,
        })
    }

    /// Adds a tensor. Error: I/O.
    pub fn add(&mut self, name: String, tensor: TensorData) -> std::io::Result<()> {
        self.waiting_size += tensor.size();
        self.waiting.push((name, tensor));
        if self.waiting_size >= SHARD { self.flush() } else { Ok(()) }
    }

    fn shard(&self, number: usize) -> PathBuf {
        self.folder.join(format!("model-{:05}.safetensors", number + 1))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        write_tensors(
            &self.shard(self.written.len()),
            &self.waiting,
            [("format".into(), "pt".into())].into(),
        )?;
        self.written.push(self.waiting.drain(..).map(|(name, _)| name).collect());
        self.size += std::mem::take(&mut self.waiting_size);
        Ok(())
    }

    /// Finishes the last file, renames all files to their final names and writes the index. Returns the total bytes of
    /// all tensors. Error: I/O.
    pub fn finish(mut self) -> std::io::Result<u64> {
        self.flush()?;
        let count = self.written.len();
        if count == 1 {
            std::fs::rename(self.shard(0), self.folder.join("model.safetensors"))?;
            return Ok(self.size);
        }
        let mut map = BTreeMap::new();
        for (number, names) in self.written.iter().enumerate() {
            let file = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
            std::fs::rename(self.shard(number), self.folder.join(&file))?;
            map.extend(names.iter().map(|name| (name.clone(), file.clone())));
        }
        let index = json!({ "metadata": { "total_size": self.size }, "weight_map": map });
        std::fs::write(self.folder.join("model.safetensors.index.json"), format!("{index:#}"))?;
        Ok(self.size)
    }
}

/// Writes a checkpoint's configuration and tokenizer into a folder with its unquantized weights, with a tied head if
/// `tied`. Error: I/O, a configuration that cannot be read.
pub fn write_model_files(checkpoint: &Checkpoint, folder: &Path, tied: bool) -> Result<(), CheckpointError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| CheckpointError::Io { path, source }
    };
    let mut config = match checkpoint.gguf() {
        Some(_) => describe(checkpoint.config()),
        None => {
            let path = checkpoint.path().join("config.json");
            let text = std::fs::read_to_string(&path).map_err(io(&path))?;
            serde_json::from_str(&text)
                .map_err(|e| CheckpointError::Malformed { path, reason: e.to_string() })?
        }
    };
    config["tie_word_embeddings"] = json!(tied);
    if config.as_object_mut().and_then(|map| map.remove("quantization_config")).is_some() {
        // Both dtype keys must match the written weights.
        for key in ["torch_dtype", "dtype"] {
            if key == "torch_dtype" || config.get(key).is_some() {
                config[key] = json!("bfloat16");
            }
        }
    }
    let path = folder.join("config.json");
    std::fs::write(&path, format!("{config:#}")).map_err(io(&path))?;
    if checkpoint.gguf().is_some() {
        return write_tokenizer(checkpoint, folder);
    }
    for name in COPIED {
        let from = checkpoint.path().join(name);
        if from.is_file() {
            std::fs::copy(&from, folder.join(name)).map_err(io(&from))?;
        }
    }
    Ok(())
}

/// A GGUF file's tokenizer in Hugging Face's format; none if it has no supported one.
fn write_tokenizer(checkpoint: &Checkpoint, folder: &Path) -> Result<(), CheckpointError> {
    let Ok(tokenizer) = ModelTokenizer::open(checkpoint) else { return Ok(()) };
    let token = |id: Option<u32>| id.and_then(|id| tokenizer.token(id)).map_or(Json::Null, Json::String);
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token(tokenizer.bos()),
        "eos_token": token(tokenizer.eos()),
        "chat_template": tokenizer.chat_template(false),
        "clean_up_tokenization_spaces": false,
    });
    let text = tokenizer.to_json().unwrap_or_default();
    for (name, text) in [("tokenizer.json", text), ("tokenizer_config.json", format!("{config:#}"))] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|source| CheckpointError::Io { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::{Elements, SafetensorsFile};

    #[test]
    fn many_tensors_become_several_files_with_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let mut writer = FolderWriter::create(&out).unwrap();
        for n in 0..3 {
            let tensor = TensorData { shape: vec![2], elements: Elements::F32(vec![n as f32; 2]) };
            writer.add(format!("t{n}"), tensor).unwrap();
            writer.flush().unwrap();
        }
        assert_eq!(writer.finish().unwrap(), 24);
        let index: Json =
            serde_json::from_str(&std::fs::read_to_string(out.join("model.safetensors.index.json")).unwrap())
                .unwrap();
        assert_eq!(index["weight_map"]["t2"], "model-00003-of-00003.safetensors");
        let file = SafetensorsFile::open(&out.join("model-00002-of-00003.safetensors")).unwrap();
        assert_eq!(file.read("t1").unwrap().elements, Elements::F32(vec![1.0; 2]));
    }
}
