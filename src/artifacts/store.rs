//! An object store: what is put there and brought from there.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};

use super::address::ArtifactsAddress;
use super::error::ArtifactError;
use super::manifest::{Manifest, ManifestFile, WEIGHTS, is_file_name};
use super::transfer::{Copied, whole_files};
use crate::job::Digest;
use crate::pretrained::sync_parent;

/// The variable of AWS's programs that names another server than Amazon's.
const ENDPOINT: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
/// How long a store that does not answer is asked again, before the job is put back.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a request for a part may take, over a slow line.
const REQUEST: Duration = Duration::from_secs(120);
/// The ending of checkpoints.
const CHECKPOINT: &str = "checkpoint";

/// An object store. Clones share its connections.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) address: ArtifactsAddress,
    prefix: String,
}

impl ArtifactStore {
    /// A store, with the keys of the environment. Nothing is asked yet. Error: a folder that cannot be made, an endpoint that is no address.
    pub fn open(address: &ArtifactsAddress) -> Result<Self, ArtifactError> {
        let failed = |source| ArtifactError::Store { place: address.to_string(), source };
        let (store, prefix): (Arc<dyn ObjectStore>, _) = match address {
            ArtifactsAddress::Folder(folder) => {
                std::fs::create_dir_all(folder)
                    .map_err(|source| ArtifactError::File { path: folder.clone(), source })?;
                let store = LocalFileSystem::new_with_prefix(folder).map_err(failed)?;
                (Arc::new(store.with_fsync(true).with_automatic_cleanup(true)), String::new())
            }
            ArtifactsAddress::S3 { bucket, prefix } => {
                (Arc::new(s3(bucket).build().map_err(failed)?), prefix.clone())
            }
        };
        Ok(Self { store, address: address.clone(), prefix })
    }

    /// Its address.
    pub fn address(&self) -> &ArtifactsAddress {
        &self.address
    }

    pub(super) fn name(&self, parts: &[&str]) -> Name {
        Name::from_iter(self.prefix.split('/').filter(|part| !part.is_empty()).chain(parts.iter().copied()))
    }

