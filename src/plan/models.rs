//! The models of a sweep.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::context::{PlanContext, PlanStage};
use super::error::PlanError;
use super::expand::expand;
use crate::hub::RepositoryId;
use crate::job::{Digest, ModelIdentity, Value, canonical_json};
use crate::orders::ModelLocation;
use crate::pretrained::{
    Checkpoint, CheckpointError, FileDigests, FileStamp, ModelConfig, ModelTokenizer, TokenizerError,
    find_known, read_config,
};
use crate::sweep_file::{SpecError, SweepSpec};

/// A model of a sweep: on this machine, or known only by its published shape.
#[derive(Debug)]
pub struct PlannedModel {
    /// Its name in the sweep file.
    pub name: String,
    /// Its shape.
    pub config: ModelConfig,
    /// All its parameters.
    pub parameters: u64,
    /// Its identity; from the name only, if it is not on this machine.
    pub identity: ModelIdentity,
    /// Where it is searched.
    pub location: ModelLocation,
    /// Its files, if they are on this machine.
    pub local: Option<LocalModel>,
    /// Remarks about its files.
    pub notes: Vec<String>,
}

/// A model on this machine.
#[derive(Debug)]
pub struct LocalModel {
    /// A GGUF file or a checkpoint folder.
    pub path: PathBuf,
    /// Its tokenizer.
    pub tokenizer: ModelTokenizer,
    /// Its identity when it was planned.
    identity: ModelIdentity,
    /// Its files at planning, or when they were last verified.
    files: RefCell<Vec<(PathBuf, FileStamp)>>,
}

/// Why a model cannot be opened.
#[derive(Debug, Error)]
pub enum OpenModelError {
    /// Its files.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// The state of a model's files compared with the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelFiles {
    /// They are unchanged.
    Same,
    /// They cannot be read at the moment.
    Away(PathBuf),
    /// Their content changed.
    Changed(PathBuf),
}

impl LocalModel {
    /// Opens a model, with its shape and remarks about its files. Errors: unreadable, unsupported, no tokenizer.
    pub fn open(
        path: PathBuf,
        digests: &mut dyn FileDigests,
    ) -> Result<(Self, ModelConfig, Vec<String>), OpenModelError> {
        let checkpoint = Checkpoint::open(&path)?;
        let io = |source| CheckpointError::Io { path: path.clone(), source };
        // Taken before the content is read, so that no later change is missed.
        let files = checkpoint.stamps().map_err(io)?;
        let tokenizer = ModelTokenizer::open(&checkpoint)?;
        let identity = checkpoint.identity(&tokenizer, digests)?;
        let notes = [checkpoint.notes(), tokenizer.notes()].concat();
        let config = checkpoint.config().clone();
        Ok((Self { tokenizer, path, identity, files: RefCell::new(files) }, config, notes))
    }

    /// Its identity when it was opened.
    pub fn identity(&self) -> ModelIdentity {
        self.identity
    }

    /// Whether its files are unchanged since planning. Touched or copied files are read again: only their content counts.
    pub fn check_files(&self) -> ModelFiles {
        let changed = self.files.borrow().iter().find_map(|(path, stamp)| match FileStamp::of(path) {
            Ok(now) if now == *stamp => None,
            Ok(_) => Some((path.clone(), true)),
            Err(_) => Some((path.clone(), false)),
        });
        match changed {
            None => ModelFiles::Same,
            Some((path, false)) => ModelFiles::Away(path),
            Some((path, true)) => match self.read_again() {
                Ok((identity, files)) if identity == self.identity => {
                    *self.files.borrow_mut() = files;
                    ModelFiles::Same
                }
                Ok(_) => ModelFiles::Changed(path),
                Err(CheckpointError::Io { path, .. } | CheckpointError::Missing { path }) => {
                    ModelFiles::Away(path)
                }
                Err(_) => ModelFiles::Changed(path),
            },
        }
    }

