//! Files copied to and from a store, in parts, with the SHA-256 of what passed.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use object_store::path::Path as Name;
use object_store::{ObjectMeta, ObjectStoreExt};
use sha2::{Digest as _, Sha256};

use super::error::ArtifactError;
use super::store::ArtifactStore;
use crate::job::Digest;
use crate::pretrained::sync_parent;

/// Bytes of a part. S3 wants at least 5 MiB, and at most 10,000 parts.
const PART: usize = 16 << 20;
/// Largest object that is read into memory as a whole: a manifest.
const SMALL: u64 = 1 << 20;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) bytes: u64,
    pub(super) sha256: Digest,
}

fn file_error(path: &Path) -> impl Fn(std::io::Error) -> ArtifactError {
    move |source| ArtifactError::File { path: path.to_owned(), source }
}

/// The next part of a file; shorter than a part at its end.
fn next_part(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut part = Vec::new();
    Read::take(file, PART as u64).read_to_end(&mut part)?;
    Ok(part)
}

impl ArtifactStore {
    pub(super) fn failed(&self, name: &Name, source: object_store::Error) -> ArtifactError {
        let place = self.address.to_string();
        match source {
            object_store::Error::NotFound { .. } => ArtifactError::Missing { place, name: name.to_string() },
            source => ArtifactError::Store { place, source },
        }
    }

    /// Copies a file into the store, under a name that appears when all of it is there.
    pub(super) async fn upload(&self, path: &Path, name: &Name) -> Result<Copied, ArtifactError> {
        // What is missing then is the bucket.
        let failed = |source| ArtifactError::Store { place: self.address.to_string(), source };
        let mut file = File::open(path).map_err(file_error(path))?;
        let mut hasher = Sha256::new();
        let mut part = next_part(&mut file).map_err(file_error(path))?;
        hasher.update(&part);
        let mut bytes = part.len() as u64;
        if part.len() < PART {
            self.store.put(name, part.into()).await.map_err(failed)?;
            return Ok(Copied { bytes, sha256: Digest::from_hasher(hasher) });
        }
        let mut upload = self.store.put_multipart(name).await.map_err(failed)?;
        while !part.is_empty() {
            if let Err(source) = upload.put_part(part.into()).await {
                // Parts that stay are removed by the bucket's own rules.
                let _ = upload.abort().await;
                return Err(failed(source));
            }
            part = next_part(&mut file).map_err(file_error(path))?;
            hasher.update(&part);
            bytes += part.len() as u64;
        }
        upload.complete().await.map_err(failed)?;
        Ok(Copied { bytes, sha256: Digest::from_hasher(hasher) })
    }

    /// Copies an object into a new file, which is on disk when this returns. `check` says whether it is what was wanted; else nothing is
    /// left of it.
    pub(super) async fn download(
        &self,
        name: &Name,
        path: &Path,
        check: impl Fn(&Copied) -> Result<(), String>,
    ) -> Result<(), ArtifactError> {
        let mut ending = path.extension().unwrap_or_default().to_owned();
        ending.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_extension(ending);
        let folder = path.parent().unwrap_or(path);
        std::fs::create_dir_all(folder).map_err(file_error(folder))?;
        let copied = self.write_object(name, &partial).await;
        let damaged =
            |why| ArtifactError::Damaged { place: self.address.to_string(), name: name.to_string(), why };
        let done = copied.and_then(|copied| {
            check(&copied).map_err(damaged)?;
            std::fs::rename(&partial, path).and_then(|()| sync_parent(path)).map_err(file_error(path))
        });
        if done.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
        done
    }

    async fn write_object(&self, name: &Name, to: &Path) -> Result<Copied, ArtifactError> {
        let failed = |source| self.failed(name, source);
        let total = self.store.head(name).await.map_err(failed)?.size;
        let mut file = File::create(to).map_err(file_error(to))?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        while bytes < total {
            let end = total.min(bytes + PART as u64);
            let part = self.store.get_range(name, bytes..end).await.map_err(failed)?;
            if part.len() as u64 != end - bytes {
                let why = format!("{} bytes came where {} were asked for", part.len(), end - bytes);
                return Err(ArtifactError::Damaged {
                    place: self.address.to_string(),
                    name: name.to_string(),
                    why,
                });
            }
            hasher.update(&part);
            file.write_all(&part).map_err(file_error(to))?;
            bytes = end;
        }
        file.sync_all().map_err(file_error(to))?;
        Ok(Copied { bytes, sha256: Digest::from_hasher(hasher) })
    }

    /// The bytes of a small object.
    pub(super) async fn read_small(&self, name: &Name) -> Result<Vec<u8>, ArtifactError> {
        let failed = |source| self.failed(name, source);
        let found = self.store.get(name).await.map_err(failed)?;
        if found.meta.size > SMALL {
            let why = format!("it has {} bytes", found.meta.size);
            return Err(ArtifactError::Damaged {
                place: self.address.to_string(),
                name: name.to_string(),
                why,
            });
        }
        Ok(found.bytes().await.map_err(failed)?.to_vec())
    }

    /// The objects whose names begin with a folder's.
    pub(super) async fn objects_in(&self, folder: &Name) -> Result<Vec<ObjectMeta>, ArtifactError> {
        let listed: Result<Vec<ObjectMeta>, _> = self.store.list(Some(folder)).try_collect().await;
        match listed {
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            listed => listed.map_err(|source| self.failed(folder, source)),
        }
    }

    /// Deletes objects; a missing one is not an error.
    pub(super) async fn remove_all(&self, names: Vec<Name>) -> Result<(), ArtifactError> {
        for name in names {
            match self.store.delete(&name).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.failed(&name, source)),
            }
        }
        Ok(())
    }
}

/// The complete files of a folder, by name; those of an interrupted write are left out.
pub(super) fn whole_files(folder: &Path) -> Result<Vec<(String, PathBuf)>, ArtifactError> {
    let failed = file_error(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && super::manifest::is_file_name(&name) && !name.contains("partial") {
            files.push((name, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}
