//! What is scored: the base model, or an adapter in a folder.

use std::path::{Path, PathBuf};

use crate::cli::arguments::EvalArguments;
use crate::cli::failure::Failure;
use crate::job::{BaseForm, Digest, SubjectKey, canonical_json};
use crate::pretrained::{Checkpoint, FileDigests, ModelTokenizer};
use crate::workspace::require_adapter;

/// Files of an adapter that decide its scores.
const ADAPTER_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// What is scored.
pub(super) struct Subject {
    /// The adapter's folder; none for the base model.
    pub(super) adapter: Option<PathBuf>,
    /// What it is. A base model that is held as sweeps hold theirs is the same as in a sweep.
    pub(super) key: SubjectKey,
}

impl Subject {
    /// The base model, or each adapter. Error: files that cannot be read.
    pub(super) fn all(
        arguments: &EvalArguments,
        checkpoint: &Checkpoint,
        tokenizer: &ModelTokenizer,
        form: BaseForm,
        digests: &mut dyn FileDigests,
    ) -> Result<Vec<Self>, Failure> {
        let model = checkpoint.identity(tokenizer, digests)?;
        if arguments.adapter.is_empty() {
            let key = match (form.is_quantized(), arguments.exact) {
                (false, false) => SubjectKey::base(model, form.dtype),
                (_, exact) => other(&canonical_json(&(model, form)), exact),
            };
            return Ok(vec![Self { adapter: None, key }]);
        }
        let mut subjects = Vec::new();
        for folder in &arguments.adapter {
            let folder = std::path::absolute(folder)?;
            require_adapter(&folder)?;
            let files = adapter_files(&folder, digests)?;
            let key = other(&canonical_json(&(model, form, files)), arguments.exact);
            subjects.push(Self { adapter: Some(folder), key });
        }
        Ok(subjects)
    }
}

/// The key of what no sweep has.
fn other(text: &str, exact: bool) -> SubjectKey {
    SubjectKey::Base(Digest::of(format!("eval {exact} {text}").as_bytes()))
}

fn adapter_files(folder: &Path, digests: &mut dyn FileDigests) -> Result<Vec<Digest>, Failure> {
    let read = |name: &&str| Ok(digests.digest(&folder.join(name))?);
    ADAPTER_FILES.iter().map(read).collect()
}
