//! A folder of task files, as lm_eval's own.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::TaskError;
use super::function::Modules;
use super::spec::{Field, Refusal, TaskSpec};
use super::synthetic::render;
use super::template::environment;
use super::yaml::Node;

/// What a folder's files are, each name once: the first file by path wins.
#[derive(Debug, Default)]
pub struct TaskFolder {
    tasks: BTreeMap<String, PathBuf>,
    groups: usize,
    classes: usize,
    modules: Modules,
}

/// What a check of every task found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Tasks.
    pub total: usize,
    /// Tasks whose file is understood to the last template, metric and filter.
    pub runnable: usize,
    /// Of these, those that generate text, which is not scored yet.
    pub need_generation: usize,
    /// Groups of tasks.
    pub groups: usize,
    /// Tasks that are Python classes; they are not counted in the total.
    pub classes: usize,
    /// Why the others are refused: the kind of thing, its name, how many tasks.
    pub refused: Vec<(String, String, usize)>,
}

impl TaskFolder {
    /// Reads the names in a folder and below it. A file that is not understood is left out, as lm_eval does. Error: the
    /// folder cannot be read.
    pub fn open(folder: &Path) -> Result<Self, TaskError> {
        let mut files = Vec::new();
        let io = |source| TaskError::Io { file: folder.display().to_string(), source };
        yaml_files(folder, &mut files).map_err(io)?;
        files.sort();
        let mut found = Self::default();
        for file in files {
            let Ok(node) = TaskSpec::load(&file, &read) else { continue };
            if node.get("class").is_some() {
                found.classes += 1;
            } else if node.get("group").is_some() || matches!(node.get("task"), Some(Node::List(_))) {
                found.groups += 1;
            } else if let Some(name) = node.get("task").and_then(Node::scalar) {
                found.tasks.entry(name).or_insert(file);
            }
        }
        Ok(found)
    }

    /// Names with their files, sorted.
    pub fn tasks(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.tasks.iter().map(|(name, path)| (name.as_str(), path.as_path()))
    }

    /// The file of a task.
    pub fn find(&self, name: &str) -> Option<&Path> {
        self.tasks.get(name).map(PathBuf::as_path)
    }

    /// Checks every task: its keys, functions, metrics and filters are known, and its templates are compiled and rendered.
    pub fn check(&self) -> Check {
        let environment = environment();
        let mut rendered: HashMap<(String, bool), Result<(), String>> = HashMap::new();
        let mut refused: BTreeMap<Refusal, usize> = BTreeMap::new();
        let (mut runnable, mut need_generation) = (0, 0);
        for path in self.tasks.values() {
            let checked = self.spec(path).and_then(|spec| {
                for (field, text, as_list) in spec.sources() {
                    let key = (text.to_owned(), as_list);
                    let known =
                        rendered.entry(key).or_insert_with(|| render(&environment, text, as_list).map(drop));
                    known.clone().map_err(|reason| ("template", format!("{field}: {reason}")))?;
                }
                Ok(spec)
            });
            match checked {
                Ok(spec) => {
                    runnable += 1;
                    need_generation += usize::from(spec.output_type == "generate_until");
                }
                Err(refusal) => *refused.entry(refusal).or_default() += 1,
            }
        }
        let mut refused: Vec<(String, String, usize)> =
            refused.into_iter().map(|((what, name), count)| (what.to_owned(), name, count)).collect();
        refused.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.cmp(b)));
        Check {
            total: self.tasks.len(),
            runnable,
            need_generation,
            groups: self.groups,
            classes: self.classes,
            refused,
        }
    }

    /// A checked task file. Error: what is not known in it.
    pub fn spec(&self, path: &Path) -> Result<TaskSpec, Refusal> {
        let node = TaskSpec::load(path, &read).map_err(|error| ("file", error.to_string()))?;
        TaskSpec::check(node, &self.modules)
    }
}

impl TaskSpec {
    /// The templates of the file: field, text, whether a list must come out.
    fn sources(&self) -> Vec<(&'static str, &str, bool)> {
        let fields = [
            ("doc_to_text", &self.doc_to_text),
            ("doc_to_target", &self.doc_to_target),
            ("doc_to_choice", &self.doc_to_choice),
        ];
        let own = fields.into_iter().filter_map(|(name, field)| match field {
            Some(Field::Text(text)) => Some((name, text.as_str())),
            _ => None,
        });
        let all = own.chain(self.templates.iter().map(|(name, text)| (*name, text.as_str())));
        // A text without marks is a column's name or stands for itself.
        all.filter(|(_, text)| text.contains("{{") || text.contains("{%"))
            .map(|(name, text)| (name, text, name == "doc_to_choice"))
            .collect()
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
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
