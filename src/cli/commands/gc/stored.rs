//! What nothing needs in the object store of a server's database.

use std::collections::HashMap;
use std::time::SystemTime;

use super::YOUNG;
use crate::cli::failure::Failure;
use crate::job::Bytes;
use crate::store::{Store, StoreError};

/// An adapter, or checkpoints, that nothing needs.
pub(super) struct StoredGarbage {
    pub(super) address: String,
    subject: String,
    kind: Kind,
    pub(super) why: &'static str,
    pub(super) size: Bytes,
}

enum Kind {
    /// Its job no longer has an adapter.
    Gone {
        weights: String,
    },
    /// Its job has another adapter.
    Other {
        weights: String,
    },
    Checkpoints,
}

impl StoredGarbage {
    /// Removes it, unless somebody needs it by now. `false`: somebody does.
    pub(super) async fn remove(&self, store: &Store) -> Result<bool, Failure> {
        let Some(artifacts) = store.artifacts().store() else { return Ok(false) };
        let remove = async || match &self.kind {
            Kind::Gone { weights } | Kind::Other { weights } => {
                artifacts.remove_adapter_of(&self.subject, weights).await.map_err(StoreError::from)
            }
            Kind::Checkpoints => artifacts.remove_checkpoints(&self.subject).await.map_err(StoreError::from),
        };
        let takes_adapter = matches!(self.kind, Kind::Gone { .. });
        Ok(store.remove_unneeded(&self.subject, takes_adapter, remove).await?)
    }
}

/// What nothing needs; `unneeded`: the subjects whose jobs are not to run, and whether their adapters are gone.
pub(super) async fn candidates(
    store: &Store,
    unneeded: &HashMap<String, bool>,
) -> Result<Vec<StoredGarbage>, Failure> {
    let Some(artifacts) = store.artifacts().store() else { return Ok(Vec::new()) };
    let recorded = store.adapter_weights().await?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let young = i64::try_from(now.saturating_sub(YOUNG).as_millis()).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for adapter in artifacts.adapters().await.map_err(StoreError::from)? {
        let Some(is_gone) = unneeded.get(&adapter.subject) else { continue };
        let (subject, weights) = (adapter.subject, adapter.weights);
        let is_recorded = recorded.get(&subject) == Some(&weights);
        if adapter.written_ms > young || is_recorded && !is_gone {
            continue;
        }
        let address = format!("{}/adapters/{subject}/{weights}", artifacts.address());
        let (kind, why) = if *is_gone {
            (Kind::Gone { weights }, "removed by [keep], or no sweep needs it")
        } else {
            (Kind::Other { weights }, "of an attempt whose job another one ended")
        };
        found.push(StoredGarbage { address, subject, kind, why, size: adapter.size });
    }
    for (subject, size) in artifacts.sizes().await.map_err(StoreError::from)?.checkpoints {
        if unneeded.contains_key(&subject) {
            let address = format!("{}/checkpoints/{subject}", artifacts.address());
            let why = "checkpoints of an ended training";
            found.push(StoredGarbage { address, subject, kind: Kind::Checkpoints, why, size: Bytes(size) });
        }
    }
    Ok(found)
}
