//! Uploading a folder as a commit of a model's repository, as Hugging Face's own client does: the hub says of each file whether it goes
//! into the commit or into large-file storage (git-lfs's batch API), and the commit is one request.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value as Json, json};
use ureq::{Agent, Body, SendBody, http::Response};

use super::environment::Hub;
use super::error::HubError;
use super::pull::Transfer;
use super::repository_id::RepositoryId;
use crate::job::{Bytes, Digest};

/// Bytes at the start of a file by which the hub decides how it is stored.
const SAMPLE: usize = 512;
const LFS: &str = "application/vnd.git-lfs+json";

/// An uploaded folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The commit's page.
    pub url: String,
    /// Names of the files.
    pub files: Vec<String>,
}

/// A file to upload.
struct Upload {
    name: String,
    path: PathBuf,
    size: u64,
    digest: Digest,
    sample: Vec<u8>,
}

impl Hub {
    /// Uploads the files of a folder as one commit; the repository is made if there is none. Errors: no token, a file that cannot be
    /// read, the hub's.
    pub fn push(
        &self,
        id: &RepositoryId,
        folder: &Path,
        (message, private): (&str, bool),
        mut watch: impl FnMut(Transfer<'_>),
    ) -> Result<Pushed, HubError> {
        if self.token.is_none() {
            return Err(HubError::Unauthorised { id: id.name().to_owned() });
        }
        if self.offline {
            return Err(HubError::Offline { id: id.name().to_owned() });
        }
        let files = uploads(folder)?;
        let push = Push { hub: self, id, agent: agent() };
        push.create(private)?;
        let large = push.large_files(&files)?;
        let is_large = |file: &&Upload| large.contains(&file.name);
        let stored: Vec<&Upload> = files.iter().filter(is_large).collect();
        push.store(&stored, &mut watch)?;
        let url = push.commit(&files, &large, message)?;
        Ok(Pushed { url, files: files.into_iter().map(|file| file.name).collect() })
    }
}

struct Push<'a> {
    hub: &'a Hub,
    id: &'a RepositoryId,
    agent: Agent,
}

fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // A request with a token is not sent elsewhere.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(120)))
        .user_agent(concat!("loragrid/", env!("CARGO_PKG_VERSION")))
        .build();
    Agent::new_with_config(config)
}

