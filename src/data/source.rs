//! Where rows come from: a generated preset, a file, or a hub data set of which a local copy is at hand.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::DataError;
use super::generated::{Arithmetic, Split};
use super::rows::{Row, read_rows};
use crate::checkpoint::FileDigests;
use crate::job::Digest;

/// Hub data sets with the file that holds their evaluated split in a folder of local data: path, configuration, file.
const LOCAL_COPIES: &[(&str, Option<&str>, &str)] = &[
    ("EleutherAI/arithmetic", Some("arithmetic_2ds"), "arithmetic_two_digit_subtraction.jsonl"),
    ("EleutherAI/arithmetic", Some("arithmetic_4ds"), "arithmetic_four_digit_subtraction.jsonl"),
    ("EleutherAI/arithmetic", Some("arithmetic_2da"), "arithmetic_two_digit_addition.jsonl"),
    ("nyu-mll/blimp", Some("causative"), "blimp_causative.jsonl"),
    ("nyu-mll/blimp", Some("drop_argument"), "blimp_drop_argument.jsonl"),
];

/// The name under which task files ask for a generated data set.
const GENERATED: &str = "loragrid/arithmetic";

/// Folders of local data.
#[derive(Debug, Clone, Default)]
pub struct DataRoots {
    /// `LORAGRID_DATA`.
    pub local: Option<PathBuf>,
}

/// Rows that can be read now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataSource {
    /// A generated preset.
    Generated {
        /// Which one.
        preset: Arithmetic,
        /// Which of its rows.
        split: Split,
    },
    /// A JSON file.
    File {
        /// Its path.
        path: PathBuf,
    },
}

impl DataSource {
    /// The training data that a sweep file names: a preset, or a path relative to `folder`. Error: neither.
    pub fn training(name: &str, folder: &Path) -> Result<Self, DataError> {
        if let Some(preset) = Arithmetic::ALL.into_iter().find(|preset| preset.name() == name) {
            return Ok(Self::Generated { preset, split: Split::Train });
        }
        let path = folder.join(name);
        if path.is_file() {
            return Ok(Self::File { path });
        }
        let near = Arithmetic::ALL.into_iter().find(|p| strsim::damerau_levenshtein(p.name(), name) <= 4);
        Err(DataError::Unknown { name: name.to_owned(), nearest: near.map(Arithmetic::name) })
    }

    /// The documents that a task file names by `dataset_path` and `dataset_name`. Error: no local copy.
    pub fn documents(path: &str, config: Option<&str>, roots: &DataRoots) -> Result<Self, DataError> {
        let name = || config.map_or_else(|| path.to_owned(), |config| format!("{path} ({config})"));
        if path == GENERATED {
            let preset = Arithmetic::ALL.into_iter().find(|preset| Some(preset.name()) == config);
            let unknown = || DataError::Unknown { name: name(), nearest: None };
            return Ok(Self::Generated { preset: preset.ok_or_else(unknown)?, split: Split::Test });
        }
        let copy = LOCAL_COPIES.iter().find(|(hub, of, _)| *hub == path && *of == config);
        let file = copy.and_then(|(_, _, file)| Some(roots.local.as_ref()?.join(file)));
        match file {
            Some(file) if file.is_file() => Ok(Self::File { path: file }),
            _ => Err(DataError::NotLocal { name: name() }),
        }
    }

    /// The preset's name or the file's path.
    pub fn name(&self) -> String {
        match self {
            Self::Generated { preset, .. } => preset.name().to_owned(),
            Self::File { path } => path.display().to_string(),
        }
    }

    /// All rows. Errors: unreadable, malformed.
    pub fn rows(&self) -> Result<Vec<Row>, DataError> {
        match self {
            Self::Generated { preset, split } => Ok(preset.rows(*split)),
            Self::File { path } => read_rows(path),
        }
    }

    /// What the rows are: the file's content, or the preset's parameters. Error: unreadable.
    pub fn identity(&self, digests: &mut dyn FileDigests) -> Result<Digest, DataError> {
        match self {
            Self::Generated { preset, split } => {
                Ok(Digest::of(format!("{} {split:?}", preset.identity()).as_bytes()))
            }
            Self::File { path } => {
                digests.digest(path).map_err(|source| DataError::Io { path: path.clone(), source })
            }
        }
    }
}
