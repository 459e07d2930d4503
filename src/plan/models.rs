//! The models of a sweep.

use std::path::{Path, PathBuf};

use super::error::PlanError;
use crate::checkpoint::{
    Checkpoint, CheckpointError, FileDigests, ModelConfig, ModelTokenizer, find_known, read_config,
};
use crate::job::{Digest, ModelIdentity, canonical_json};

/// A model of a sweep: on this machine, or only known by its published shape.
#[derive(Debug)]
pub struct PlannedModel {
    /// As the sweep file names it.
    pub name: String,
    /// Its shape.
    pub config: ModelConfig,
    /// All its parameters.
    pub parameters: u64,
    /// What it is; of a model that is not here, only its name.
    pub identity: ModelIdentity,
    /// Its files, if they are here.
    pub local: Option<LocalModel>,
}

/// A model on this machine.
#[derive(Debug)]
pub struct LocalModel {
    /// A GGUF file or a checkpoint folder.
    pub path: PathBuf,
    /// Its tokenizer.
    pub tokenizer: ModelTokenizer,
}

impl PlannedModel {
    /// The model that a sweep file names: a path relative to `folder`, of which `config.json` alone is enough for a plan,
    /// or a hub id of the catalogue. Errors: unreadable,
    /// unsupported, neither here nor known.
    pub(super) fn find(
        name: &str,
        revision: Option<&str>,
        folder: &Path,
        digests: &mut dyn FileDigests,
    ) -> Result<Self, PlanError> {
        let path = folder.join(name);
        if path.join("config.json").is_file() && !has_weights(&path) {
            let config = read_config(&path)?;
            let identity = Digest::of(format!("shape {}", canonical_json(&config)).as_bytes());
            return Ok(Self {
                name: name.to_owned(),
                parameters: config.parameters(),
                config,
                identity: ModelIdentity(identity),
                local: None,
            });
        }
        if path.exists() {
            let checkpoint = Checkpoint::open(&path)?;
            return Ok(Self {
                name: name.to_owned(),
                parameters: checkpoint.config().parameters(),
                identity: checkpoint.identity(digests)?,
                config: checkpoint.config().clone(),
                local: Some(LocalModel { tokenizer: ModelTokenizer::open(&checkpoint)?, path }),
            });
        }
        let known = find_known(name).ok_or(CheckpointError::Missing { path })?;
        let identity = Digest::of(format!("hub {name}@{}", revision.unwrap_or("main")).as_bytes());
        Ok(Self {
            name: name.to_owned(),
            parameters: known.config.parameters(),
            config: known.config,
            identity: ModelIdentity(identity),
            local: None,
        })
    }

    /// The last part of its name, without an ending.
    pub fn short_name(&self) -> &str {
        let last = self.name.trim_end_matches('/').rsplit('/').next().unwrap_or(&self.name);
        last.strip_suffix(".gguf").unwrap_or(last)
    }
}

/// Whether a folder has any safetensors or an index of them.
fn has_weights(folder: &Path) -> bool {
    ["model.safetensors", "model.safetensors.index.json"].iter().any(|file| folder.join(file).is_file())
}
