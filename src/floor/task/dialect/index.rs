//! Definitions in the files of a folder: tasks, groups and tags by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::task::dialect::function::Modules;
use crate::task::dialect::shipped::SHIPPED;
use crate::task::dialect::yaml::{Node, load};
use crate::task::error::TaskError;

/// Location of a definition.
#[derive(Debug, Clone)]
pub(in crate::task) struct TaskLocation {
    /// The file.
    pub(in crate::task) path: PathBuf,
    /// Whether it ships with loragrid.
    pub(in crate::task) shipped: bool,
    /// Its index in the file's `task_list`.
    entry: Option<usize>,
}

/// The definition of a name.
#[derive(Debug, Clone)]
pub(in crate::task) enum Entry {
    /// A task.
    Task(TaskLocation),
    /// A group of tasks.
    Group(TaskLocation),
    /// Tasks with the tag.
    Tag(BTreeSet<String>),
}

/// Names of tasks, groups and tags with their definitions.
#[derive(Debug, Default)]
pub struct TaskIndex {
    entries: BTreeMap<String, Entry>,
    /// Invalid files, with the error.
    broken: Vec<(PathBuf, TaskError)>,
    /// Names defined by several files of a folder: the file used, and the others.
    twice: BTreeMap<String, (PathBuf, Vec<PathBuf>)>,
    /// Tasks that are Python classes.
    pub(in crate::task) classes: usize,
    pub(in crate::task) modules: Modules,
}

impl TaskIndex {
    /// The definitions shipped with loragrid.
    pub fn shipped() -> Self {
        let mut found = Self::default();
        for (path, _) in SHIPPED {
            if path.ends_with(".yaml") {
                found.add(Path::new(path), true);
            }
        }
        found
    }

    /// The tasks, groups and tags in a folder and its subfolders. For equal names the first file by path wins; an
    /// invalid file is skipped, as in lm_eval. Error: the folder cannot be read.
    pub fn open(folder: &Path) -> Result<Self, TaskError> {
        let mut files = Vec::new();
        let io = |source| TaskError::Io { file: folder.display().to_string(), source };
        yaml_files(folder, &mut files).map_err(io)?;
        files.sort();
        let mut found = Self::default();
        files.iter().for_each(|file| found.add(file, false));
        Ok(found)
    }

    /// The shipped definitions, overridden by those of a folder. Error: as [`TaskIndex::open`].
    pub fn with_folder(folder: Option<&Path>) -> Result<Self, TaskError> {
        let mut all = Self::shipped();
        if let Some(folder) = folder {
            let index = Self::open(folder)?;
            all.entries.extend(index.entries);
            all.broken = index.broken;
            all.twice = index.twice;
        }
        Ok(all)
    }

    fn add(&mut self, path: &Path, shipped: bool) {
        let place = TaskLocation { path: path.to_owned(), shipped, entry: None };
        let node = match place.file() {
            Ok(node) => node,
            Err(error) => return self.broken.push((path.to_owned(), error)),
        };
        let name = |key: &str| node.get(key).and_then(Node::scalar);
        let tags = names(node.get("tag"));
        if node.get("class").is_some() {
            self.classes += 1;
        } else if let Some(group) = name("group") {
            self.note_twice(&group, &place);
            self.entries.entry(group).or_insert(Entry::Group(place));
        } else if let Some(Node::List(list)) = node.get("task_list") {
            for (number, entry) in list.iter().enumerate() {
                let Some(task) = entry.get("task").and_then(Node::scalar) else { continue };
                let entry_tags = entry.get("tag").map_or_else(|| tags.clone(), |tag| names(Some(tag)));
                self.task(task, TaskLocation { entry: Some(number), ..place.clone() }, entry_tags);
            }
        } else if let Some(task) = name("task") {
            self.task(task, place, tags);
        }
    }

    fn task(&mut self, name: String, place: TaskLocation, tags: Vec<String>) {
        self.note_twice(&name, &place);
        if self.entries.contains_key(&name) {
            return;
        }
        for tag in tags {
            let entry = self.entries.entry(tag).or_insert_with(|| Entry::Tag(BTreeSet::new()));
            if let Entry::Tag(tasks) = entry {
                tasks.insert(name.clone());
            }
        }
        self.entries.insert(name, Entry::Task(place));
    }

    /// Records a name that another file has already defined.
    fn note_twice(&mut self, name: &str, other: &TaskLocation) {
        let known = match self.entries.get(name) {
            Some(Entry::Task(place) | Entry::Group(place)) => place.path.clone(),
            Some(Entry::Tag(_)) | None => return,
        };
        let (_, others) = self.twice.entry(name.to_owned()).or_insert_with(|| (known, Vec::new()));
        others.push(other.path.clone());
    }

    /// Message listing the files that define a name, if there are several.
    pub fn twice(&self, name: &str) -> Option<String> {
        let (counts, others) = self.twice.get(name)?;
        let others: Vec<String> = others.iter().map(|path| path.display().to_string()).collect();
        Some(format!("{} defines it, and so does {}, which is not used", counts.display(), others.join(", ")))
    }

