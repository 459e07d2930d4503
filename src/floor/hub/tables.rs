//! Downloading tables of a data set into the cache: a split as Parquet, or one named file.

use super::cache::COMPLETE;
use super::client::Client;
use super::environment::Hub;
use super::error::HubError;
use super::pull::{Pull, RequestedFile, Transfer};
use super::repository_id::RepositoryId;
use crate::job::Bytes;

/// The requested part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables<'a> {
    /// A split of a configuration; if none is given, of `default` or the only one.
    Split {
        /// The configuration.
        config: Option<&'a str>,
        /// The split.
        split: &'a str,
    },
    /// A file.
    File(&'a str),
}

impl Hub {
    /// Downloads tables of a data set into the cache; existing ones are kept. Returns the bytes transferred. Errors:
    /// see [`HubError`]; no match for the name.
    pub fn pull_tables(
        &self,
        id: &RepositoryId,
        tables: Tables<'_>,
        mut watch: impl FnMut(Transfer<'_>),
    ) -> Result<Bytes, HubError> {
        if self.offline {
            return Err(HubError::Offline { id: id.to_string() });
        }
        let client = Client::new(self, id);
        let (commit, files) = self.describe(&client, id)?;
        let wanted = choose(files, tables);
        let Some(first) = wanted.first() else {
            let what = match tables {
                Tables::Split { config: Some(config), split } => format!("split '{split}' of '{config}'"),
                Tables::Split { config: None, split } => format!("split '{split}'"),
                Tables::File(file) => format!("file {file}"),
            };
            return Err(HubError::NotFound { id: id.name().to_owned(), what });
        };
        let folder = first.name.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let mut pull = Pull { hub: self, id, client, commit: &commit, transferred: 0, watch: &mut watch };
        for file in &wanted {
            pull.file(file)?;
        }
        let transferred = Bytes(pull.transferred);
        let snapshot = self.cache.snapshot(id, &commit);
        let marked = match tables {
            Tables::Split { .. } => std::fs::write(snapshot.join(folder).join(COMPLETE), ""),
            Tables::File(_) => Ok(()),
        };
        let done = marked.and_then(|()| self.cache.refer(id, &commit));
        done.map_err(|source| HubError::Io { path: snapshot, source })?;
        Ok(transferred)
    }
}

/// The requested files. A split's are in `CONFIGURATION/SPLIT/`.
fn choose(files: Vec<RequestedFile>, tables: Tables<'_>) -> Vec<RequestedFile> {
    let (config, split) = match tables {
        Tables::File(name) => return files.into_iter().filter(|file| file.name == name).collect(),
        Tables::Split { config, split } => (config, split),
    };
    let config = match config {
        Some(config) => config.to_owned(),
        None => only_configuration(&files),
    };
    let folder = format!("{config}/{split}/");
    files
        .into_iter()
        .filter(|file| {
            let rest = file.name.strip_prefix(&folder);
            rest.is_some_and(|name| !name.contains('/') && name.ends_with(".parquet"))
        })
        .collect()
}

/// `default` if it exists, else the only configuration; none if there are several.
fn only_configuration(files: &[RequestedFile]) -> String {
    let mut names: Vec<&str> = files
        .iter()
        .filter(|file| file.name.ends_with(".parquet"))
        .filter_map(|file| file.name.split_once('/').map(|(config, _)| config))
        .collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        names if names.contains(&"default") => "default".to_owned(),
        [only] => (*only).to_owned(),
        _ => String::new(),
    }
}
