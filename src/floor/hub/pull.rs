//! Downloading a model into the cache.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::client::Client;
use super::environment::Hub;
use super::error::HubError;
use super::repository_id::{RepositoryId, RepositoryKind};
use crate::job::Bytes;

/// Top-level repository files downloaded besides weights.
const ENDINGS: &[&str] = &[".json", ".jinja", "tokenizer.model", "merges.txt", "vocab.txt"];
const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// Attempts per file with an interrupted transfer.
const MAX_CUTS: usize = 5;

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The snapshot's folder.
    pub folder: PathBuf,
    /// The commit; for a snapshot found offline, its folder name.
    pub commit: String,
    /// Files of the snapshot.
    pub files: usize,
    /// Bytes transferred in this download.
    pub transferred: Bytes,
}

/// Progress of a file.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a> {
    /// Its name.
    pub file: &'a str,
    /// Bytes downloaded.
    pub done: Bytes,
    /// Total bytes.
    pub size: Bytes,
}

#[derive(Deserialize)]
struct Description {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(rename = "blobId", default)]
    blob: Option<String>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// A file to download, with its expected hash.
pub(super) struct RequestedFile {
    pub(super) name: String,
    size: u64,
    hash: Hash,
}

enum Hash {
    /// For large files: SHA-256.
    Sha256(String),
    /// For small files: git's blob hash, the SHA-1 of a header and the content.
    Git(String),
}

impl Hash {
    fn text(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::Git(text) => text,
        }
    }
}

impl Hub {
    /// Downloads a model's weights, configuration and tokenizer into the cache; existing files are kept. Errors: see
    /// [`HubError`].
    pub fn pull(&self, id: &RepositoryId, mut watch: impl FnMut(Transfer<'_>)) -> Result<Pulled, HubError> {
        if self.offline {
            let folder = self.cache.find(id).ok_or_else(|| HubError::Offline { id: id.to_string() })?;
            let commit = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let files = std::fs::read_dir(&folder).map(Iterator::count).unwrap_or_default();
            return Ok(Pulled { folder, commit, files, transferred: Bytes(0) });
        }
        let client = Client::new(self, id);
        let (commit, files) = self.describe(&client, id)?;
        let mut pull = Pull { hub: self, id, client, commit: &commit, transferred: 0, watch: &mut watch };
        let wanted = pull.choose(files)?;
        for file in &wanted {
            pull.file(file)?;
        }
        let transferred = Bytes(pull.transferred);
        let folder = self.cache.snapshot(id, &commit);
        self.cache.complete(id, &commit).map_err(|source| HubError::Io { path: folder.clone(), source })?;
        Ok(Pulled { folder, commit, files: wanted.len(), transferred })
    }

    /// The commit of the id's revision and its files.
    pub(super) fn describe(
        &self,
        client: &Client<'_>,
        id: &RepositoryId,
    ) -> Result<(String, Vec<RequestedFile>), HubError> {
        let wrong = |reason: String| HubError::Description { id: id.name().to_owned(), reason };
        let revision = id.revision().replace('/', "%2F");
        let kind = match id.kind() {
            RepositoryKind::Model => "models",
            RepositoryKind::DataSet => "datasets",
        };
        let path = format!("api/{kind}/{}/revision/{revision}?blobs=true", id.name());
        let text = client.get(&path, 0)?.into_body().with_config().limit(64 << 20).read_to_vec();
        let text = text.map_err(|error| wrong(error.to_string()))?;
        let description: Description =
            serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let hex = |text: &str| (40..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex(&description.sha) {
            return Err(wrong("its commit is not a hash".to_owned()));
        }
        let mut files = Vec::new();
        for sibling in description.siblings {
            // In models, subfolders hold other formats; in data sets, the tables. No name may lead out of the repository.
            let name = &sibling.rfilename;
            let nested = name.contains('/') && id.kind() == RepositoryKind::Model;
            if nested
                || name.contains('\\')
                || name.split('/').any(|part| part.is_empty() || part.starts_with('.'))
            {
                continue;
            }
            let (size, hash) = match (sibling.lfs, sibling.blob) {
                (Some(lfs), _) => (lfs.size, Hash::Sha256(lfs.sha256)),
                (None, Some(blob)) => (sibling.size.unwrap_or_default(), Hash::Git(blob)),
                (None, None) => continue,
            };
            if !hex(hash.text()) {
                return Err(wrong(format!("the hash of {} is none", sibling.rfilename)));
            }
            files.push(RequestedFile { name: sibling.rfilename, size, hash });
        }
        Ok((description.sha, files))
    }
}

/// Downloads files of one repository.
pub(super) struct Pull<'a> {
    pub(super) hub: &'a Hub,
    pub(super) id: &'a RepositoryId,
    pub(super) client: Client<'a>,
    pub(super) commit: &'a str,
    pub(super) transferred: u64,
    pub(super) watch: &'a mut dyn FnMut(Transfer<'_>),
}