impl Push<'_> {
    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.hub.endpoint)
    }

    /// Sends a body to a path below the endpoint, with the token.
    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Result<Response<Body>, HubError> {
        let mut request = self.agent.post(self.url(path)).header("Content-Type", kind);
        if kind == LFS {
            request = request.header("Accept", LFS);
        }
        if let Some(token) = &self.hub.token {
            request = request.header("Authorization", token.header());
        }
        request.send(body).map_err(|error| self.network(&self.url(path), &error))
    }

    fn network(&self, url: &str, error: &dyn std::fmt::Display) -> HubError {
        // The query of a storage link is its signature.
        let url = url.split('?').next().unwrap_or(url).to_owned();
        HubError::Network { url, reason: error.to_string() }
    }

    /// The JSON of a success.
    fn json(&self, path: &str, mut response: Response<Body>) -> Result<Json, HubError> {
        let status = response.status().as_u16();
        let id = || self.id.name().to_owned();
        match status {
            200..=299 => {}
            401 => return Err(HubError::Unauthorised { id: id() }),
            403 => return Err(HubError::Gated { page: self.url(self.id.name()), id: id() }),
            404 => return Err(HubError::NotFound { id: id(), what: "such repository".to_owned() }),
            429 => return Err(HubError::Busy { id: id(), wait: 60 }),
            status => return Err(HubError::Status { url: self.url(path), status }),
        }
        let text =
            response.body_mut().read_to_string().map_err(|error| self.network(&self.url(path), &error))?;
        serde_json::from_str(&text).map_err(|error| self.unexpected(&error.to_string()))
    }

    fn unexpected(&self, reason: &str) -> HubError {
        HubError::Description { id: self.id.name().to_owned(), reason: reason.to_owned() }
    }

    /// Makes the repository; one that exists stays as it is.
    fn create(&self, private: bool) -> Result<(), HubError> {
        let (organization, name) = match self.id.name().split_once('/') {
            Some((organization, name)) => (Some(organization), name),
            None => (None, self.id.name()),
        };
        let body = json!({ "type": "model", "name": name, "organization": organization, "private": private });
        let path = "api/repos/create";
        let response = self.post(path, "application/json", body.to_string().as_bytes())?;
        match response.status().as_u16() {
            409 => Ok(()),
            _ => self.json(path, response).map(drop),
        }
    }

    /// The names of the files that go into large-file storage.
    fn large_files(&self, files: &[Upload]) -> Result<Vec<String>, HubError> {
        let file = |file: &Upload| json!({ "path": file.name, "size": file.size, "sample": BASE64_STANDARD.encode(&file.sample) });
        let body = json!({ "files": files.iter().map(file).collect::<Vec<Json>>() });
        let path = format!("api/models/{}/preupload/{}", self.id.name(), self.id.revision());
        let response = self.post(&path, "application/json", body.to_string().as_bytes())?;
        let found = self.json(&path, response)?;
        let modes = found["files"].as_array().ok_or_else(|| self.unexpected("no list of files"))?;
        files
            .iter()
            .filter_map(|file| {
                let mode = modes.iter().find(|mode| mode["path"] == file.name.as_str());
                match mode.and_then(|mode| mode["uploadMode"].as_str()) {
                    Some("lfs") => Some(Ok(file.name.clone())),
                    Some("regular") => None,
                    _ => Some(Err(self.unexpected(&format!("no upload mode for {}", file.name)))),
                }
            })
            .collect()
    }

    /// Sends files to large-file storage; those that are there already are not sent again.
    fn store(&self, files: &[&Upload], watch: &mut dyn FnMut(Transfer<'_>)) -> Result<(), HubError> {
        if files.is_empty() {
            return Ok(());
        }
        let object = |file: &&Upload| json!({ "oid": file.digest.to_string(), "size": file.size });
        let body = json!({
            "operation": "upload", "transfers": ["basic"], "hash_algo": "sha256",
            "ref": { "name": self.id.revision() },
            "objects": files.iter().map(object).collect::<Vec<Json>>(),
        });
        let path = format!("{}.git/info/lfs/objects/batch", self.id.name());
        let response = self.post(&path, LFS, body.to_string().as_bytes())?;
        let found = self.json(&path, response)?;
        let objects = found["objects"].as_array().ok_or_else(|| self.unexpected("no list of objects"))?;
        for file in files {
            let digest = file.digest.to_string();
            let object = objects.iter().find(|object| object["oid"] == digest.as_str());
            let object = object.ok_or_else(|| self.unexpected(&format!("nothing for {}", file.name)))?;
            if let Some(message) = object["error"]["message"].as_str() {
                return Err(self.unexpected(&format!("{}: {message}", file.name)));
            }
            watch(Transfer { file: &file.name, size: Bytes(file.size), done: Bytes(0) });
            self.send(file, &object["actions"])?;
            watch(Transfer { file: &file.name, size: Bytes(file.size), done: Bytes(file.size) });
        }
        Ok(())
    }

    /// Carries out git-lfs's actions for a file.
    fn send(&self, file: &Upload, actions: &Json) -> Result<(), HubError> {
        let Some(href) = actions["upload"]["href"].as_str() else { return Ok(()) };
        let io = |source| HubError::Io { path: file.path.clone(), source };
        let mut content = File::open(&file.path).map_err(io)?;
        // The link is signed: it needs no token, and gets none.
        let mut request = self.agent.put(href).header("Content-Length", file.size.to_string());
        for (name, value) in actions["upload"]["header"].as_object().into_iter().flatten() {
            if let Some(value) = value.as_str() {
                request = request.header(name, value);
            }
        }
        let sent = request.send(SendBody::from_reader(&mut content));
        let response = sent.map_err(|error| self.network(href, &error))?;
        if !response.status().is_success() {
            let url = href.split('?').next().unwrap_or(href).to_owned();
            return Err(HubError::Status { url, status: response.status().as_u16() });
        }
        let Some(verify) = actions["verify"]["href"].as_str() else { return Ok(()) };
        let path = verify.strip_prefix(&format!("{}/", self.hub.endpoint));
        let path = path.ok_or_else(|| self.unexpected("the place to verify is on another host"))?;
        let body = json!({ "oid": file.digest.to_string(), "size": file.size });
        let response = self.post(path, LFS, body.to_string().as_bytes())?;
        match response.status().is_success() {
            true => Ok(()),
            false => self.json(path, response).map(drop),
        }
    }

    /// Makes the commit; its page.
    fn commit(&self, files: &[Upload], large: &[String], message: &str) -> Result<String, HubError> {
        let mut lines = vec![json!({ "key": "header", "value": { "summary": message, "description": "" } })];
        for file in files {
            lines.push(if large.contains(&file.name) {
                json!({ "key": "lfsFile", "value": {
                    "path": file.name, "algo": "sha256", "oid": file.digest.to_string(), "size": file.size,
                } })
            } else {
                let io = |source| HubError::Io { path: file.path.clone(), source };
                let content = std::fs::read(&file.path).map_err(io)?;
                json!({ "key": "file", "value": {
                    "path": file.name, "encoding": "base64", "content": BASE64_STANDARD.encode(content),
                } })
            });
        }
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let path = format!("api/models/{}/commit/{}", self.id.name(), self.id.revision());
        let response = self.post(&path, "application/x-ndjson", body.as_bytes())?;
        let found = self.json(&path, response)?;
        let url = found["commitUrl"].as_str().map(str::to_owned);
        Ok(url.unwrap_or_else(|| self.url(self.id.name())))
    }
}

/// The files directly in a folder, by name; hidden ones are left out. Errors: none, one that cannot be read.
fn uploads(folder: &Path) -> Result<Vec<Upload>, HubError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| HubError::Io { path, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.is_empty() || name.starts_with('.') || !path.is_file() {
            continue;
        }
        let mut file = File::open(&path).map_err(io(&path))?;
        let size = file.metadata().map_err(io(&path))?.len();
        let mut sample = Vec::new();
        (&mut file).take(SAMPLE as u64).read_to_end(&mut sample).map_err(io(&path))?;
        let mut whole = File::open(&path).map_err(io(&path))?;
        let digest = Digest::of_reader(&mut whole).map_err(io(&path))?;
        files.push(Upload { name, path, size, digest, sample });
    }
    if files.is_empty() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no file to upload");
        return Err(HubError::Io { path: folder.to_owned(), source });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}
