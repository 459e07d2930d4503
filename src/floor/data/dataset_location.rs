//! Local locations of a published data set.

use std::path::{Path, PathBuf};

use crate::hub::{COMPLETE, Cache, RepositoryId};

/// Files of a flat local data folder and the published data they hold: path, configuration, split, file.
const COPIES: &[(&str, Option<&str>, &str, &str)] = &[
    ("EleutherAI/arithmetic", Some("arithmetic_2ds"), "validation", "arithmetic_two_digit_subtraction.jsonl"),
    (
        "EleutherAI/arithmetic",
        Some("arithmetic_4ds"),
        "validation",
        "arithmetic_four_digit_subtraction.jsonl",
    ),
    ("EleutherAI/arithmetic", Some("arithmetic_2da"), "validation", "arithmetic_two_digit_addition.jsonl"),
    ("nyu-mll/blimp", Some("causative"), "train", "blimp_causative.jsonl"),
    ("nyu-mll/blimp", Some("drop_argument"), "train", "blimp_drop_argument.jsonl"),
    ("truthfulqa/truthful_qa", Some("multiple_choice"), "validation", "truthfulqa_mc.jsonl"),
    ("cais/mmlu", Some("global_facts"), "test", "mmlu_global_facts_test.jsonl"),
    ("cais/mmlu", Some("global_facts"), "dev", "mmlu_global_facts_dev.jsonl"),
    ("cais/mmlu", Some("global_facts"), "validation", "mmlu_global_facts_val.jsonl"),
];

/// Supported formats, preferred ones first.
const ENDINGS: [&str; 4] = ["parquet", "jsonl", "json", "csv"];
/// A file of a data set repository, as in task files.
const FILE_OF_HUB: &str = "hf://datasets/";
/// Names in a flat folder of the files addressed by [`FILE_OF_HUB`], where they differ.
const FILE_COPIES: &[(&str, &str)] = &[
    ("EleutherAI/arithmetic/data/two_digit_subtraction.jsonl", "arithmetic_two_digit_subtraction.jsonl"),
    ("EleutherAI/arithmetic/data/four_digit_subtraction.jsonl", "arithmetic_four_digit_subtraction.jsonl"),
    ("EleutherAI/arithmetic/data/two_digit_addition.jsonl", "arithmetic_two_digit_addition.jsonl"),
];
/// The hub's revision with every data set converted to Parquet.
pub const PARQUET_REVISION: &str = "refs/convert/parquet";

/// A split of a published data set, or a file of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatasetLocation<'a> {
    /// The data set's name.
    pub path: &'a str,
    /// `hf://datasets/ORG/NAME/FILE`, if the split is a named file.
    pub file: Option<&'a str>,
    /// Its configuration.
    pub config: Option<&'a str>,
    /// The split.
    pub split: &'a str,
    /// Whether it is the scored split, which `[data_sets]` lists without the split.
    pub evaluated: bool,
}

impl<'a> DatasetLocation<'a> {
    /// The display name.
    pub fn name(&self) -> String {
        match self.config {
            Some(config) => format!("{} ({config})", self.path),
            None => self.path.to_owned(),
        }
    }

    /// Its possible names in `[data_sets]`, the most specific first.
    pub(super) fn names(&self) -> Vec<String> {
        let mut bases: Vec<String> =
            self.config.iter().map(|config| format!("{}:{config}", self.path)).collect();
        bases.push(self.path.to_owned());
        bases.extend(self.file.map(str::to_owned));
        let mut names: Vec<String> = bases.iter().map(|base| format!("{base}:{}", self.split)).collect();
        if self.evaluated {
            names.extend(bases);
        }
        names
    }

    /// Its files in a local data folder: a known copy, or `ORG/NAME/[CONFIGURATION/]SPLIT.jsonl` and similar.
    pub(super) fn in_folder(&self, root: &Path) -> Option<Vec<PathBuf>> {
        let known = COPIES
            .iter()
            .find(|(path, config, split, _)| {
                *path == self.path && *config == self.config && *split == self.split
            })
            .map(|(.., file)| *file);
        let address = self.file.and_then(|file| file.strip_prefix(FILE_OF_HUB));
        let of_file = FILE_COPIES.iter().find(|(of, _)| Some(*of) == address).map(|(_, file)| *file);
        let same = address.and_then(relative).map(|file| root.join(file));
        let copies = [known, of_file].into_iter().flatten().map(|file| root.join(file)).chain(same);
        let copy = copies.into_iter().find(|path| path.is_file()).map(|path| vec![path]);
        copy.or_else(|| self.split_in(&root.join(relative(self.path)?)))
    }

