//! Where rows come from: a generated preset, a file, or a hub data set of which a local copy is at hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::DataError;
use super::generated::{Arithmetic, Split};
use super::preset::{PRESETS, PresetOrigin, find_preset};
use super::rows::{Row, read_rows};
use crate::checkpoint::FileDigests;
use crate::job::Digest;

/// Hub data sets of tasks with the file that holds a split in a folder of local data: path, configuration, split (none:
/// the evaluated one), file.
const TASK_COPIES: &[(&str, Option<&str>, Option<&str>, &str)] = &[
    ("EleutherAI/arithmetic", Some("arithmetic_2ds"), None, "arithmetic_two_digit_subtraction.jsonl"),
    ("EleutherAI/arithmetic", Some("arithmetic_4ds"), None, "arithmetic_four_digit_subtraction.jsonl"),
    ("EleutherAI/arithmetic", Some("arithmetic_2da"), None, "arithmetic_two_digit_addition.jsonl"),
    ("nyu-mll/blimp", Some("causative"), None, "blimp_causative.jsonl"),
    ("nyu-mll/blimp", Some("drop_argument"), None, "blimp_drop_argument.jsonl"),
    ("truthfulqa/truthful_qa", Some("multiple_choice"), None, "truthfulqa_mc.jsonl"),
    ("cais/mmlu", Some("global_facts"), None, "mmlu_global_facts_test.jsonl"),
    ("cais/mmlu", Some("global_facts"), Some("dev"), "mmlu_global_facts_dev.jsonl"),
    ("cais/mmlu", Some("global_facts"), Some("validation"), "mmlu_global_facts_val.jsonl"),
];

/// The name under which task files ask for a generated data set.
const GENERATED: &str = "loragrid/arithmetic";

/// Folders and files of local data.
#[derive(Debug, Clone, Default)]
pub struct DataRoots {
    /// `LORAGRID_DATA`.
    pub local: Option<PathBuf>,
    /// `[data_sets]` of the sweep file: a name with its file, relative to the sweep file's folder. A configuration of a
    /// hub data set is named `path:configuration`.
    pub named: BTreeMap<String, PathBuf>,
}

/// Rows that can be read now.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataSource {
    /// A generated preset.
    Generated {
        /// Which one.
        preset: Arithmetic,
        /// Which of its rows.
        split: Split,
    },
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
    },
}

impl DataRoots {
    /// The first of these files that is in the folder of local data.
    fn copy(&self, files: &[&str]) -> Option<PathBuf> {
        let root = self.local.as_ref()?;
        files.iter().map(|file| root.join(file)).find(|path| path.is_file())
    }
}

impl DataSource {
    /// The training data that a sweep file names: an entry of `[data_sets]`, a preset, or a path relative to `folder`.
    /// Errors: unknown, or a preset without a file here.
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

    /// The documents that a task file names by `dataset_path` and `dataset_name`: of the split that it evaluates, or of
    /// `split`, which `[data_sets]` names as `path:configuration:split`. Error: no local copy.
    pub fn documents(
        path: &str,
        config: Option<&str>,
        split: Option<&str>,
        folder: &Path,
        roots: &DataRoots,
    ) -> Result<Self, DataError> {
        let name = || config.map_or_else(|| path.to_owned(), |config| format!("{path} ({config})"));
        if path == GENERATED {
            let preset = Arithmetic::ALL.into_iter().find(|preset| Some(preset.name()) == config);
            let unknown = || DataError::Unknown { name: name(), nearest: None };
            return Ok(Self::Generated { preset: preset.ok_or_else(unknown)?, split: Split::Test });
        }
        let mut names: Vec<String> = config.iter().map(|config| format!("{path}:{config}")).collect();
        names.push(path.to_owned());
        if let Some(split) = split {
            names.iter_mut().for_each(|name| *name += &format!(":{split}"));
        }
        let named = names.iter().find_map(|name| roots.named.get(name));
        if let Some(file) = named {
            return Ok(Self::File { path: folder.join(file) });
        }
        let copy =
            TASK_COPIES.iter().find(|(hub, of, own, _)| *hub == path && *of == config && *own == split);
        match copy.and_then(|(.., file)| roots.copy(&[file])) {
            Some(path) => Ok(Self::File { path }),
            None => Err(DataError::NotLocal { name: name() }),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_wins_over_a_local_copy_and_a_missing_one_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let none = DataRoots::default();
        let error = DataSource::training("alpaca", folder.path(), &none).unwrap_err();
        assert_eq!(error.to_string(), "the rows of 'tatsu-lab/alpaca' are not here");
        std::fs::write(folder.path().join("alpaca.jsonl"), "").unwrap();
        let local = DataRoots { local: Some(folder.path().to_owned()), named: BTreeMap::new() };
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