    fn read_again(&self) -> Result<(ModelIdentity, Vec<(PathBuf, FileStamp)>), CheckpointError> {
        let checkpoint = Checkpoint::open(&self.path)?;
        let io = |source| CheckpointError::Io { path: self.path.clone(), source };
        let files = checkpoint.stamps().map_err(io)?;
        let tokenizer = ModelTokenizer::open(&checkpoint).map_err(|error| CheckpointError::Malformed {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        Ok((checkpoint.identity(&tokenizer, &mut Content)?, files))
    }
}

/// Digests of the current content of files.
struct Content;

impl FileDigests for Content {
    fn digest(&mut self, path: &Path) -> std::io::Result<Digest> {
        Digest::of_reader(&mut std::fs::File::open(path)?)
    }
}

impl PlannedModel {
    /// The model named in a sweep file: a path relative to `folder`, of which `config.json` alone is enough for a plan, or a hub id of
    /// the catalogue. Errors: unreadable, unsupported, neither on this machine nor known.
    pub(super) fn find(
        name: &str,
        revision: Option<&str>,
        folder: &Path,
        context: &mut PlanContext<'_>,
    ) -> Result<Self, PlanError> {
        (context.watch)(PlanStage::Model { name: name.to_owned() });
        let mut path = folder.join(name);
        let mut location = ModelLocation::Path(std::path::absolute(&path).unwrap_or_else(|_| path.clone()));
        let id = RepositoryId::new(name, revision.unwrap_or("main"));
        let pulled = || context.models.find(id.as_ref()?);
        if !path.exists()
            && let Some(snapshot) = pulled()
        {
            path = snapshot;
            let revision = revision.unwrap_or("main").to_owned();
            location = ModelLocation::Hub { name: name.to_owned(), revision };
        }
        if path.join("config.json").is_file() && !has_weights(&path) {
            let (config, notes) = read_config(&path)?;
            let identity = Digest::of(format!("shape {}", canonical_json(&config)).as_bytes());
            return Ok(Self {
                name: name.to_owned(),
                parameters: config.parameters(),
                config,
                identity: ModelIdentity(identity),
                location,
                local: None,
                notes,
            });
        }
        if path.exists() {
            let (local, config, notes) = LocalModel::open(path, context.digests)?;
            return Ok(Self {
                name: name.to_owned(),
                parameters: config.parameters(),
                identity: local.identity,
                config,
                notes,
                location,
                local: Some(local),
            });
        }
        let known = find_known(name).ok_or_else(|| match id {
            Some(_) if name.contains('/') => PlanError::NotPulled { name: name.to_owned() },
            _ => CheckpointError::Missing { path }.into(),
        })?;
        let identity = Digest::of(format!("hub {name}@{}", revision.unwrap_or("main")).as_bytes());
        Ok(Self {
            name: name.to_owned(),
            parameters: known.config.parameters(),
            config: known.config,
            identity: ModelIdentity(identity),
            location,
            local: None,
            notes: Vec::new(),
        })
    }

    /// The last component of its name, without an extension.
    pub fn short_name(&self) -> &str {
        let last = self.name.trim_end_matches('/').rsplit('/').next().unwrap_or(&self.name);
        last.strip_suffix(".gguf").unwrap_or(last)
    }
}

/// The hub ids that a sweep lists as models or references and that no path shadows. Errors: as [`expand`].
pub fn hub_models(spec: &SweepSpec) -> Result<BTreeSet<RepositoryId>, SpecError> {
    let folder = spec.folder();
    let mut named: BTreeSet<(String, Option<String>)> = BTreeSet::new();
    let text = |value: Option<&Value>| value.and_then(Value::as_text).map(str::to_owned);
    for cell in expand(spec)?.cells {
        named.extend(text(cell.value("model")).map(|model| (model, text(cell.value("revision")))));
    }
    if let Some(Value::List(references)) = spec.settings.value("reference") {
        named.extend(references.iter().filter_map(|name| Some((text(Some(name))?, None))));
    }
    // A name without an organization is more often a missing folder than a hub model.
    let from_hub = named.into_iter().filter(|(name, _)| name.contains('/') && !folder.join(name).exists());
    Ok(from_hub.filter_map(|(name, at)| RepositoryId::new(&name, at.as_deref().unwrap_or("main"))).collect())
}

/// Whether a folder has safetensors files or an index of them.
fn has_weights(folder: &Path) -> bool {
    ["model.safetensors", "model.safetensors.index.json"].iter().any(|file| folder.join(file).is_file())
}