    /// Its files in the hub download cache.
    pub(super) fn in_cache(&self, cache: &Cache) -> Option<Vec<PathBuf>> {
        let (id, file) = self.repository()?;
        let folder = cache.find(&id)?;
        match file {
            Some(file) => {
                Some(folder.join(relative(&file)?)).filter(|path| path.is_file()).map(|path| vec![path])
            }
            // A split of several files counts only if all of them exist.
            None => self
                .split_in(&folder)
                .filter(|paths| paths.iter().all(|path| path.with_file_name(COMPLETE).is_file())),
        }
    }

    /// Its repository, and the file if it is one.
    pub fn repository(&self) -> Option<(RepositoryId, Option<String>)> {
        if let Some(file) = self.file {
            let mut parts = file.strip_prefix(FILE_OF_HUB)?.splitn(3, '/');
            let name = format!("{}/{}", parts.next()?, parts.next()?);
            return Some((RepositoryId::data_set(&name, "main")?, Some(parts.next()?.to_owned())));
        }
        // A file name is not a data set name.
        if ENDINGS.iter().any(|end| self.path.ends_with(&format!(".{end}"))) {
            return None;
        }
        Some((RepositoryId::data_set(self.path, PARQUET_REVISION)?, None))
    }

    /// The split's files in a data set's folder, or in its configuration's folder if it has one.
    fn split_in(&self, folder: &Path) -> Option<Vec<PathBuf>> {
        let config = match self.config {
            Some(config) => relative(config)?,
            None => only_folder(folder).unwrap_or_else(|| PathBuf::from("default")),
        };
        let folders =
            [folder.join(&config), folder.join(config).join("data"), folder.to_owned(), folder.join("data")];
        let split = relative(self.split)?;
        folders.iter().find_map(|folder| {
            let whole = ENDINGS.iter().map(|end| folder.join(&split).with_extension(end));
            let whole = whole.into_iter().find(|path| path.is_file()).map(|path| vec![path]);
            whole
                .or_else(|| parts(&folder.join(&split), ""))
                .or_else(|| parts(folder, &format!("{}-", self.split)))
        })
    }
}

/// The only subfolder of a folder.
fn only_folder(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut folders =
        entries.filter(|entry| entry.path().is_dir()).map(|entry| PathBuf::from(entry.file_name()));
    let only = folders.next()?;
    folders.next().is_none().then_some(only)
}

/// Parquet files of a folder with this name prefix, in order.
fn parts(folder: &Path, prefix: &str) -> Option<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(prefix) && name.ends_with(".parquet")
    });
    paths.sort();
    (!paths.is_empty()).then_some(paths)
}

/// A name as a path inside a folder, if it does not lead out of it.
fn relative(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(name);
    let stays = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (stays && !name.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'a>(path: &'a str, config: Option<&'a str>, split: &'a str) -> DatasetLocation<'a> {
        DatasetLocation { path, file: None, config, split, evaluated: true }
    }

    #[test]
    fn a_split_is_one_file_or_several_in_a_folder_of_its_configuration() {
        let root = tempfile::tempdir().unwrap();
        let put = |file: &str| {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let file = put("org/set/easy/test.jsonl");
        assert_eq!(place("org/set", Some("easy"), "test").in_folder(root.path()), Some(vec![file]));
        let parts = vec![put("org/set/hard/test/0000.parquet"), put("org/set/hard/test/0001.parquet")];
        assert_eq!(place("org/set", Some("hard"), "test").in_folder(root.path()), Some(parts));
        let plain = put("org/plain/data/train-00000-of-00001.parquet");
        assert_eq!(place("org/plain", None, "train").in_folder(root.path()), Some(vec![plain]));
        assert_eq!(place("org/plain", None, "test").in_folder(root.path()), None);
        assert_eq!(place("../org", None, "test").in_folder(root.path()), None);
        let file = put("org/set/data/a.jsonl");
        let named = |file| DatasetLocation { file: Some(file), ..place("json", None, "test") };
        assert_eq!(named("hf://datasets/org/set/data/a.jsonl").in_folder(root.path()), Some(vec![file]));
        assert_eq!(named("hf://datasets/org/set/../../a").in_folder(root.path()), None);
    }

    #[test]
    fn the_exact_name_comes_first() {
        let names = place("a/b", Some("c"), "test").names();
        assert_eq!(names, ["a/b:c:test", "a/b:test", "a/b:c", "a/b"]);
    }
}
