//! What is in a store, for limits and for tidying up.

use std::collections::BTreeMap;

use super::error::ArtifactError;
use super::store::ArtifactStore;
use crate::job::{Bytes, Digest};

/// An adapter in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterArtifact {
    /// The digest of its training key.
    pub subject: String,
    /// The SHA-256 of its weights.
    pub weights: String,
    /// Size of its files.
    pub size: Bytes,
    /// When a file of it was last written, in milliseconds since 1970.
    pub written_ms: i64,
}

/// Sizes of what is in a store, in bytes by subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArtifactSizes {
    /// Of adapters.
    pub adapters: BTreeMap<String, u64>,
    /// Of checkpoints.
    pub checkpoints: BTreeMap<String, u64>,
}

impl ArtifactStore {
    /// The adapters in it. Objects with other names are nobody's here. Error: the store's.
    pub async fn adapters(&self) -> Result<Vec<AdapterArtifact>, ArtifactError> {
        let mut found: BTreeMap<(String, String), AdapterArtifact> = BTreeMap::new();
        for object in self.objects_in(&self.name(&["adapters"])).await? {
            let parts: Vec<String> = object.location.parts().map(|part| part.as_ref().to_owned()).collect();
            let [.., subject, weights, _] = parts.as_slice() else { continue };
            if [subject, weights].iter().any(|part| Digest::parse(part).is_none()) {
                continue;
            }
            let adapter =
                found.entry((subject.clone(), weights.clone())).or_insert_with(|| AdapterArtifact {
                    subject: subject.clone(),
                    weights: weights.clone(),
                    size: Bytes(0),
                    written_ms: 0,
                });
            adapter.size.0 += object.size;
            adapter.written_ms = adapter.written_ms.max(object.last_modified.timestamp_millis());
        }
        Ok(found.into_values().collect())
    }

    /// How much there is of every subject. Error: the store's.
    pub async fn sizes(&self) -> Result<ArtifactSizes, ArtifactError> {
        let mut sizes = ArtifactSizes::default();
        for adapter in self.adapters().await? {
            *sizes.adapters.entry(adapter.subject).or_default() += adapter.size.0;
        }
        for object in self.objects_in(&self.name(&["checkpoints"])).await? {
            let parts: Vec<String> = object.location.parts().map(|part| part.as_ref().to_owned()).collect();
            if let [.., subject, _] = parts.as_slice() {
                *sizes.checkpoints.entry(subject.clone()).or_default() += object.size;
            }
        }
        Ok(sizes)
    }
}