    /// Puts inputs of orders from the cache where they are missing. Errors: the store's; a file that is not in the cache.
    pub async fn put_inputs<'n>(
        &self,
        cache: &Path,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), ArtifactError> {
        for file in names {
            let (path, name) = (cache.join(file), self.name(&["cache", file]));
            let here = std::fs::metadata(&path).map(|meta| meta.len());
            match self.store.head(&name).await {
                // The name says what is in it; another size is what a broken program left.
                Ok(there) if here.as_ref().map_or(true, |here| *here == there.size) => {}
                Ok(_) | Err(object_store::Error::NotFound { .. }) => drop(self.upload(&path, &name).await?),
                Err(source) => return Err(self.failed(&name, source)),
            }
        }
        Ok(())
    }

    /// Brings an input of an order into the cache. Whoever reads it checks it. Errors: the store's; it is not there.
    pub async fn bring_input(&self, cache: &Path, file: &str) -> Result<(), ArtifactError> {
        self.download(&self.name(&["cache", file]), &cache.join(file), |_| Ok(())).await
    }

    /// Puts the log of an attempt; `log`: its name below the folder of results. Errors: the store's.
    pub async fn put_log(&self, log: &str, path: &Path) -> Result<(), ArtifactError> {
        self.upload(path, &self.name(&log.split('/').collect::<Vec<_>>())).await.map(drop)
    }

    /// Brings the log of an attempt that ended elsewhere. Errors: the store's; it is not there.
    pub async fn bring_log(&self, log: &str, path: &Path) -> Result<(), ArtifactError> {
        self.download(&self.name(&log.split('/').collect::<Vec<_>>()), path, |_| Ok(())).await
    }

    /// Puts an adapter, and its manifest when all of it is there. Errors: the store's; other weights than these in the folder.
    pub async fn put_adapter(
        &self,
        subject: &str,
        weights: Digest,
        folder: &Path,
    ) -> Result<(), ArtifactError> {
        let name = |file: &str| self.name(&["adapters", subject, &weights.to_string(), file]);
        let mut files = Vec::new();
        for (file, path) in whole_files(folder)? {
            let copied = self.upload(&path, &name(&file)).await?;
            files.push(ManifestFile { name: file, bytes: copied.bytes, sha256: copied.sha256 });
        }
        let manifest = serde_json::to_vec(&Manifest { files }).unwrap_or_default();
        if Manifest::parse(&manifest, weights).is_err() {
            return Err(ArtifactError::OtherAdapter { folder: folder.to_owned() });
        }
        let manifest_name = name("manifest");
        let put = self.store.put(&manifest_name, manifest.into()).await;
        put.map(drop).map_err(|source| self.failed(&manifest_name, source))
    }

    /// Brings an adapter with these weights into its folder, unless it is there: every file with its SHA-256, on disk when this returns.
    /// Errors: the store's; it is not there; damage.
    pub async fn bring_adapter(
        &self,
        subject: &str,
        weights: Digest,
        folder: &Path,
    ) -> Result<(), ArtifactError> {
        if weights_here(folder).is_some_and(|here| here == weights) {
            return Ok(());
        }
        let name = |file: &str| self.name(&["adapters", subject, &weights.to_string(), file]);
        let manifest_name = name("manifest");
        let text = self.read_small(&manifest_name).await?;
        let manifest = Manifest::parse(&text, weights).map_err(|why| ArtifactError::Damaged {
            place: self.address.to_string(),
            name: manifest_name.to_string(),
            why,
        })?;
        let beside = folder.with_extension(format!("{}.partial", std::process::id()));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ArtifactError::File { path, source }
        };
        // What an earlier process of this number left.
        let _ = std::fs::remove_dir_all(&beside);
        std::fs::create_dir_all(&beside).map_err(failed(&beside))?;
        for ManifestFile { name: file, bytes, sha256 } in &manifest.files {
            let check = |copied: &Copied| {
                let is_same = copied.bytes == *bytes && copied.sha256 == *sha256;
                if is_same { Ok(()) } else { Err("its SHA-256 is not that of its manifest".to_owned()) }
            };
            if let Err(error) = self.download(&name(file), &beside.join(file), check).await {
                let _ = std::fs::remove_dir_all(&beside);
                return Err(error);
            }
        }
        let placed = match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => std::fs::rename(&beside, folder).and_then(|()| sync_parent(folder)),
        };
        placed.map_err(failed(folder))
    }

    /// Removes an adapter, whatever its weights. Error: the store's.
    pub async fn remove_adapter(&self, subject: &str) -> Result<(), ArtifactError> {
        self.remove_folder(&["adapters", subject]).await
    }

    /// Removes an adapter with these weights. Error: the store's.
    pub async fn remove_adapter_of(&self, subject: &str, weights: &str) -> Result<(), ArtifactError> {
        self.remove_folder(&["adapters", subject, weights]).await
    }

    async fn remove_folder(&self, parts: &[&str]) -> Result<(), ArtifactError> {
        let objects = self.objects_in(&self.name(parts)).await?;
        // The manifest first: an adapter without it is incomplete.
        let names = objects.into_iter().map(|object| object.location);
        let (mut first, rest): (Vec<Name>, Vec<Name>) =
            names.partition(|name| name.filename() == Some("manifest"));
        first.extend(rest);
        self.remove_all(first).await
    }

    /// Puts the newest checkpoint of a training, so that a worker elsewhere goes on from it. `false`: there is none. Errors: the store's.
    pub async fn put_checkpoint(&self, subject: &str, folder: &Path) -> Result<bool, ArtifactError> {
        if !folder.is_dir() {
            return Ok(false);
        }
        let is_checkpoint = |name: &str| Path::new(name).extension().is_some_and(|it| it == CHECKPOINT);
        // Names sort by step.
        let Some((file, path)) = whole_files(folder)?.into_iter().rfind(|(name, _)| is_checkpoint(name))
        else {
            return Ok(false);
        };
        let name = self.name(&["checkpoints", subject, &file]);
        self.upload(&path, &name).await?;
        let earlier = self.objects_in(&self.name(&["checkpoints", subject])).await?;
        let earlier = earlier.into_iter().map(|object| object.location);
        self.remove_all(earlier.filter(|other| other.as_ref() < name.as_ref()).collect()).await?;
        Ok(true)
    }

    /// Downloads the checkpoints of a training that are missing on this machine; engines verify them and use the newest. Returns how many the store has.
    /// Errors: the store's.
    pub async fn bring_checkpoints(&self, subject: &str, folder: &Path) -> Result<usize, ArtifactError> {
        let objects = self.objects_in(&self.name(&["checkpoints", subject])).await?;
        for object in &objects {
            let Some(file) = object.location.filename().filter(|name| is_file_name(name)) else { continue };
            let path = folder.join(file);
            if path.exists() {
                continue;
            }
            match self.download(&object.location, &path, |_| Ok(())).await {
                // Another worker put a newer one, or ended the training.
                Err(error) if error.is_missing() => {}
                brought => brought?,
            }
        }
        Ok(objects.len())
    }

    /// Removes the checkpoints of a training. Error: the store's.
    pub async fn remove_checkpoints(&self, subject: &str) -> Result<(), ArtifactError> {
        self.remove_folder(&["checkpoints", subject]).await
    }
}

/// The SHA-256 of the weights of an adapter on this machine's disk.
pub fn weights_here(folder: &Path) -> Option<Digest> {
    Digest::of_reader(&mut File::open(folder.join(WEIGHTS)).ok()?).ok()
}

/// A bucket with the keys of the environment.
fn s3(bucket: &str) -> AmazonS3Builder {
    // Once per process; another part of it may have been first, with the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let endpoint =
        ENDPOINT.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let mut client = ClientOptions::new().with_timeout(REQUEST).with_connect_timeout(Duration::from_secs(10));
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    if let Some(endpoint) = endpoint {
        client = client.with_allow_http(endpoint.starts_with("http://"));
        builder = builder.with_endpoint(endpoint);
    }
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() };
    let retry = RetryConfig { backoff, max_retries: 10, retry_timeout: PATIENCE };
    builder.with_client_options(client).with_retry(retry)
}
