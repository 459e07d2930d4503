//! What an adapter in a store consists of.

use serde::{Deserialize, Serialize};

use crate::job::Digest;

/// The weights of an adapter in PEFT's format.
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";

/// The files of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) files: Vec<ManifestFile>,
}

/// A file of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestFile {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: Digest,
}

impl Manifest {
    /// A manifest from its text. Error: it cannot be parsed, a name would leave the folder, or it lists other weights.
    pub(super) fn parse(text: &[u8], weights: Digest) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        for (at, file) in manifest.files.iter().enumerate() {
            if !is_file_name(&file.name) {
                return Err(format!("{:?} is not a file name", file.name));
            }
            if manifest.files[..at].iter().any(|other| other.name == file.name) {
                return Err(format!("{} is named twice", file.name));
            }
        }
        let named = manifest.files.iter().find(|file| file.name == WEIGHTS).map(|file| file.sha256);
        if named == Some(weights) { Ok(manifest) } else { Err("it is of other weights".to_owned()) }
    }
}

/// Whether a name means a file of the folder that it is put into.
pub(super) fn is_file_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !name.is_empty() && !name.starts_with('.') && name.len() <= 200 && name.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_files_of_its_folder_once_and_the_weights_that_were_asked_for() {
        let weights = Digest::of(b"weights");
        let file =
            |name: &str, digest: Digest| format!(r#"{{"name":{name:?},"bytes":7,"sha256":"{digest}"}}"#);
        let parse = |files: &[String]| {
            Manifest::parse(format!(r#"{{"files":[{}]}}"#, files.join(",")).as_bytes(), weights)
        };
        assert_eq!(parse(&[file(WEIGHTS, weights)]).unwrap().files.len(), 1);
        for (files, why) in [
            (vec![], "other weights"),
            (vec![file(WEIGHTS, Digest::of(b"others"))], "other weights"),
            (vec![file(WEIGHTS, weights), file("../../.bashrc", weights)], "not a file name"),
            (vec![file(WEIGHTS, weights), file("/etc/passwd", weights)], "not a file name"),
            (vec![file(WEIGHTS, weights), file(WEIGHTS, weights)], "named twice"),
        ] {
            let error = parse(&files).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(Manifest::parse(b"{}", weights).is_err());
    }
}
