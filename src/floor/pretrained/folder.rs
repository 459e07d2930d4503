//! The safetensors files of a Hugging Face folder: one, or several with an index. Other files are ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::CheckpointError;
use super::safetensors_file::SafetensorsFile;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The safetensors files of a folder: those in the index, or `model.safetensors`. Errors: none found, a shard missing
/// (named), an unreadable header.
pub(super) fn open_files(folder: &Path) -> Result<Vec<SafetensorsFile>, CheckpointError> {
    let index = folder.join("model.safetensors.index.json");
    let names: BTreeSet<String> = if index.is_file() {
        let text = std::fs::read_to_string(&index)
            .map_err(|source| CheckpointError::Io { path: index.clone(), source })?;
        let parsed: Index = serde_json::from_str(&text)
            .map_err(|e| CheckpointError::Malformed { path: index.clone(), reason: e.to_string() })?;
        parsed.weight_map.into_values().collect()
    } else {
        BTreeSet::from(["model.safetensors".to_owned()])
    };
    let open = |name: &String| {
        // A shard must be a file name in this folder, never a path out of it.
        let plain = Path::new(name).file_name().is_some_and(|file| file == name.as_str());
        let path: PathBuf = folder.join(name);
        if !plain {
            return Err(CheckpointError::Malformed {
                path: index.clone(),
                reason: format!("shard name '{name}'"),
            });
        }
        if !path.is_file() {
            return Err(CheckpointError::Missing { path });
        }
        SafetensorsFile::open(&path)
    };
    names.iter().map(open).collect()
}