    /// The error of an invalid file that seems to define a name: by its file name, or by one of its lines.
    pub(in crate::task) fn broken(&self, name: &str) -> Option<TaskError> {
        let defines = |path: &Path| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            path.file_stem().is_some_and(|stem| stem == name)
                || ["task", "group"]
                    .iter()
                    .any(|key| text.lines().any(|line| line == format!("{key}: {name}")))
        };
        let (path, error) = self.broken.iter().find(|(path, _)| defines(path))?;
        let (file, reason) = (path.display().to_string(), error.to_string());
        let reason = reason.strip_prefix(&format!("{file}: ")).unwrap_or(&reason).to_owned();
        Some(TaskError::Malformed { file, reason })
    }

    pub(in crate::task) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub(in crate::task) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Every name with its kind: `task`, `group` or `tag`, and its file; sorted.
    pub fn names(&self) -> impl Iterator<Item = (&str, &'static str, String)> {
        self.entries().map(|(name, entry)| match entry {
            Entry::Task(place) => (name, "task", place.name()),
            Entry::Group(place) => (name, "group", place.name()),
            Entry::Tag(tasks) => (name, "tag", format!("{} tasks", tasks.len())),
        })
    }

    /// The names that match a pattern with `*`, `?` or `[…]`, or the name itself.
    pub fn matching(&self, pattern: &str) -> Vec<String> {
        let Some(glob) = glob(pattern) else { return vec![pattern.to_owned()] };
        self.entries.keys().filter(|name| glob.is_match(name)).cloned().collect()
    }
}

impl TaskLocation {
    /// A file by its path.
    pub(in crate::task) fn of_file(path: &Path) -> Self {
        Self { path: path.to_owned(), shipped: false, entry: None }
    }

    /// Its name in errors.
    pub(in crate::task) fn name(&self) -> String {
        if self.shipped {
            let stem = self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            return format!("the built-in task file {stem}");
        }
        self.path.display().to_string()
    }

    fn file(&self) -> Result<Node, TaskError> {
        if self.shipped {
            load(&self.path, &shipped_text)
        } else {
            load(&self.path, &|path: &Path| std::fs::read_to_string(path))
        }
    }

    /// The definition's complete map. Errors: unreadable, not YAML.
    pub(in crate::task) fn node(&self) -> Result<Node, TaskError> {
        let node = self.file()?;
        let Some(number) = self.entry else { return Ok(node) };
        let entry = match node.get("task_list") {
            Some(Node::List(list)) => list.get(number).cloned(),
            _ => None,
        };
        Ok(node.without("task_list").merged(&entry.unwrap_or(Node::Map(Vec::new()))))
    }
}

fn shipped_text(path: &Path) -> std::io::Result<String> {
    let found = SHIPPED.iter().find(|(known, _)| Path::new(known) == path);
    found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// A string or a list of strings.
fn names(node: Option<&Node>) -> Vec<String> {
    match node {
        Some(Node::List(items)) => items.iter().filter_map(Node::scalar).collect(),
        Some(item) => item.scalar().into_iter().collect(),
        None => Vec::new(),
    }
}

/// A shell pattern as a regular expression; none for a plain name.
fn glob(pattern: &str) -> Option<regex::Regex> {
    if !pattern.contains(['*', '?', '[']) {
        return None;
    }
    let escaped = regex::escape(pattern);
    let opened = escaped.replace(r"\*", ".*").replace(r"\?", ".").replace(r"\[", "[").replace(r"\]", "]");
    regex::Regex::new(&format!("^{}$", opened.replace("[!", "[^").replace(r"\-", "-"))).ok()
}

fn yaml_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            let ignored =
                path.file_name().is_some_and(|name| name == "__pycache__" || name == ".ipynb_checkpoints");
            if !ignored {
                yaml_files(&path, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "yaml") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_finds_names_and_a_name_is_itself() {
        let index = TaskIndex::shipped();
        assert_eq!(index.matching("arithmetic_2d?"), ["arithmetic_2da", "arithmetic_2dm", "arithmetic_2ds"]);
        assert_eq!(index.matching("arithmetic_2d[!as]"), ["arithmetic_2dm"]);
        assert_eq!(index.matching("nothing"), ["nothing"]);
        assert!(index.matching("nothing*").is_empty());
    }

    #[test]
    fn a_list_of_tasks_shares_its_files_keys() {
        let folder = tempfile::tempdir().unwrap();
        let text = "output_type: loglikelihood\ntag: both\ntask_list:\n  - {task: one, dataset_name: a}\n  - {task: two, output_type: multiple_choice, tag: other}\n";
        std::fs::write(folder.path().join("list.yaml"), text).unwrap();
        let index = TaskIndex::open(folder.path()).unwrap();
        let Some(Entry::Task(place)) = index.get("two") else { panic!("no task") };
        let node = place.node().unwrap();
        assert_eq!(node.get("output_type").and_then(Node::text), Some("multiple_choice"));
        assert!(node.get("task_list").is_none());
        let Some(Entry::Tag(tasks)) = index.get("both") else { panic!("no tag") };
        assert_eq!(tasks.iter().collect::<Vec<_>>(), ["one"]);
    }
}