impl Pull<'_> {
    /// The files to download: the weights named in the index, or the single weights file.
    fn choose(&mut self, files: Vec<RequestedFile>) -> Result<Vec<RequestedFile>, HubError> {
        let shards: Vec<String> = match files.iter().find(|file| file.name == INDEX) {
            Some(index) => {
                self.file(index)?;
                let path = self.hub.cache.snapshot(self.id, self.commit).join(INDEX);
                let text = std::fs::read(&path).map_err(|source| HubError::Io { path, source })?;
                let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
                let names = json["weight_map"].as_object().into_iter().flat_map(|map| map.values());
                names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
            }
            None => vec![SINGLE.to_owned()],
        };
        let is_weight = |name: &str| shards.iter().any(|shard| shard == name);
        if !files.iter().any(|file| is_weight(&file.name)) {
            return Err(HubError::NoWeights { id: self.id.name().to_owned() });
        }
        let chosen = |file: &RequestedFile| {
            is_weight(&file.name) || ENDINGS.iter().any(|ending| file.name.ends_with(ending))
        };
        Ok(files.into_iter().filter(chosen).collect())
    }

    /// Downloads one file, checks it, and links it into the snapshot.
    pub(super) fn file(&mut self, file: &RequestedFile) -> Result<(), HubError> {
        let blob = self.hub.cache.blob(self.id, file.hash.text());
        let io = |source| HubError::Io { path: blob.clone(), source };
        if !blob.is_file() {
            std::fs::create_dir_all(blob.parent().unwrap_or(Path::new("."))).map_err(io)?;
            // One writer at a time, including Hugging Face's own client.
            let _lock = self.lock(file.hash.text())?;
            if blob.is_file() {
                return self.hub.cache.link(self.id, self.commit, &file.name, file.hash.text()).map_err(io);
            }
            let partial = blob.with_extension("incomplete");
            self.transfer(file, &partial)?;
            let found = hash_of(&partial, &file.hash).map_err(io)?;
            if found != file.hash.text() {
                std::fs::remove_file(&partial).map_err(io)?;
                let expected = file.hash.text().to_owned();
                return Err(HubError::Hash { file: file.name.clone(), found, expected });
            }
            std::fs::rename(&partial, &blob).map_err(io)?;
        }
        self.hub.cache.link(self.id, self.commit, &file.name, file.hash.text()).map_err(io)
    }

    /// Waits for the lock on a blob. The returned file holds the lock.
    fn lock(&self, hash: &str) -> Result<File, HubError> {
        let path = self.hub.cache.lock(self.id, hash);
        let locked = || {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        locked().map_err(|source| HubError::Io { path: path.clone(), source })
    }

    /// Downloads the rest of a partial file, resuming after interruptions.
    fn transfer(&mut self, file: &RequestedFile, partial: &Path) -> Result<(), HubError> {
        let kind = match self.id.kind() {
            RepositoryKind::Model => "",
            RepositoryKind::DataSet => "datasets/",
        };
        let path = format!("{kind}{}/resolve/{}/{}", self.id.name(), self.commit, file.name);
        let io = |source| HubError::Io { path: partial.to_owned(), source };
        let mut output = OpenOptions::new().create(true).append(true).open(partial).map_err(io)?;
        let mut reason = String::new();
        for _ in 0..MAX_CUTS {
            let mut done = output.metadata().map_err(io)?.len();
            if done > file.size {
                output.set_len(0).map_err(io)?;
                done = 0;
            }
            if done == file.size && done > 0 {
                return Ok(());
            }
            let response = self.client.get(&path, done)?;
            // Only 206 resumes; anything else is the whole file or unusable.
            if response.status() != 206 {
                output.set_len(0).map_err(io)?;
                done = 0;
            }
            match self.copy(response.into_body().into_reader(), &mut output, file, done).map_err(io)? {
                None if file.size == 0 => return Ok(()),
                None => {}
                Some(cut) => reason = cut,
            }
        }
        if output.metadata().map_err(io)?.len() == file.size {
            return Ok(());
        }
        let url = format!("{}/{path}", self.hub.endpoint);
        Err(HubError::Network { url, reason: format!("the transfer was cut off {MAX_CUTS} times: {reason}") })
    }

    /// Copies a body; returns the message of a read error, as the transfer can resume. Error: of writing.
    fn copy(
        &mut self,
        body: impl Read + Send + 'static,
        output: &mut File,
        file: &RequestedFile,
        mut done: u64,
    ) -> std::io::Result<Option<String>> {
        let chunks = in_chunks(body);
        loop {
            let chunk = match chunks.recv_timeout(self.hub.idle) {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(error)) => return Ok(Some(error.to_string())),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    return Ok(Some(format!("nothing came for {} s", self.hub.idle.as_secs_f64())));
                }
            };
            output.write_all(&chunk)?;
            done += chunk.len() as u64;
            self.transferred += chunk.len() as u64;
            (self.watch)(Transfer { file: &file.name, done: Bytes(done), size: Bytes(file.size) });
            if done > file.size {
                return Ok(Some("it is longer than the hub reports".to_owned()));
            }
        }
    }
}

/// Reads a body on a separate thread, so a stalled one can be abandoned. The thread ends with its connection.
fn in_chunks(mut body: impl Read + Send + 'static) -> Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = sync_channel(4);
    std::thread::spawn(move || {
        loop {
            let mut chunk = vec![0; 1 << 20];
            let read = body.read(&mut chunk);
            let is_end = !matches!(&read, Ok(length) if *length > 0);
            let chunk = read.map(|length| {
                chunk.truncate(length);
                chunk
            });
            if matches!(&chunk, Ok(chunk) if chunk.is_empty()) || sender.send(chunk).is_err() || is_end {
                return;
            }
        }
    });
    receiver
}

/// The hash of a file's content, of the expected kind.
fn hash_of(path: &Path, expected: &Hash) -> std::io::Result<String> {
    fn all<D: Digest>(mut digest: D, mut file: File) -> std::io::Result<String> {
        let mut chunk = vec![0; 1 << 20];
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                read => digest.update(&chunk[..read]),
            }
        }
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
    let file = File::open(path)?;
    match expected {
        Hash::Sha256(_) => all(Sha256::new(), file),
        Hash::Git(_) => {
            let size = file.metadata()?.len();
            let mut digest = Sha1::new();
            digest.update(format!("blob {size}\0"));
            all(digest, file)
        }
    }
}
