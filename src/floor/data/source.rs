//! Sources of rows: a generated preset, a file, or a local copy of a hub data set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dataset_location::DatasetLocation;
use super::error::DataError;
use super::generated::{Arithmetic, Split};
use super::preset::{PRESETS, PresetOrigin, find_preset};
use super::rows::{Row, read_rows};
use super::table::{align, infer_types};
use crate::job::Digest;
use crate::pretrained::FileDigests;

/// The name of a generated data set in task files.
const GENERATED: &str = "loragrid/arithmetic";

/// Local data folders and files.
#[derive(Debug, Clone, Default)]
pub struct DataRoots {
    /// `LORAGRID_DATA`.
    pub local: Option<PathBuf>,
    /// `[data_sets]` of the sweep file: a name with its file, relative to the sweep file's folder. A configuration of a
    /// hub data set is named `path:configuration`.
    pub named: BTreeMap<String, PathBuf>,
    /// The download cache for hub data sets.
    pub hub: Option<crate::hub::Cache>,
}

/// Rows that are available locally.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataSource {
    /// A generated preset.
    Generated {
        /// Which one.
        preset: Arithmetic,
        /// Its split.
        split: Split,
    },
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
    },
    /// Consecutive files of a sharded table.
    Files {
        /// Their paths, at least one.
        paths: Vec<PathBuf>,
    },
}

impl DataRoots {
    /// The first of these files that is in the local data folder.
    pub(super) fn copy(&self, files: &[&str]) -> Option<PathBuf> {
        let root = self.local.as_ref()?;
        files.iter().map(|file| root.join(file)).find(|path| path.is_file())
    }
}

impl DataSource {
    /// The training data named in a sweep file: an entry of `[data_sets]`, a preset, or a path relative to `folder`.
    /// Errors: unknown, or a preset without a local file.
    pub fn training(name: &str, folder: &Path, roots: &DataRoots) -> Result<Self, DataError> {
        let preset = find_preset(name);
        let hub = preset.and_then(|preset| match preset.origin {
            PresetOrigin::Hub { id, files, .. } => Some((id, files)),
            PresetOrigin::Generated(_) => None,
        });
        let named = roots
            .named
            .get(name)
            .or_else(|| roots.named.get(hub?.0))
            .or_else(|| roots.named.get(preset?.name));
        if let Some(path) = named {
            return Ok(Self::File { path: folder.join(path) });
        }
        match (preset.map(|preset| preset.origin), hub) {
            (Some(PresetOrigin::Generated(preset)), _) => Ok(Self::Generated { preset, split: Split::Train }),
            (_, Some((id, files))) => match roots.copy(files) {
                Some(path) => Ok(Self::File { path }),
                None => Err(DataError::NotLocal { name: id.to_owned() }),
            },
            _ => Self::file(name, folder),
        }
    }

    fn file(name: &str, folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(Self::File { path });
        }
        let near = PRESETS.iter().map(|p| (strsim::damerau_levenshtein(p.name, name), p.name)).min();
        let nearest = near.filter(|(d, _)| *d <= 1 + name.len() / 5).map(|(_, name)| name);
        Err(DataError::Unknown { name: name.to_owned(), nearest })
    }

    /// The documents named in a task file: a generated set, an entry of `[data_sets]`, a file of the local data folder,
    /// or a hub download. Error: none of these.
    pub fn documents(
        place: DatasetLocation<'_>,
        folder: &Path,
        roots: &DataRoots,
    ) -> Result<Self, DataError> {
        if place.path == GENERATED {
            let preset = Arithmetic::ALL.into_iter().find(|preset| Some(preset.name()) == place.config);
            let unknown = || DataError::Unknown { name: place.name(), nearest: None };
            return Ok(Self::Generated { preset: preset.ok_or_else(unknown)?, split: Split::Test });
        }
        if let Some(file) = place.names().iter().find_map(|name| roots.named.get(name)) {
            return Ok(Self::File { path: folder.join(file) });
        }
        let local = roots.local.as_deref().and_then(|root| place.in_folder(root));
        let cached = || roots.hub.as_ref().and_then(|cache| place.in_cache(cache));
        local.or_else(cached).map(Self::of_files).ok_or_else(|| DataError::NotLocal { name: place.name() })
    }

    fn of_files(mut paths: Vec<PathBuf>) -> Self {
        if paths.len() == 1 { Self::File { path: paths.remove(0) } } else { Self::Files { paths } }
    }

    /// The preset's name or the file's path.
    pub fn name(&self) -> String {
        match self {
            Self::Generated { preset, .. } => preset.name().to_owned(),
            Self::File { path } => path.display().to_string(),
            Self::Files { paths } => {
                paths.first().map_or_else(String::new, |path| path.display().to_string())
            }
        }
    }

    /// All rows. Errors: unreadable, malformed.
    pub fn rows(&self) -> Result<Vec<Row>, DataError> {
        match self {
            Self::Generated { preset, split } => Ok(preset.rows(*split)),
            Self::File { path } => read_rows(path),
            Self::Files { paths } => {
                let mut rows = Vec::new();
                for path in paths {
                    rows.extend(read_rows(path)?);
                }
                Ok(rows)
            }
        }
    }

    /// All rows as a table with typed columns, as `datasets` passes them to lm_eval. Errors: as [`DataSource::rows`].
    pub fn table(&self) -> Result<Vec<Row>, DataError> {
        let mut rows = self.rows()?;
        let is_csv = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "csv");
        let typed = match self {
            Self::Generated { .. } => false,
            Self::File { path } => is_csv(path),
            Self::Files { paths } => paths.iter().all(is_csv),
        };
        if typed {
            infer_types(&mut rows);
        }
        align(&mut rows);
        Ok(rows)
    }

    /// Identity of the rows: the file's content, or the preset's parameters. Error: unreadable.
    pub fn identity(&self, digests: &mut dyn FileDigests) -> Result<Digest, DataError> {
        let mut read = |path: &PathBuf| {
            digests.digest(path).map_err(|source| DataError::Io { path: path.clone(), source })
        };
        match self {
            Self::Generated { preset, split } => {
                Ok(Digest::of(format!("{} {split:?}", preset.identity()).as_bytes()))
            }
            Self::File { path } => read(path),
            Self::Files { paths } => {
                let each: Result<Vec<Digest>, DataError> = paths.iter().map(&mut read).collect();
                Ok(Digest::all(&each?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_wins_over_a_local_copy_and_a_missing_one_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let none = DataRoots::default();
        let error = DataSource::training("alpaca", folder.path(), &none).unwrap_err();
        assert_eq!(error.to_string(), "data set 'tatsu-lab/alpaca' is not on this machine");
        std::fs::write(folder.path().join("alpaca.jsonl"), "").unwrap();
        let local = DataRoots { local: Some(folder.path().to_owned()), ..DataRoots::default() };
        let copy = DataSource::training("tatsu-lab/alpaca", folder.path(), &local).unwrap();
        assert_eq!(copy, DataSource::File { path: folder.path().join("alpaca.jsonl") });
        let named = DataRoots { named: BTreeMap::from([("alpaca".into(), "mine.csv".into())]), ..local };
        let file = DataSource::training("alpaca", folder.path(), &named).unwrap();
        assert_eq!(file, DataSource::File { path: folder.path().join("mine.csv") });
    }

    #[test]
    fn a_mistyped_preset_finds_its_neighbour() {
        let error = DataSource::training("alpca", Path::new("."), &DataRoots::default()).unwrap_err();
        assert_eq!(error.help(), "did you mean \"alpaca\"?");
    }
}
